"""How far a Pod is: which attempts count, which container runs again and when, whether all is over."""

from __future__ import annotations

import msgspec

from pyrun.lifecycle.actions import StartReason
from pyrun.lifecycle.observation import (
    Attempt,
    AttemptState,
    ContainerObservation,
    Ended,
    HookState,
    PodObservation,
)
from pyrun.lifecycle.resize import RESIZE
from pyrun.lifecycle.restart import (
    RestartVerdict,
    backoff_ns,
    ended_ns,
    has_failed,
    is_regular_init,
    next_crashes,
    wants_restart,
)
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Container, PodSpec, is_sidecar
from pyrun.spec.value import Value

_KILLED = Ended(exit_code=137, signal=9)
"""How a container ends with its sandbox."""


class NextStart(Value, frozen=True, kw_only=True):
    """The start of a container that is due at `due_ns`, having waited for `delay_ns`.

    `verdict` RESTART_ALL means that all containers are restarted then, not this one.
    """

    attempt: int
    crashes: int
    due_ns: int = 0
    delay_ns: int = 0
    reason: StartReason
    verdict: RestartVerdict = RestartVerdict.RESTART


def is_live(attempt: Attempt | None) -> bool:
    """Whether something of an attempt is left that can run: it was created and has not ended."""
    return attempt is not None and attempt.ended is None


def runs(attempt: Attempt | None) -> bool:
    """Whether an attempt was started and has not ended."""
    return attempt is not None and attempt.ended is None and attempt.state is AttemptState.RUNNING


def live_containers(spec: PodSpec, observed: PodObservation) -> tuple[tuple[Container, Attempt], ...]:
    """The containers that are live with the attempt that is, in the order of the manifest."""
    found = []
    for container in spec.all_containers():
        attempt = observed.container(container.name).latest
        if attempt is not None and is_live(attempt):
            found.append((container, attempt))
    return tuple(found)


def settled(container: Container, attempt: Attempt) -> Attempt:
    """The attempt with its verdicts as they hold now: none before it runs and its postStart is done, true without
    a probe, and not ready before started.
    """
    up = runs(attempt) and attempt.post_start in (HookState.ABSENT, HookState.DONE)
    started = up and (container.startup_probe is None or attempt.started)
    ready = started and not attempt.paused and (container.readiness_probe is None or attempt.ready)
    if (started, ready) == (attempt.started, attempt.ready):
        return attempt
    return msgspec.structs.replace(attempt, started=started, ready=ready)


def is_past(observed: PodObservation, attempt: Attempt) -> bool:
    """Whether an attempt ended in an earlier life of the Pod: before this sandbox, or a restart of all."""
    return attempt.ended is not None and ended_ns(attempt) <= max(observed.sandbox_ns, observed.restarted_ns)


def next_start(
    spec: PodSpec, container: Container, observed: PodObservation, settings: BackoffSettings
) -> NextStart | None:
    """When a container is started (again) and as what; None when it runs, or never will run again.

    Whether its turn has come, is for the caller to know.
    """
    seen = observed.container(container.name)
    start = _after_resize(seen.latest) or _next(spec, container, observed, seen.latest, settings)
    if start is None or seen.failure is None or start.verdict is RestartVerdict.RESTART_ALL:
        return start
    delay = backoff_ns(seen.failure.count, settings)
    due = seen.failure.at_ns + delay
    if due < start.due_ns:
        return start
    return msgspec.structs.replace(start, due_ns=due, delay_ns=delay, reason=StartReason.RETRY)


def _after_resize(latest: Attempt | None) -> NextStart | None:
    """The start of a container that was ended for its changed resources: at once, whatever its policy says."""
    if latest is None or latest.ended is None or latest.stop is None or latest.stop.reason != RESIZE:
        return None
    return NextStart(attempt=latest.attempt + 1, crashes=latest.crashes, reason=StartReason.RESTART)


