"""Removing a Pod: undoing its journals, containers first, and then being sure that its processes are gone."""

from __future__ import annotations

import contextlib
import os
import time

from pyrun.errors import Conflict, NotFound, PyrunError, StateError
from pyrun.kernel.proc import ProcessIdentity, has_ended
from pyrun.rootfs.directories import remove_tree
from pyrun.runtime.collect import collect_orphans
from pyrun.runtime.pods import LOCK_TIMEOUT, PodDirectory, forget_lock, half_made, pod_lock
from pyrun.runtime.status import running_containers
from pyrun.runtime.stop import request_stop
from pyrun.spec.layout import Layout
from pyrun.state import transaction
from pyrun.state.locks import acquire

END_TIMEOUT = 5.0
"""Seconds for the processes of a Pod to end after their cgroups are empty."""


def remove_pod(pod: PodDirectory, *, force: bool = False) -> None:
    """Remove a Pod with all it has. Raises Conflict when containers run and `force` is not set.

    With `force` everything is killed at once; if it is being stopped, whoever does that is told to, and if
    somebody else removes it meanwhile, that is as good.
    """
    if not force:
        with pod_lock(pod, LOCK_TIMEOUT):
            refuse_running(pod)
            remove_locked(pod)
        return
    with contextlib.suppress(NotFound):
        # Half made, damaged or on a full disk: it is removed all the same.
        with contextlib.suppress(StateError):
            request_stop(pod, 0, "Killing", "removed by a command", remove=True)
        with pod_lock(pod, LOCK_TIMEOUT):
            remove_locked(pod)


def refuse_running(pod: PodDirectory) -> None:
    """Raise Conflict when containers of a Pod run."""
    running = running_containers(pod)
    if running:
        raise Conflict(
            f"Pod {_name(pod)} has running containers: {', '.join(running)}",
            hint=f"stop it first (pyrun pod stop {_name(pod)}), or kill and remove it with -f",
        )


def remove_locked(pod: PodDirectory) -> None:
    """Remove a Pod whose lock the caller holds: undo its journals in reverse, then delete its records."""
    processes = _processes(pod)
    pidfds = [fd for process in processes if (fd := process.open()) is not None]
    try:
        for key in reversed(pod.attempts()):
            transaction.undo(pod.container_journal(key))
        transaction.undo(pod.sandbox_journal())
        transaction.undo(pod.pod_journal())
        late = _still_there(pidfds)
    finally:
        for fd in pidfds:
            os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(
            pod.complete_path
        )  # first of the records: what is being removed is not taken for a damaged Pod
    remove_tree(pod.path)
    forget_lock(pod)
    if late:
        raise PyrunError(
            f"the Pod is removed, but {late} of its processes had left their cgroup and not ended "
            f"{END_TIMEOUT:g} s later",
            hint="the host's PID 1 does not reap orphans, and PID 1 of a shared PID namespace waits for that; "
            "pyrun check says more",
        )


def _processes(pod: PodDirectory) -> list[ProcessIdentity]:
    """Return the recorded processes; a record that cannot be read does not keep a Pod from being removed."""
    found = []
    with contextlib.suppress(StateError):
        sandbox = pod.sandbox()
        if sandbox is not None:
            found.append(sandbox.pause)
    for key in pod.attempts():
        with contextlib.suppress(StateError):
            container = pod.container(key)
            if container is not None:
                found += [container.init, container.monitor]
    return found


def _still_there(pidfds: list[int]) -> int:
    """Wait for the last moments of processes whose cgroups are empty already; return how many stay.

    A PID namespace's first process leaves its cgroup before it has waited for everyone else in the namespace,
    and an init whose monitor was killed waits to be reaped by the host's PID 1.
    """
    deadline = time.monotonic() + END_TIMEOUT
    return sum(not has_ended(pidfd, max(deadline - time.monotonic(), 0)) for pidfd in pidfds)


def _name(pod: PodDirectory) -> str:
    record = pod.record()
    return record.pod.metadata.name if record is not None else pod.uid


def recover_one(pod: PodDirectory) -> None:
    """Undo a Pod that a crash left half made; one that is whole, or that somebody works on, is left alone."""
    fd = acquire(pod.lock_path, 0)
    if fd is None:
        return
    try:
        if not pod.complete:
            remove_locked(pod)
    finally:
        os.close(fd)


def recover(layout: Layout) -> None:
    """Undo every Pod that a crash left half made, and collect files on disk that no record owns any more."""
    for pod in half_made(layout):
        remove_locked(pod)
    collect_orphans(layout)
