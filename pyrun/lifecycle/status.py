"""The status of a Pod, derived from what is observed each time it is asked for: phase, conditions, containers.

Source: Kubernetes concepts "Pod Lifecycle", and the words of the kubelet (pkg/kubelet/status/generate.go).
"""

from __future__ import annotations

from pyrun.lifecycle.container_status import Scene, container_status
from pyrun.lifecycle.course import (
    init_has_failed,
    init_passed,
    is_initialized,
    is_over,
    is_past,
    live_containers,
)
from pyrun.lifecycle.decide import DEADLINE_EXCEEDED
from pyrun.lifecycle.eviction import EVICTED
from pyrun.lifecycle.observation import AttemptState, ContainerObservation, HookState, PodObservation, Stop
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Container, Pod, PodSpec, is_sidecar
from pyrun.spec.status import Condition, ContainerStatus, Phase, PodIP, PodStatus

_RESTART_IN_PLACE = "PodRestartInPlace"
RESOURCES_APPLIED = "pyrun.io/ResourcesApplied"

RESIZE_PENDING = "PodResizePending"
RESIZE_IN_PROGRESS = "PodResizeInProgress"

Transitions = tuple[tuple[str, str, str, int], ...]
"""Last transitions of conditions: (type, status, RFC 3339, CLOCK_MONOTONIC ns)."""


def pod_status(pod: Pod, observed: PodObservation, settings: BackoffSettings, now: int) -> PodStatus:
    """Return the status of a Pod at `now` (CLOCK_MONOTONIC ns; it decides whether a restart is backed off)."""
    spec = pod.spec
    over = is_over(spec, observed, settings)
    scene = Scene(
        pod=pod, observed=observed, settings=settings, now=now, closing=over or observed.stop is not None
    )
    inits = tuple(container_status(scene, container) for container in spec.init_containers)
    containers = tuple(container_status(scene, container) for container in spec.containers)
    phase = _phase(spec, observed, over)
    failure = _failure(observed) if phase is Phase.FAILED else None
    return PodStatus(
        phase=phase,
        conditions=tuple(_timed(c, observed) for c in _conditions(spec, observed, phase, inits, containers)),
        reason=failure.reason if failure is not None else "",
        message=failure.message if failure is not None else "",
        pod_ip=observed.address,
        pod_ips=(PodIP(ip=observed.address),) if observed.address else (),
        start_time=observed.created_at,
        init_container_statuses=inits,
        container_statuses=containers,
    )


def transitions(status: PodStatus, known: Transitions, at: str, now: int) -> Transitions:
    """Return the last transitions of a status' conditions, those that have changed with the time given.

    Equal to `known` when none has.
    """
    before = {entry[0]: entry for entry in known}
    found = []
    for condition in status.conditions:
        entry = before.get(condition.type)
        if entry is None or entry[1] != condition.status:
            entry = (condition.type, condition.status, at, now)
        found.append(entry)
    return tuple(found)


def _failure(observed: PodObservation) -> Stop | None:
    """The termination that makes a Pod a failed one, however its containers end; None without one."""
    stop = observed.stop
    return stop if stop is not None and stop.reason in (DEADLINE_EXCEEDED, EVICTED) else None


def _phase(spec: PodSpec, observed: PodObservation, over: bool) -> Phase:
    applications = [observed.container(container.name) for container in spec.containers]
    if over and not live_containers(spec, observed):
        ends = [seen.latest.ended if seen.latest is not None else None for seen in applications]
        well = all(end is not None and end.exit_code == 0 for end in ends)
        failed = _failure(observed) is not None or init_has_failed(spec, observed) or not well
        return Phase.FAILED if failed else Phase.SUCCEEDED
    return Phase.RUNNING if all(_was_set_up(seen) for seen in applications) else Phase.PENDING


def _was_set_up(seen: ContainerObservation) -> bool:
    """Whether a container has been started once, and its postStart has come to an end."""
    latest = seen.latest
    if latest is None:
        return False
    if latest.attempt > 0 or latest.ended is not None:
        return True
    return latest.state is AttemptState.RUNNING and latest.post_start is not HookState.PENDING


