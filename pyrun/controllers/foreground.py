"""Bringing a Pod up without a supervisor: the command that makes it does what a supervisor would, until it is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pyrun.controllers.context import Context
from pyrun.controllers.headroom import Headroom
from pyrun.controllers.loop import Loop
from pyrun.controllers.pods import PodUnit
from pyrun.controllers.watches import Watches
from pyrun.controllers.workers import Workers
from pyrun.lifecycle.observation import HookState, PodObservation
from pyrun.plan.host import HostFacts
from pyrun.runtime.pods import ContainerKey, PodDirectory
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.status import Phase
from pyrun.state.events import EventLog


def bring_up(pod: PodDirectory, facts: HostFacts, report: Callable[[str], None]) -> None:
    """Run a Pod's init containers and hooks and start its containers; return when all have been started.

    Or when the Pod has come to its end, or was removed. After that nobody looks after it.
    """
    _look_after(pod, facts, report, _is_up)


def restart_resized(
    pod: PodDirectory, facts: HostFacts, restarting: Sequence[ContainerKey], report: Callable[[str], None]
) -> None:
    """Let attempts end that are to end for a resize, and start their containers again; return when that has been tried.

    Or when the Pod has come to its end, or was removed.
    """
    _look_after(pod, facts, report, lambda unit: _is_resized(unit, restarting))


def _look_after(
    pod: PodDirectory, facts: HostFacts, report: Callable[[str], None], until: Callable[[PodUnit], bool]
) -> None:
    loop = Loop()
    context = Context(
        loop=loop,
        workers=Workers(loop),
        watches=Watches(loop),
        facts=facts,
        headroom=Headroom(facts.capacity),
        recorder=EventLog(facts.layout.root),
        backoff=BackoffSettings(),
        started_ns=time.monotonic_ns(),
        report=report,
    )
    unit = PodUnit(context, pod, lambda _: None)
    try:
        unit.soon()
        while not (until(unit) and len(context.workers) == 0):
            loop.turn()
    finally:
        unit.close()
        context.watches.close()


def _is_up(unit: PodUnit) -> bool:
    observed, status = unit.observed, unit.status
    if unit.gone:
        return True
    if observed is None or status is None or unit.pod is None:
        return False
    if status.phase in (Phase.SUCCEEDED, Phase.FAILED):
        return True
    return all(_was_started(observed, container.name) for container in unit.pod.spec.containers)


def _is_resized(unit: PodUnit, restarting: Sequence[ContainerKey]) -> bool:
    observed, status = unit.observed, unit.status
    if unit.gone:
        return True
    if observed is None or status is None:
        return False
    if status.phase in (Phase.SUCCEEDED, Phase.FAILED):
        return True
    resizing = observed.resizing
    tried = resizing is None or bool(resizing.error)
    return tried and all(_was_restarted(observed, key) for key in restarting)


def _was_restarted(observed: PodObservation, key: ContainerKey) -> bool:
    seen = observed.container(key[0])
    if seen.failure is not None or seen.latest is None:
        return True
    return seen.latest.attempt > key[1] and seen.latest.post_start is not HookState.PENDING


def _was_started(observed: PodObservation, name: str) -> bool:
    latest = observed.container(name).latest
    return latest is not None and bool(latest.started_at) and latest.post_start is not HookState.PENDING
