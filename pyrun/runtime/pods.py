"""Pods on this host: found by name or id, their locks, what is recorded of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from pyrun.errors import Conflict, InputError, NotFound, StateError
from pyrun.lifecycle.observation import StartFailure, Stop
from pyrun.plan.host import HostFacts
from pyrun.process.control import ExitRecord
from pyrun.spec.layout import Layout
from pyrun.spec.oom import OomReport
from pyrun.spec.pod import Pod
from pyrun.state.files import list_directory
from pyrun.state.journal import Journal
from pyrun.state.locks import acquire, locked
from pyrun.state.records import (
    ClosedRecord,
    ConditionsRecord,
    ContainerRecord,
    HookRecord,
    PodRecord,
    ProbeRecord,
    SandboxRecord,
    read_exit,
    read_record,
)

LOCK_TIMEOUT = 60.0
"""Seconds a command waits for another one on the same Pod."""

ContainerKey = tuple[str, int]
"""A container's name and the number of the attempt."""


class PodDirectory(msgspec.Struct, frozen=True):
    """The records of one Pod, found by its uid."""

    layout: Layout
    uid: str

    @property
    def path(self) -> str:
        """The directory itself."""
        return self.layout.pod_state(self.uid)

    @property
    def lock_path(self) -> str:
        """The file whose lock is held while something of the Pod is made or removed."""
        return f"{self.layout.locks}/{self.uid}"

    @property
    def complete_path(self) -> str:
        """A file that is there once the whole Pod has been made."""
        return f"{self.path}/complete"

    @property
    def complete(self) -> bool:
        """Whether the Pod was made whole; if not, and its lock is free, it is a leftover of a crash."""
        return os.path.exists(self.complete_path)

    def pod_journal(self) -> Journal:
        """The journal of what outlives a sandbox: the name, directories, volumes on disk."""
        return Journal(f"{self.path}/pod.journal")

    def sandbox_journal(self) -> Journal:
        """The journal of the sandbox."""
        return Journal(f"{self.path}/journal")

    def container_directory(self, key: ContainerKey) -> str:
        """The records of one attempt of a container."""
        return self.layout.container_state(self.uid, *key)

    def container_journal(self, key: ContainerKey) -> Journal:
        """The journal of one attempt of a container."""
        return Journal(f"{self.container_directory(key)}/journal")

    @property
    def sandbox_path(self) -> str:
        """The sandbox's record."""
        return f"{self.path}/sandbox.json"

    @property
    def stop_path(self) -> str:
        """The termination that was asked for."""
        return f"{self.path}/stop.json"

    def failure_path(self, name: str) -> str:
        """Why the next attempt of a container did not come."""
        return f"{self.path}/containers/{name}/failure.json"

    def record(self) -> PodRecord | None:
        """The Pod itself, None when its making has not got so far."""
        return read_record(f"{self.path}/pod.json", PodRecord)

    def sandbox(self) -> SandboxRecord | None:
        """The sandbox's record, None while it is being made."""
        return read_record(self.sandbox_path, SandboxRecord)

    def stop(self) -> Stop | None:
        """The termination of the Pod that was asked for."""
        return read_record(self.stop_path, Stop)

    def conditions(self) -> ConditionsRecord:
        """When the Pod's conditions changed last."""
        return read_record(f"{self.path}/conditions.json", ConditionsRecord) or ConditionsRecord()

    def container(self, key: ContainerKey) -> ContainerRecord | None:
        """The record of an attempt, None while it is being made."""
        return read_record(f"{self.container_directory(key)}/container.json", ContainerRecord)

    def probes(self, key: ContainerKey) -> ProbeRecord | None:
        """What the probes of an attempt have found, None while they have found nothing."""
        return read_record(f"{self.container_directory(key)}/probes.json", ProbeRecord)

    def post_start(self, key: ContainerKey) -> HookRecord | None:
        """How far the postStart hook of an attempt is, None while it has not begun."""
        return read_record(f"{self.container_directory(key)}/post_start.json", HookRecord)

    def container_stop(self, key: ContainerKey) -> Stop | None:
        """The stop of an attempt that was asked for."""
        return read_record(f"{self.container_directory(key)}/stop.json", Stop)

    def closed(self, key: ContainerKey) -> ClosedRecord | None:
        """What is kept of an attempt that was closed, None while it is open."""
        return read_record(f"{self.container_directory(key)}/closed.json", ClosedRecord)

    def oom_path(self, key: ContainerKey) -> str:
        """Who was killed in an attempt for want of memory."""
        return f"{self.container_directory(key)}/oom.json"

    def oom(self, key: ContainerKey) -> OomReport | None:
        """Who was killed in an attempt for want of memory, None when nobody has looked."""
        return read_record(self.oom_path(key), OomReport)

    def failure(self, name: str) -> StartFailure | None:
        """Why the next attempt of a container did not come."""
        return read_record(self.failure_path(name), StartFailure)

    def exit(self, key: ContainerKey) -> ExitRecord | None:
        """The exit record of an attempt, None while it has none."""
        return read_exit(f"{self.container_directory(key)}/exit.json")

    def attempts(self) -> tuple[ContainerKey, ...]:
        """All attempts of all containers, by name and number."""
        base = f"{self.path}/containers"
        return tuple(
            (name, number)
            for name in list_directory(base)
            for number in sorted(
                int(entry) for entry in list_directory(f"{base}/{name}") if entry.isdecimal()
            )
        )

    def latest(self, name: str) -> ContainerKey | None:
        """The last attempt of a container that was made, None when there is none."""
        for key in reversed(self.attempts()):
            if key[0] == name and os.path.exists(f"{self.container_directory(key)}/container.json"):
                return key
        return None