def _conditions(
    spec: PodSpec,
    observed: PodObservation,
    phase: Phase,
    inits: tuple[ContainerStatus, ...],
    containers: tuple[ContainerStatus, ...],
) -> tuple[Condition, ...]:
    sidecars = tuple(
        status
        for container, status in zip(spec.init_containers, inits, strict=True)
        if is_sidecar(spec, container)
    )
    ready = _containers_ready(phase, (*sidecars, *containers))
    return (
        *_restart_in_place(observed),
        *_resources_applied(observed),
        *_resizing(observed),
        _condition("PodReadyToStartContainers", "" if observed.sandbox_alive else "SandboxStopped"),
        _initialized(spec, observed, phase),
        Condition(type="Ready", status=ready.status, reason=ready.reason, message=ready.message),
        ready,
        _condition("PodScheduled", ""),
    )


def _condition(kind: str, reason: str, message: str = "") -> Condition:
    """A condition; it is false when there is a reason."""
    return Condition(type=kind, status=str(not reason), reason=reason, message=message)


def _restart_in_place(observed: PodObservation) -> tuple[Condition, ...]:
    """The condition of Pods all of whose containers are, or were once, restarted in place."""
    if observed.restarting or observed.restarted_ns:
        return (Condition(type=_RESTART_IN_PLACE, status=str(observed.restarting)),)
    return ()


def _resources_applied(observed: PodObservation) -> tuple[Condition, ...]:
    """The condition of Pods that run without some of their limits, or without their requests."""
    limits, requests = "; ".join(observed.left_out), "; ".join(observed.unreserved)
    messages = []
    if limits:
        messages.append(f"runs without limits that this host cannot give: {limits}")
    if requests:
        messages.append(f"nothing is kept of its requests, which were not free when it was made: {requests}")
    if not messages:
        return ()
    reason = "ControllersMissing" if limits else "Unschedulable"
    return (_condition(RESOURCES_APPLIED, reason, "; ".join(messages)),)


def _resizing(observed: PodObservation) -> tuple[Condition, ...]:
    """The conditions of a Pod whose resources are not (yet) what is wished for, as Kubernetes has them."""
    found = []
    pending, resizing = observed.pending, observed.resizing
    if pending is not None:
        reason = pending.reason.value
        found.append(Condition(type=RESIZE_PENDING, status="True", reason=reason, message=pending.message))
    if resizing is not None:
        reason = "Error" if resizing.error else ""
        found.append(Condition(type=RESIZE_IN_PROGRESS, status="True", reason=reason, message=resizing.error))
    return tuple(found)


def _initialized(spec: PodSpec, observed: PodObservation, phase: Phase) -> Condition:
    if is_initialized(spec, observed):
        reason = "PodCompleted" if phase is Phase.SUCCEEDED else ""
        return Condition(type="Initialized", status="True", reason=reason)
    names = " ".join(c.name for c in spec.init_containers if not _init_is_through(spec, c, observed))
    message = f"containers with incomplete status: [{names}]"
    return _condition("Initialized", "ContainersNotInitialized", message)


def _init_is_through(spec: PodSpec, container: Container, observed: PodObservation) -> bool:
    seen = observed.container(container.name)
    past = seen.latest is not None and is_past(observed, seen.latest)
    return not past and init_passed(spec, container, seen)


def _containers_ready(phase: Phase, statuses: tuple[ContainerStatus, ...]) -> Condition:
    if phase is Phase.SUCCEEDED or phase is Phase.FAILED:
        reason = "PodCompleted" if phase is Phase.SUCCEEDED else "PodFailed"
        return _condition("ContainersReady", reason)
    unready = " ".join(status.name for status in statuses if not status.ready)
    if not unready:
        return _condition("ContainersReady", "")
    message = f"containers with unready status: [{unready}]"
    return _condition("ContainersReady", "ContainersNotReady", message)


def _timed(condition: Condition, observed: PodObservation) -> Condition:
    """The condition with the time of its last transition, if that is known."""
    at = observed.created_at if condition.type == "PodScheduled" else ""
    for kind, status, when, _ in observed.condition_times:
        if (kind, status) == (condition.type, condition.status):
            at = when
    return Condition(
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        message=condition.message,
        last_transition_time=at,
    )
