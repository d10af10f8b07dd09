"""Bringing a Pod up without a supervisor: the command that makes it does what a supervisor would, until it is up."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyrun.controllers.context import Context
from pyrun.controllers.headroom import Headroom
from pyrun.controllers.loop import Loop
from pyrun.controllers.pods import PodUnit
from pyrun.controllers.watches import Watches
from pyrun.controllers.workers import Workers
from pyrun.lifecycle.observation import HookState, PodObservation
from pyrun.plan.host import HostFacts
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.status import Phase
from pyrun.state.events import EventLog


def bring_up(pod: PodDirectory, facts: HostFacts, report: Callable[[str], None]) -> None:
    """Run a Pod's init containers and hooks and start its containers; return when all have been started.

    Or when the Pod has come to its end, or was removed. After that nobody looks after it.
    """
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
        while not (_is_up(unit) and len(context.workers) == 0):
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


def _was_started(observed: PodObservation, name: str) -> bool:
    latest = observed.container(name).latest
    return latest is not None and bool(latest.started_at) and latest.post_start is not HookState.PENDING
