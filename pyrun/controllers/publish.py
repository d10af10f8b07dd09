"""What the supervisor tells of a Pod after each look: when its conditions changed, and events that nobody did."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pyrun.controllers.context import Context
from pyrun.controllers.oom import forget_older, tell_kills
from pyrun.lifecycle.observation import Attempt, PodObservation
from pyrun.lifecycle.status import pod_status, transitions
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.annotations import backoff_of
from pyrun.spec.pod import Pod
from pyrun.spec.status import PodStatus
from pyrun.state.clock import now
from pyrun.state.events import Reason, about_pod
from pyrun.state.records import ConditionsRecord, ConditionTime, write_record

READY = "Ready"


class Published(NamedTuple):
    """The status of a Pod, and since when it is ready or not (CLOCK_MONOTONIC ns)."""

    status: PodStatus
    ready_since_ns: int


def publish(context: Context, directory: PodDirectory, pod: Pod, observed: PodObservation) -> Published:
    """Return the Pod's status after recording what has changed since the last look, if anything has."""
    now_ns = context.loop.clock()
    status = pod_status(pod, observed, backoff_of(pod, context.backoff), now_ns)
    known = directory.conditions()
    times = _times(status, known, now_ns)
    told = dict(known.told)
    for container in observed.containers:
        for attempt in (container.previous, container.latest):
            if attempt is None:
                continue
            tell_kills(context, directory, pod, (container.name, attempt), told)
            if attempt.ended is not None:
                _tell_end(context, directory, pod, (container.name, attempt), told)
    for waiting in (*status.init_container_statuses, *status.container_statuses):
        state = waiting.state.waiting
        key = f"{waiting.name}/backoff"
        if (
            state is not None
            and state.reason == "CrashLoopBackOff"
            and told.get(key, -1) < waiting.restart_count
        ):
            told[key] = waiting.restart_count
            context.record(about_pod(directory.uid, pod, waiting.name), Reason.BACK_OFF, state.message)
    forget_older(told, observed)
    changed = ConditionsRecord(times=times, told=told)
    if changed != known:
        write_record(f"{directory.path}/conditions.json", changed)
    dated = tuple(
        msgspec.structs.replace(condition, last_transition_time=time.at)
        for condition, time in zip(status.conditions, times, strict=True)
    )
    since = next((time.at_ns for time in times if time.type == READY), 0)
    return Published(msgspec.structs.replace(status, conditions=dated), since)


def is_ready(status: PodStatus) -> bool:
    """Whether the condition Ready is True."""
    return any(condition.type == READY and condition.status == "True" for condition in status.conditions)


def _times(status: PodStatus, known: ConditionsRecord, now_ns: int) -> tuple[ConditionTime, ...]:
    before = tuple((time.type, time.status, time.at, time.at_ns) for time in known.times)
    return tuple(
        ConditionTime(type=kind, status=word, at=at, at_ns=at_ns)
        for kind, word, at, at_ns in transitions(status, before, now(), now_ns)
    )


def _tell_end(
    context: Context, directory: PodDirectory, pod: Pod, which: tuple[str, Attempt], told: dict[str, int]
) -> None:
    """Record the end of an attempt once, also one that ended while no supervisor ran."""
    name, attempt = which
    ended = attempt.ended
    if ended is None or told.get(name, -1) >= attempt.attempt:
        return
    told[name] = attempt.attempt
    about = about_pod(directory.uid, pod, name)
    if ended.lost:
        text = f"the monitor of container {name} was killed, and the exit status lost with it"
        context.record(about, Reason.MONITOR_LOST, text)
        return
    how = f"by signal {ended.signal}" if ended.signal else f"with exit code {ended.exit_code}"
    context.record(about, Reason.EXITED, f"Container {name} (attempt {attempt.attempt}) ended {how}")
