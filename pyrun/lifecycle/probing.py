"""The prober of one container's attempt, as values: when a check is due, and what its result means.

Source: Kubernetes "Configure Probes" and, where the documentation says otherwise, what the kubelet does
(pkg/kubelet/prober/worker.go): initialDelaySeconds counts from the start of the container also for the probes
that wait for the startup probe.
"""

from __future__ import annotations

import enum

import msgspec

from pyrun.lifecycle.course import settled
from pyrun.lifecycle.observation import Attempt, AttemptState, HookState
from pyrun.spec.pod import Container
from pyrun.spec.probe import Probe, ProbeKind
from pyrun.spec.value import Value

_SECOND = 10**9
_SOONEST_NS = 100_000_000

UNHEALTHY = "Unhealthy"
"""The reason of the event of a failed check."""


class Outcome(enum.Enum):
    """What a check found. UNKNOWN: it could not be made, and says nothing about the container."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


_FIRST = {
    ProbeKind.STARTUP: Outcome.UNKNOWN,
    ProbeKind.READINESS: Outcome.FAILURE,
    ProbeKind.LIVENESS: Outcome.SUCCESS,
}


class ProbeState(Value, frozen=True, kw_only=True):
    """A probe of one attempt. A new attempt begins with a new state.

    `verdict` is what holds, `last` the result before and `run` how often it came in a row, `message` what the last
    failure said. `due_ns` is when the next check is due (CLOCK_MONOTONIC). `held`: no more checks of this attempt,
    as it was given up, or has started.
    """

    kind: ProbeKind
    probe: Probe
    verdict: Outcome
    due_ns: int
    started_ns: int
    last: Outcome = Outcome.UNKNOWN
    run: int = 0
    message: str = ""
    held: bool = False


class ProbeStep(Value, frozen=True, kw_only=True):
    """What a result leads to: the state after it and, unless empty, the message of an event Unhealthy."""

    state: ProbeState
    event: str = ""


class Verdicts(Value, frozen=True, kw_only=True):
    """What the probes say of an attempt; `unhealthy` is the kind of the probe that has given it up."""

    started: bool = False
    ready: bool = False
    unhealthy: str = ""
    unhealthy_message: str = ""


def probe_of(container: Container, kind: ProbeKind) -> Probe | None:
    """The probe of a kind that a container has."""
    if kind is ProbeKind.STARTUP:
        return container.startup_probe
    return container.liveness_probe if kind is ProbeKind.LIVENESS else container.readiness_probe


def first_due(probe: Probe, attempt: Attempt, now: int, jitter_ns: int) -> int:
    """When the first check is due: at once, but not before initialDelaySeconds after the container's start.

    `jitter_ns` spreads the checks of a supervisor that has just started itself; it is kept inside one period, and
    0 in all other cases.
    """
    spread = min(max(jitter_ns, 0), probe.period_seconds * _SECOND)
    return max(attempt.started_ns + probe.initial_delay_seconds * _SECOND, now + spread)


def begin(container: Container, attempt: Attempt, now: int, jitter_ns: int) -> tuple[ProbeState, ...]:
    """The states of the probes of an attempt that runs; they go on from the verdicts that are recorded of it."""
    states = []
    for kind in ProbeKind:
        probe = probe_of(container, kind)
        if probe is None:
            continue
        verdict = _FIRST[kind]
        if (kind is ProbeKind.STARTUP and attempt.started) or (kind is ProbeKind.READINESS and attempt.ready):
            verdict = Outcome.SUCCESS
        if attempt.unhealthy == kind.value:
            verdict = Outcome.FAILURE
        states.append(
            ProbeState(
                kind=kind,
                probe=probe,
                verdict=verdict,
                due_ns=first_due(probe, attempt, now, jitter_ns),
                started_ns=attempt.started_ns,
                message=attempt.unhealthy_message if attempt.unhealthy == kind.value else "",
                held=_holds(kind, verdict),
            )
        )
    return tuple(states)


def _holds(kind: ProbeKind, verdict: Outcome) -> bool:
    """Whether a verdict is the last one: the container is killed for it or, by the startup probe, has started."""
    if kind is ProbeKind.STARTUP:
        return verdict is not Outcome.UNKNOWN
    return kind is ProbeKind.LIVENESS and verdict is Outcome.FAILURE


def due(state: ProbeState, container: Container, attempt: Attempt, terminating: bool) -> int | None:
    """When the next check is due, None while none is wanted.

    None is made before the container runs and its postStart is done, while it is paused, and, but for the startup
    probe, until it has started. When it is being terminated (its Pod is, or it is stopped) only readiness goes on.
    """
    attempt = settled(container, attempt)
    up = attempt.state is AttemptState.RUNNING and attempt.post_start in (HookState.ABSENT, HookState.DONE)
    if state.held or not up or attempt.ended is not None or attempt.paused:
        return None
    if state.kind is not ProbeKind.READINESS and (terminating or attempt.stop is not None):
        return None
    wanted = attempt.started is not (state.kind is ProbeKind.STARTUP)
    return state.due_ns if wanted else None


def on_result(state: ProbeState, outcome: Outcome, message: str, now: int) -> ProbeStep:
    """Count a result that came at `now`.

    A verdict changes when the same result has come as often in a row as the threshold says; a check that could not
    be made is dropped. Every failure is worth an event, as the kubelet does it.
    """
    word = state.kind.value.capitalize()
    if outcome is Outcome.UNKNOWN:
        after = msgspec.structs.replace(state, due_ns=_next_due(state, now))
        return ProbeStep(state=after, event=f"{word} probe errored: {message}")
    failed = outcome is Outcome.FAILURE
    run = state.run + 1 if outcome is state.last else 1
    threshold = state.probe.failure_threshold if failed else state.probe.success_threshold
    verdict = outcome if run >= threshold else state.verdict
    after = msgspec.structs.replace(
        state,
        last=outcome,
        run=run,
        verdict=verdict,
        message=message if failed else state.message,
        held=_holds(state.kind, verdict),
    )
    after = msgspec.structs.replace(after, due_ns=_next_due(after, now))
    return ProbeStep(state=after, event=f"{word} probe failed: {message}" if failed else "")


def _next_due(state: ProbeState, now: int) -> int:
    """One period after the last check was due, at once if that has passed.

    While a container is not ready it is asked sooner: after the time it has had so far, from 100 ms up to a period.
    """
    period = state.probe.period_seconds * _SECOND
    if state.kind is ProbeKind.READINESS and state.verdict is not Outcome.SUCCESS:
        soon = now + max(now - state.started_ns, _SOONEST_NS)
        return min(max(state.due_ns + period, now), soon)
    return max(state.due_ns + period, now)


def verdicts(
    container: Container, attempt: Attempt, states: tuple[ProbeState, ...], terminating: bool
) -> Verdicts:
    """What is to be recorded of an attempt.

    Without probes it has started and is ready once it runs and its postStart is done. Nothing is given up any more
    when its Pod is being terminated; that a Pod is not ready then, is left to its status.
    """
    found = {state.kind: state for state in states}
    startup, readiness = found.get(ProbeKind.STARTUP), found.get(ProbeKind.READINESS)
    probed = msgspec.structs.replace(
        attempt,
        started=startup is not None and startup.verdict is Outcome.SUCCESS,
        ready=readiness is not None and readiness.verdict is Outcome.SUCCESS,
    )
    now = settled(container, probed)
    for kind in (ProbeKind.STARTUP, ProbeKind.LIVENESS):
        state = found.get(kind)
        if state is not None and state.verdict is Outcome.FAILURE and not terminating:
            return Verdicts(
                started=now.started, ready=now.ready, unhealthy=kind.value, unhealthy_message=state.message
            )
    return Verdicts(started=now.started, ready=now.ready)
