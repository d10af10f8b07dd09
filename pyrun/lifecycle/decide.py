"""One decision about one Pod: what is desired and what is observed -> what to do now, and when to look again."""

from __future__ import annotations

from pyrun.lifecycle.actions import (
    Action,
    CloseSandbox,
    MarkInitialized,
    PodActions,
    RebuildSandbox,
    ResizePod,
    RestartAllContainers,
    RunPostStart,
    StartContainer,
    StopContainer,
    TerminatePod,
)
from pyrun.lifecycle.course import (
    NextStart,
    can_live_on,
    init_has_failed,
    init_passed,
    is_initialized,
    is_over,
    is_past,
    live_containers,
    next_start,
    runs,
)
from pyrun.lifecycle.observation import Attempt, HookState, PodObservation
from pyrun.lifecycle.probing import UNHEALTHY, probe_of
from pyrun.lifecycle.resize import next_try_ns
from pyrun.lifecycle.restart import RestartVerdict, is_regular_init
from pyrun.lifecycle.words import duration
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Container, Pod, PodSpec, is_sidecar
from pyrun.spec.probe import ProbeKind

_SECOND = 10**9

DEADLINE_EXCEEDED = "DeadlineExceeded"
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"
"""The words of the kubelet."""


def compute_pod_actions(
    pod: Pod, observed: PodObservation, settings: BackoffSettings, now: int
) -> PodActions:
    """Decide what is done about a Pod at `now` (CLOCK_MONOTONIC ns); the first of these that applies:

    1. Its termination was asked for: carry on with that; nothing of it ever starts again.
    2. It is over (all application containers have ended for good, or an init container has): sidecars that
       still run are stopped. A Pod of which nothing runs needs nothing, not even a sandbox.
    3. activeDeadlineSeconds since it was made have passed: terminate it, with its own grace period.
    4. Its sandbox is dead: a new one; but if no policy would let a container run in it, stop what still runs.
    5. An exit code matched a rule that restarts all containers: do so, after the backoff of that container.

    Otherwise all of these, in this order:

    6. Carry on with stops of attempts that were begun; stop what a probe or a failed postStart hook gave up. Go on
       with a change of resources, at once or when it is time to try again.
    7. Until it is initialized: start the next init container when the one before has succeeded or, a sidecar,
       started; start again by policy after the backoff. When all are through, mark it initialized.
    8. When it is: start sidecars and application containers, for the first time or again by policy after the
       backoff; those that were created and not started, as the attempt they are.
    9. Run the postStart hooks of running attempts that have not come to their end.

    `wake_ns` is the earliest moment at which one of these will decide otherwise without any event.
    """
    spec = pod.spec
    if observed.stop is not None:
        return _terminate(spec, observed)
    if is_over(spec, observed, settings):
        return _close(spec, observed)
    deadline = deadline_ns(spec, observed)
    if deadline is not None and now >= deadline:
        grace = spec.termination_grace_period_seconds
        action = TerminatePod(grace_seconds=grace, reason=DEADLINE_EXCEEDED, message=DEADLINE_MESSAGE)
        return PodActions(actions=(action,))
    decided = (
        _about_sandbox(spec, observed, settings)
        or _about_restart_of_all(spec, observed, settings, now)
        or _about_containers(spec, observed, settings, now)
    )
    return PodActions(actions=decided.actions, wake_ns=_earliest(decided.wake_ns, deadline))


def deadline_ns(spec: PodSpec, observed: PodObservation) -> int | None:
    """When activeDeadlineSeconds have passed, None without one."""
    if spec.active_deadline_seconds is None:
        return None
    return observed.created_ns + spec.active_deadline_seconds * _SECOND


def _earliest(*moments: int | None) -> int | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _terminate(spec: PodSpec, observed: PodObservation) -> PodActions:
    stop = observed.stop
    if stop is None or not (stop.remove or live_containers(spec, observed)):
        return PodActions()
    action = TerminatePod(grace_seconds=stop.grace_seconds, reason=stop.reason, message=stop.message)
    return PodActions(actions=(action,))


def _close(spec: PodSpec, observed: PodObservation) -> PodActions:
    if not live_containers(spec, observed):
        return PodActions()
    failed = init_has_failed(spec, observed)
    message = "an init container has failed" if failed else "all application containers have ended"
    return PodActions(actions=(CloseSandbox(message=message),))


def _about_sandbox(spec: PodSpec, observed: PodObservation, settings: BackoffSettings) -> PodActions | None:
    if observed.sandbox_alive:
        return None
    if can_live_on(spec, observed, settings):
        message = "Pod sandbox changed, it will be killed and re-created."
        return PodActions(actions=(RebuildSandbox(message=message),))
    message = "the sandbox of the Pod is gone, and no policy lets its containers run in another"
    grace = spec.termination_grace_period_seconds
    return PodActions(
        actions=tuple(
            _carry_on(container, attempt)
            or StopContainer(
                container=container.name,
                attempt=attempt.attempt,
                grace_seconds=grace,
                reason="Killing",
                message=message,
            )
            for container, attempt in live_containers(spec, observed)
        )
    )


