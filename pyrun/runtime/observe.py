"""What is known of a Pod at this moment, composed from the kernel and the records.

Cheap: some small files and one pidfd for what runs; nothing is waited for but the last moments of processes
that have just been killed.
"""

from __future__ import annotations

import contextlib
import time

import msgspec

from pyrun.cgroups import files, group
from pyrun.errors import StateError
from pyrun.lifecycle.observation import (
    Attempt,
    AttemptState,
    ContainerObservation,
    Ended,
    HookState,
    PodObservation,
)
from pyrun.plan.resize import FILES as RESIZED
from pyrun.plan.sandbox import container_leaf
from pyrun.process.container import EXIT_RECORD
from pyrun.process.control import ExitRecord
from pyrun.runtime.clock import now
from pyrun.runtime.messages import message_limit, termination_message
from pyrun.runtime.pods import ContainerKey, PodDirectory, require_record, require_sandbox
from pyrun.spec.effective import container_limits
from pyrun.spec.linux import actual_resources
from pyrun.spec.pod import Container
from pyrun.state.records import ContainerRecord, PodRecord, SandboxRecord, write_record

MONITOR_LOST = 255
"""The exit code of a container whose monitor died, and its status with it."""

KILL_PATIENCE = 0.5
"""Seconds that an observation waits for what a lost monitor has left behind to be gone."""


class _Scene(msgspec.Struct, frozen=True):
    """What every container of one Pod is observed with."""

    pod: PodDirectory
    record: PodRecord
    sandbox: SandboxRecord

    def leaf(self, name: str) -> str:
        """The cgroup of a container."""
        return f"{self.sandbox.facts.cgroup}/{container_leaf(name)}"


def observe(pod: PodDirectory) -> PodObservation:
    """Return what is known of a Pod. Raises StateError when it is half made.

    A container whose monitor was killed is ended here: what it left is killed, and its end is recorded.
    """
    record, sandbox = require_record(pod), require_sandbox(pod)
    scene = _Scene(pod, record, sandbox)
    created = _created(pod)
    while True:
        containers = tuple(
            _container(scene, container, created.get(container.name, ()))
            for container in record.pod.spec.all_containers()
        )
        # While they were read another one may have been made, and the oldest pruned.
        before, created = created, _created(pod)
        if created == before:
            break
    return PodObservation(
        uid=record.uid,
        created_at=record.created_at,
        created_ns=record.created_ns,
        address=sandbox.address,
        sandbox_alive=sandbox.pause.alive(),
        sandbox_attempt=sandbox.attempt,
        initialized=sandbox.initialized,
        restarting=sandbox.restarting,
        sandbox_ns=sandbox.created_ns,
        restarted_ns=sandbox.restarted_ns,
        stop=pod.stop(),
        containers=containers,
        left_out=record.left_out,
        unreserved=record.unreserved,
        pending=record.pending,
        resizing=record.resizing,
        condition_times=tuple((t.type, t.status, t.at, t.at_ns) for t in pod.conditions().times),
    )