def pod_directories(layout: Layout) -> tuple[PodDirectory, ...]:
    """Return all Pods there are records of, half-made ones too."""
    return tuple(PodDirectory(layout, uid) for uid in list_directory(layout.pods))


@contextmanager
def pod_lock(pod: PodDirectory, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold a Pod's lock. Raises NotFound when there is no such Pod (any more), Busy when it stays taken."""
    with _held(pod, timeout):
        if not os.path.isdir(pod.path):
            forget_lock(pod)
            raise NotFound(f"Pod {pod.uid} is gone", hint="another command has removed it")
        yield


@contextmanager
def new_pod(pod: PodDirectory) -> Iterator[None]:
    """Make the directory of a Pod's records and hold its lock.

    The lock comes first: a directory without `complete` whose lock is free is taken for a crash's leftover.
    """
    with _held(pod, LOCK_TIMEOUT):
        os.makedirs(pod.path, mode=0o700)
        yield


@contextmanager
def _held(pod: PodDirectory, timeout: float) -> Iterator[None]:
    os.makedirs(pod.layout.locks, mode=0o700, exist_ok=True)
    with locked(pod.lock_path, f"Pod {pod.uid}", timeout):
        yield


def is_locked(pod: PodDirectory) -> bool:
    """Whether somebody makes or removes something of a Pod right now; of one that is gone no lock file is left."""
    fd = acquire(pod.lock_path, 0)
    if fd is None:
        return True
    try:
        if not os.path.isdir(pod.path):
            forget_lock(pod)
    finally:
        os.close(fd)
    return False


def forget_lock(pod: PodDirectory) -> None:
    """Remove the lock file of a Pod that is gone; the caller holds it. Who waits for it makes sure of that."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pod.lock_path)


def half_made(layout: Layout) -> Iterator[PodDirectory]:
    """Yield each Pod that a crash left half made (or half removed), with its lock held meanwhile."""
    for uid in {*list_directory(layout.pods), *list_directory(layout.locks)}:
        pod = PodDirectory(layout, uid)
        if pod.complete:
            continue
        os.makedirs(layout.locks, mode=0o700, exist_ok=True)
        fd = acquire(pod.lock_path, 0)
        if fd is None:
            continue  # somebody is making it right now
        try:
            if not pod.complete:
                yield pod
        finally:
            os.close(fd)


def find(layout: Layout, reference: str, namespace: str | None = None) -> PodDirectory:
    """Return the Pod with this name, uid or unique beginning of a uid.

    Names come first; `namespace/name` or `namespace` choose among equal ones, `default` wins otherwise.
    Raises NotFound, or InputError when more than one Pod is meant.
    """
    space, _, name = reference.rpartition("/")
    claimed = _claims(layout, name, space or namespace or "")
    if len(claimed) == 1:
        return PodDirectory(layout, claimed[0])
    if len(claimed) > 1:
        raise InputError(
            f'"{reference}" is the name of {len(claimed)} Pods', hint="say which: NAMESPACE/NAME, or the id"
        )
    uids = [uid for uid in list_directory(layout.pods) if uid.startswith(reference)] if reference else []
    if len(uids) > 1:
        raise InputError(f'"{reference}" is the beginning of {len(uids)} ids', hint="give more of it")
    if not uids:
        raise NotFound(f'no Pod is named "{reference}" or has an id that begins so', hint="see pyrun pod ls")
    return PodDirectory(layout, uids[0])


def _claims(layout: Layout, name: str, namespace: str) -> list[str]:
    spaces = [namespace] if namespace else list_directory(f"{layout.state}/names")
    found: dict[str, str] = {}
    for space in spaces:
        try:
            with open(f"{layout.names(space)}/{name}", encoding="ascii") as file:
                found[space] = file.read()
        except OSError:
            continue
    if not namespace and "default" in found:
        return [found["default"]]
    return list(found.values())


def name_of(pod: PodDirectory) -> tuple[str, str]:
    """Return the namespace and the name that a Pod has claimed; its uid for a name when it has none."""
    for space in list_directory(f"{pod.layout.state}/names"):
        for name in list_directory(pod.layout.names(space)):
            if pod.uid in _claims(pod.layout, name, space):
                return space, name
    return "default", pod.uid


def require_sandbox(pod: PodDirectory) -> SandboxRecord:
    """Return the sandbox's record; StateError when the Pod is half made."""
    record = pod.sandbox()
    if record is None:
        raise _half_made(pod)
    return record


def require_record(pod: PodDirectory) -> PodRecord:
    """Return the Pod's own record; StateError when it is half made."""
    record = pod.record()
    if record is None:
        raise _half_made(pod)
    return record


def require_pod(pod: PodDirectory) -> Pod:
    """Return the Pod of these records; StateError when it is half made."""
    return require_record(pod).pod


def refuse_stopped(pod: PodDirectory) -> None:
    """Raise Conflict when the termination of a Pod was asked for: nothing of it is started any more."""
    if pod.stop() is not None:
        raise Conflict(
            f"Pod {require_pod(pod).metadata.name} is being stopped, or was",
            hint="remove it and create it again",
        )


def _half_made(pod: PodDirectory) -> StateError:
    return StateError(
        f"Pod {pod.uid} is being made, or was left half made",
        hint=f"wait, or remove it: pyrun pod rm -f {pod.uid[:8]}",
    )


class Host(msgspec.Struct, frozen=True):
    """Where the verbs work: the facts of the host, which hold the layout of the instance."""

    facts: HostFacts

    @property
    def layout(self) -> Layout:
        """The layout of the instance."""
        return self.facts.layout
