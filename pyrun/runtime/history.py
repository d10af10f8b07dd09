"""What is known of the life of a Pod, as one line of moments in time.

Records know the last two attempts of a container with all that is known of them; events know more, and outlive
the Pod. Where both tell of the same moment the record is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pyrun.lifecycle.observation import Attempt, ContainerObservation, Ended, PodObservation
from pyrun.lifecycle.oom import oom_words
from pyrun.runtime.clock import parse_rfc3339
from pyrun.spec.event import Event, EventType
from pyrun.spec.oom import OomReport
from pyrun.spec.pod import Pod
from pyrun.spec.status import ContainerStatus, PodStatus
from pyrun.state.events import Reason

SAME_MOMENT = 2.0
"""Seconds by which an event of something may be later than its record."""

POD_MADE = "PodMade"
"""The kind of the moment at which a Pod was made."""

_RECORDED = {
    Reason.CREATED: Reason.STARTED,
    Reason.STARTED: Reason.STARTED,
    Reason.EXITED: Reason.EXITED,
    Reason.OOM_KILLING: Reason.EXITED,
    Reason.MONITOR_LOST: Reason.EXITED,
}
"""Events that a record tells of too, by the moment of the record."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a Pod; `pod`, `status` and `observed` are None when it is gone.

    One that was applied and is not on this host has a `status`, which the store keeps.

    `name` is as it is typed (`web`, `space/web`); `supervised` whether a supervisor runs; `now` seconds since
    1970, `now_ns` CLOCK_MONOTONIC.
    """

    name: str
    pod: Pod | None = None
    status: PodStatus | None = None
    observed: PodObservation | None = None
    events: tuple[Event, ...] = ()
    supervised: bool = True
    now: float = 0.0
    now_ns: int = 0

    def container_status(self, name: str) -> ContainerStatus | None:
        """The status of a container, an init container too."""
        if self.status is not None:
            for status in (*self.status.init_container_statuses, *self.status.container_statuses):
                if status.name == name:
                    return status
        return None

    def last_event(self, container: str, *reasons: str) -> Event | None:
        """The last event of a container (empty: of the Pod as a whole) with one of these reasons."""
        for event in reversed(self.events):
            if event.about.container == container and event.reason in reasons:
                return event
        return None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `at` is seconds since 1970, `container` empty for the whole Pod.

    `count` is how often it happened in the same words without anything else in between, first at `first`.
    """

    at: float
    what: str
    kind: str = ""
    container: str = ""
    warning: bool = False
    count: int = 1
    first: float = 0.0


def time_line(history: History) -> tuple[Moment, ...]:
    """Return what happened, in the order of time; the same in a row is one moment."""
    recorded = tuple(_recorded(history))
    told = tuple(
        moment for event in history.events if not _is_recorded(moment := _moment_of(event), recorded)
    )
    line: list[Moment] = []
    for moment in sorted((*recorded, *told), key=lambda moment: moment.at):
        before = line[-1] if line else None
        same = before is not None and (before.container, before.what) == (moment.container, moment.what)
        if before is not None and same:
            line[-1] = msgspec.structs.replace(before, at=moment.at, count=before.count + 1)
        else:
            line.append(msgspec.structs.replace(moment, first=moment.at))
    return tuple(line)


def _moment_of(event: Event) -> Moment:
    return Moment(
        at=seconds(event.time) or 0.0,
        what=f"{event.reason}: {event.message}",
        kind=event.reason,
        container=event.about.container,
        warning=event.type is EventType.WARNING,
    )


def _is_recorded(event: Moment, recorded: tuple[Moment, ...]) -> bool:
    if event.kind == Reason.CREATED and not event.container:
        return any(moment.kind == POD_MADE for moment in recorded)
    kind = next((kind for reason, kind in _RECORDED.items() if reason == event.kind), None)
    return kind is not None and any(
        moment.kind == kind
        and moment.container == event.container
        and -SAME_MOMENT <= moment.at - event.at <= SAME_MOMENT
        for moment in recorded
    )


def _recorded(history: History) -> Iterator[Moment]:
    observed = history.observed
    if observed is None:
        return
    if (at := seconds(observed.created_at)) is not None:
        yield Moment(at=at, what="the Pod was made", kind=POD_MADE)
    if observed.stop is not None and (at := seconds(observed.stop.asked_at)) is not None:
        stop = observed.stop
        yield Moment(
            at=at, what=f"its end was asked for, in {stop.grace_seconds} s: {_why(stop.reason, stop.message)}"
        )
    for container in observed.containers:
        yield from _of_container(container)


def _of_container(container: ContainerObservation) -> Iterator[Moment]:
    for attempt in (container.previous, container.latest):
        if attempt is not None:
            yield from _of_attempt(container.name, attempt)
    failure = container.failure
    if failure is not None and (at := seconds(failure.at)) is not None:
        times = f" ({failure.count} times in a row)" if failure.count > 1 else ""
        what = f"could not be started: {_why(failure.reason, failure.message)}{times}"
        yield Moment(at=at, what=what, container=container.name, warning=True)


def _of_attempt(name: str, attempt: Attempt) -> Iterator[Moment]:
    number = f" (attempt {attempt.attempt})"
    if (at := seconds(attempt.started_at)) is not None:
        yield Moment(at=at, what=f"started{number}", kind=Reason.STARTED, container=name)
    stop = attempt.stop
    if stop is not None and (at := seconds(stop.asked_at)) is not None:
        what = f"is stopped, in {stop.grace_seconds} s: {_why(stop.reason, stop.message)}{number}"
        yield Moment(at=at, what=what, container=name)
    ended = attempt.ended
    if ended is not None and (at := seconds(ended.finished_at)) is not None:
        ran = (ended.finished_ns - attempt.started_ns) / 1e9
        after = f" after {ran:.3g} s" if attempt.started_ns and ran >= 0 else ""
        yield Moment(
            at=at,
            what=f"{how_it_ended(attempt, ended, after)}{number}",
            kind=Reason.EXITED,
            container=name,
            warning=ended.exit_code != 0,
        )


def how_it_ended(attempt: Attempt, ended: Ended, after: str = "") -> str:
    """Return the end of an attempt in words, with its evidence: `ended with exit code 1`; `after` how long it ran."""
    if ended.lost:
        return f"ended{after}, and its monitor with it, so that nobody knows how"
    if ended.oom_kills:
        return f"ended with exit code {ended.exit_code}{after}; {kills_of(attempt)}"
    if ended.signal:
        return f"was ended by signal {signal_name(ended.signal)}{after}"
    return f"ended with exit code {ended.exit_code}{after}"


def kills_of(attempt: Attempt) -> str:
    """Return in words what the kernel did in an attempt for want of memory."""
    return oom_words(attempt.oom or OomReport(kills=attempt.oom_kills))


def signal_name(number: int) -> str:
    """Return `SIGTERM` for 15; the number for one without a name."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def seconds(time: str) -> float | None:
    """Return an RFC 3339 time in seconds since 1970, None for what is none."""
    try:
        return parse_rfc3339(time) if time else None
    except ValueError:
        return None


def _why(reason: str, message: str) -> str:
    return f"{reason}: {message}" if message else reason