def _created(pod: PodDirectory) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the attempts of each container, the last first."""
    found: dict[str, tuple[int, ...]] = {}
    for name, number in pod.attempts():
        found[name] = (number, *found.get(name, ()))
    return found


def _container(scene: _Scene, container: Container, numbers: tuple[int, ...]) -> ContainerObservation:
    seen = []
    for number in numbers:
        attempt = _attempt(scene, container, (container.name, number))
        if attempt is not None:
            seen.append(attempt)
        if len(seen) == 2:
            break
    latest, previous, *_ = (*seen, None, None)
    failure = scene.pod.failure(container.name)
    return ContainerObservation(name=container.name, latest=latest, previous=previous, failure=failure)


def _attempt(scene: _Scene, container: Container, key: ContainerKey) -> Attempt | None:
    """Return an attempt, None when a crash has left it half made."""
    pod = scene.pod
    record = pod.container(key)
    if record is None:
        return None
    ended = _ended(scene, container, key, record)
    attempt = Attempt(
        attempt=record.attempt,
        state=_state(record, ended),
        created_at=record.created_at,
        started_at=record.started_at,
        started_ns=record.started_ns,
        crashes=record.crashes,
        ended=ended,
        stop=pod.container_stop(key),
        image_id=record.config.image_id,
    )
    attempt = _with_hook(pod, container, key, attempt)
    attempt = _with_kills(scene, key, attempt)
    if attempt.state is not AttemptState.RUNNING:
        return attempt
    leaf = scene.leaf(container.name)
    effective = container_limits(scene.record.pod.spec, container)
    attempt = msgspec.structs.replace(
        attempt,
        paused=group.is_frozen(leaf),
        resources=actual_resources(record.applied, effective, files.texts(leaf, RESIZED)),
    )
    return _with_probes(pod, container, key, attempt)


def _state(record: ContainerRecord, ended: Ended | None) -> AttemptState:
    if ended is not None:
        return AttemptState.STOPPED
    return AttemptState.RUNNING if record.started_at else AttemptState.CREATED


def _with_hook(pod: PodDirectory, container: Container, key: ContainerKey, attempt: Attempt) -> Attempt:
    if container.lifecycle.post_start is None:
        return attempt
    hook = pod.post_start(key)
    state, message = (HookState.PENDING, "") if hook is None else (hook.state, hook.message)
    return msgspec.structs.replace(attempt, post_start=state, post_start_message=message)


def _with_kills(scene: _Scene, key: ContainerKey, attempt: Attempt) -> Attempt:
    """Return an attempt with the processes that were killed for want of memory."""
    ended = attempt.ended
    kills = ended.oom_kills if ended is not None else group.oom_kills(scene.leaf(key[0]))
    return msgspec.structs.replace(attempt, oom_kills=kills, oom=scene.pod.oom(key)) if kills else attempt


def _with_probes(pod: PodDirectory, container: Container, key: ContainerKey, attempt: Attempt) -> Attempt:
    """Return a running attempt with the verdicts of its probes; who has no such probe passes it."""
    if attempt.post_start not in (HookState.ABSENT, HookState.DONE):
        return attempt
    record = pod.probes(key)
    started = container.startup_probe is None or (record is not None and record.started)
    ready = container.readiness_probe is None or (record is not None and record.ready)
    attempt = msgspec.structs.replace(attempt, started=started, ready=started and ready)
    if record is None:
        return attempt
    return msgspec.structs.replace(
        attempt, unhealthy=record.unhealthy, unhealthy_message=record.unhealthy_message
    )


def _ended(scene: _Scene, container: Container, key: ContainerKey, record: ContainerRecord) -> Ended | None:
    pod, leaf = scene.pod, scene.leaf(container.name)
    closed = pod.closed(key)
    end = end_of(pod, key, record, leaf)
    if end is None or (closed is None and group.is_populated(leaf)):
        return None  # in a shared PID namespace it is over when the last of its processes is
    if closed is None:
        oom_kills = group.oom_kills(leaf)
        limit = message_limit(scene.record.pod.spec)
        message = termination_message(pod, key, container, end.exit_code, limit)
    else:
        oom_kills, message = closed.oom_kills, closed.message
    return Ended(
        exit_code=end.exit_code,
        signal=end.signal,
        finished_at=end.finished_at,
        finished_ns=end.finished_ns,
        oom_kills=oom_kills,
        lost=end.lost,
        message=message,
    )


def end_of(pod: PodDirectory, key: ContainerKey, record: ContainerRecord, leaf: str) -> ExitRecord | None:
    """Return how an attempt has ended, None while its main process or its monitor lives.

    For one whose monitor was killed the record is written here, with the time at which that was noticed.
    """
    # The monitor writes the exit record before it ends, so the record is looked for after its end too.
    end = pod.exit(key)
    if end is not None or record.monitor.alive():
        return end
    end = pod.exit(key)
    if end is not None or pod.container(key) is None or pod.closed(key) is not None:
        return end  # in the last two cases it was closed or removed since it was looked at: the leaf is another's
    # Its main process died with the monitor; what that has left behind nobody else would end.
    group.kill(leaf)
    group.wait_until_empty(leaf, KILL_PATIENCE)
    end = ExitRecord(MONITOR_LOST, 0, now(), 0, time.monotonic_ns(), lost=True)
    with contextlib.suppress(StateError):  # the Pod has just been removed, or its disk is full
        write_record(f"{pod.container_directory(key)}/{EXIT_RECORD}", end)
    return end