def _about_restart_of_all(
    spec: PodSpec, observed: PodObservation, settings: BackoffSettings, now: int
) -> PodActions | None:
    """The restart of all containers that is due; None when none is."""
    for container in spec.all_containers():
        start = next_start(spec, container, observed, settings)
        if start is None or start.verdict is not RestartVerdict.RESTART_ALL or now < start.due_ns:
            continue
        message = _why(container, observed, start)
        return PodActions(actions=(RestartAllContainers(container=container.name, message=message),))
    return None


def _about_containers(
    spec: PodSpec, observed: PodObservation, settings: BackoffSettings, now: int
) -> PodActions:
    stops = tuple(
        stop
        for container, attempt in live_containers(spec, observed)
        if (stop := _carry_on(container, attempt) or _give_up(spec, container, attempt)) is not None
    )
    resize = next_try_ns(observed)
    resizes = (ResizePod(),) if resize is not None and resize <= now else ()
    turn = () if is_initialized(spec, observed) else _turn_of_init(spec, observed)
    marks: tuple[Action, ...] = ()
    if not turn:
        turn = tuple(c for c in spec.all_containers() if not is_regular_init(spec, c))
        if observed.restarting or not is_initialized(spec, observed):
            marks = (MarkInitialized(),)
    started = _start(spec, turn, observed, settings, now)
    hooks = tuple(
        RunPostStart(container=container.name, attempt=attempt.attempt)
        for container, attempt in live_containers(spec, observed)
        if attempt.post_start is HookState.PENDING
        and runs(attempt)
        and not attempt.paused
        and attempt.stop is None
        and not attempt.unhealthy
    )
    wake = _earliest(started.wake_ns, None if resizes else resize)
    return PodActions(actions=(*stops, *resizes, *marks, *started.actions, *hooks), wake_ns=wake)


def _carry_on(container: Container, attempt: Attempt) -> StopContainer | None:
    """The stop of an attempt that was asked for and has not come to its end."""
    stop = attempt.stop
    if stop is None:
        return None
    return StopContainer(
        container=container.name,
        attempt=attempt.attempt,
        grace_seconds=stop.grace_seconds,
        reason=stop.reason,
        message=stop.message,
    )


def _give_up(spec: PodSpec, container: Container, attempt: Attempt) -> StopContainer | None:
    """The stop of an attempt that a probe or its postStart hook has given up."""
    grace, name = spec.termination_grace_period_seconds, container.name
    if not runs(attempt):
        return None
    if attempt.unhealthy:
        probe = probe_of(container, ProbeKind(attempt.unhealthy))
        own = probe.termination_grace_period_seconds if probe is not None else None
        reason, message = UNHEALTHY, f"Container {name} failed {attempt.unhealthy} probe"
        message += f": {attempt.unhealthy_message}" if attempt.unhealthy_message else ""
        grace = grace if own is None else own
    elif attempt.post_start is HookState.FAILED:
        reason, message = "FailedPostStartHook", attempt.post_start_message or "PostStartHook failed"
    else:
        return None
    return StopContainer(
        container=name, attempt=attempt.attempt, grace_seconds=grace, reason=reason, message=message
    )


def _turn_of_init(spec: PodSpec, observed: PodObservation) -> tuple[Container, ...]:
    """The init containers that are to run now: sidecars whose turn has been, and the one whose turn it is.

    Empty when all are through. The order is kept by the one that has come farthest in this life of the Pod:
    those before it have had their turn, even a sidecar that has crashed meanwhile.
    """
    inits = spec.init_containers
    seen = [observed.container(container.name) for container in inits]
    current = [
        i for i, one in enumerate(seen) if one.latest is not None and not is_past(observed, one.latest)
    ]
    turn = max(current, default=-1)
    if turn < 0 or init_passed(spec, inits[turn], seen[turn]):
        turn += 1
    if turn == len(inits):
        return ()
    return (*(c for c in inits[:turn] if is_sidecar(spec, c)), inits[turn])


def _start(
    spec: PodSpec,
    containers: tuple[Container, ...],
    observed: PodObservation,
    settings: BackoffSettings,
    now: int,
) -> PodActions:
    """Start those of the containers that do not run and are due."""
    actions: list[Action] = []
    wake: int | None = None
    for container in containers:
        start = next_start(spec, container, observed, settings)
        if start is None:
            continue
        if start.due_ns > now:
            wake = _earliest(wake, start.due_ns)
        elif start.verdict is RestartVerdict.RESTART:
            actions.append(
                StartContainer(
                    container=container.name,
                    attempt=start.attempt,
                    crashes=start.crashes,
                    reason=start.reason,
                    message=_why(container, observed, start),
                )
            )
    return PodActions(actions=tuple(actions), wake_ns=wake)


def _why(container: Container, observed: PodObservation, start: NextStart) -> str:
    seen = observed.container(container.name)
    if seen.failure is not None:
        return f"trying again after {seen.failure.reason}: {seen.failure.message}"
    if seen.latest is None or seen.latest.ended is None:
        return ""
    waited = f", back-off {duration(start.delay_ns)}" if start.delay_ns else ""
    return f"attempt {seen.latest.attempt} ended with exit code {seen.latest.ended.exit_code}{waited}"
