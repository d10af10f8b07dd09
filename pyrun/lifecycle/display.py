"""The one word about a Pod that a person looks for, formed as kubectl does it (pkg/printers)."""

from __future__ import annotations

from pyrun.lifecycle.eviction import EVICTED
from pyrun.spec.status import ContainerStatus, Phase, PodStatus, Terminated


def display_status(status: PodStatus, terminating: bool) -> str:
    """Return the word in the column STATUS: Init:0/2, CrashLoopBackOff, Terminating, Completed, Running, ..."""
    if terminating and status.phase not in (Phase.SUCCEEDED, Phase.FAILED):
        return "Terminating"
    initializing = _initializing(status.init_container_statuses)
    if initializing and not _holds(status, "Initialized"):
        return initializing
    word = status.reason or str(status.phase.value)
    if status.reason == EVICTED:
        return word
    if status.phase is Phase.FAILED:
        return _failed(status.container_statuses) or word
    running = False
    for container in reversed(status.container_statuses):
        if container.state.waiting is not None and container.state.waiting.reason:
            word = container.state.waiting.reason
        elif container.state.terminated is not None:
            word = _end(container.state.terminated)
        elif container.ready:
            running = True
    if word == "Completed" and running:
        return "Running" if _holds(status, "Ready") else "NotReady"
    return word


def _failed(statuses: tuple[ContainerStatus, ...]) -> str:
    """How the first container that failed has ended; kubectl shows the first of all, failed or not."""
    ends = [container.state.terminated for container in statuses]
    return next((_end(ended) for ended in ends if ended is not None and ended.exit_code != 0), "")


def _initializing(statuses: tuple[ContainerStatus, ...]) -> str:
    """How far the init containers are; empty when all are through."""
    for index, container in enumerate(statuses):
        waiting, ended = container.state.waiting, container.state.terminated
        if container.started or (ended is not None and ended.exit_code == 0):
            continue
        if ended is not None:
            return f"Init:{_end(ended)}"
        if waiting is not None and waiting.reason not in ("", "PodInitializing"):
            return f"Init:{waiting.reason}"
        return f"Init:{index}/{len(statuses)}"
    return ""


def _end(ended: Terminated) -> str:
    if ended.reason:
        return ended.reason
    return f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exit_code}"


def _holds(status: PodStatus, kind: str) -> bool:
    return any(condition.type == kind and condition.status == "True" for condition in status.conditions)