def _next(
    spec: PodSpec,
    container: Container,
    observed: PodObservation,
    latest: Attempt | None,
    settings: BackoffSettings,
) -> NextStart | None:
    if latest is None:
        return NextStart(attempt=0, crashes=0, reason=StartReason.FIRST)
    if latest.ended is None:
        if latest.state is not AttemptState.CREATED or latest.paused or latest.stop is not None:
            return None
        return NextStart(attempt=latest.attempt, crashes=latest.crashes, reason=StartReason.RETRY)
    verdict = wants_restart(spec, container, latest.ended)
    if is_past(observed, latest):
        crashes = _crashes_anew(spec, container, observed, latest, settings)
        if crashes is not None:
            return NextStart(attempt=latest.attempt + 1, crashes=crashes, reason=StartReason.RESTART)
        if verdict is RestartVerdict.RESTART_ALL or is_regular_init(spec, container):
            verdict = RestartVerdict.RESTART
    if verdict is RestartVerdict.NO:
        return None
    crashes = next_crashes(latest, settings)
    delay = backoff_ns(crashes, settings)
    return NextStart(
        attempt=latest.attempt + 1,
        crashes=crashes,
        due_ns=ended_ns(latest) + delay,
        delay_ns=delay,
        reason=StartReason.RESTART,
        verdict=verdict,
    )


def _crashes_anew(
    spec: PodSpec, container: Container, observed: PodObservation, latest: Attempt, settings: BackoffSettings
) -> int | None:
    """The count that goes on in a container that runs again at once, because all were restarted, or it is an init
    container that had succeeded in another sandbox. None when it has to wait for its backoff like any other.
    """
    ended = latest.ended
    if ended is None:
        return None
    if is_regular_init(spec, container) and not has_failed(spec, container, ended):
        return 0
    if not observed.restarted_ns or ended_ns(latest) > observed.restarted_ns:
        return None
    caused = wants_restart(spec, container, ended) is RestartVerdict.RESTART_ALL
    return next_crashes(latest, settings) - (0 if caused else 1)


def init_passed(spec: PodSpec, container: Container, seen: ContainerObservation) -> bool:
    """Whether the next init container may start after this one, going by its latest attempt."""
    if seen.latest is None:
        return False
    if is_sidecar(spec, container):
        return settled(container, seen.latest).started
    return seen.latest.ended is not None and not has_failed(spec, container, seen.latest.ended)


def is_initialized(spec: PodSpec, observed: PodObservation) -> bool:
    """Whether the application containers may start."""
    return observed.initialized or not spec.init_containers


def init_has_failed(spec: PodSpec, observed: PodObservation) -> bool:
    """Whether an init container has failed and is not tried again: then the Pod has failed."""
    if is_initialized(spec, observed):
        return False
    for container in spec.init_containers:
        latest = observed.container(container.name).latest
        if latest is None or latest.ended is None or is_past(observed, latest):
            continue
        failed = has_failed(spec, container, latest.ended)
        if failed and wants_restart(spec, container, latest.ended) is RestartVerdict.NO:
            return True
    return False


def can_live_on(spec: PodSpec, observed: PodObservation, settings: BackoffSettings) -> bool:
    """Whether a new sandbox would be of use: an application container would run in it by its policy.

    One that was never created counts as one that the end of the sandbox killed, unless nothing was created yet.
    """
    if all(observed.container(container.name).latest is None for container in spec.all_containers()):
        return True
    return any(_would_run(spec, container, observed, settings) for container in spec.containers)


def _would_run(
    spec: PodSpec, container: Container, observed: PodObservation, settings: BackoffSettings
) -> bool:
    latest = observed.container(container.name).latest
    if latest is None or latest.ended is None:
        return wants_restart(spec, container, _KILLED) is not RestartVerdict.NO
    return next_start(spec, container, observed, settings) is not None


def is_over(spec: PodSpec, observed: PodObservation, settings: BackoffSettings) -> bool:
    """Whether no application container runs or ever will: the Pod is complete, or has failed."""
    if observed.stop is not None:
        return not live_containers(spec, observed)
    if init_has_failed(spec, observed) or all(
        _has_ended_for_good(spec, container, observed, settings) for container in spec.containers
    ):
        return True
    return (
        not observed.sandbox_alive
        and not live_containers(spec, observed)
        and not can_live_on(spec, observed, settings)
    )


def _has_ended_for_good(
    spec: PodSpec, container: Container, observed: PodObservation, settings: BackoffSettings
) -> bool:
    latest = observed.container(container.name).latest
    return (
        latest is not None
        and latest.ended is not None
        and next_start(spec, container, observed, settings) is None
    )
