"""The status of one container: waiting, running or terminated, in the kubelet's words."""

from __future__ import annotations

from pyrun.lifecycle.course import is_initialized, is_past, next_start, settled
from pyrun.lifecycle.observation import (
    Attempt,
    AttemptState,
    ContainerObservation,
    HookState,
    PodObservation,
    StartFailure,
)
from pyrun.lifecycle.restart import has_failed, is_regular_init
from pyrun.lifecycle.words import duration
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Container, Pod
from pyrun.spec.resources import ResourceList, ResourceRequirements, amounts, format_amount
from pyrun.spec.status import ContainerState, ContainerStatus, ResourcesView, Running, Terminated, Waiting
from pyrun.spec.value import Value


class Scene(Value, frozen=True, kw_only=True):
    """A Pod at one moment; `closing`: nothing of it will start again, as it is terminated or over."""

    pod: Pod
    observed: PodObservation
    settings: BackoffSettings
    now: int
    closing: bool


def container_status(scene: Scene, container: Container) -> ContainerStatus:
    """Return the status of a container by its latest attempt and the one before."""
    seen = scene.observed.container(container.name)
    state, last_state = _states(scene, container, seen)
    if seen.latest is None:
        return ContainerStatus(
            name=container.name,
            state=state,
            image=container.image,
            ready=False,
            started=False,
            restart_count=0,
            allocated_resources=quantities(container.resources.requests),
        )
    attempt, init = settled(container, seen.latest), is_regular_init(scene.pod.spec, container)
    ready = attempt.ready and state.running is not None and scene.observed.stop is None
    return ContainerStatus(
        name=container.name,
        state=state,
        last_state=last_state,
        image=container.image,
        image_id=attempt.image_id,
        container_id=_container_id(scene, container, attempt),
        ready=_has_succeeded(scene, container, attempt) if init else ready,
        started=attempt.started and not init,
        restart_count=attempt.attempt,
        allocated_resources=quantities(container.resources.requests),
        resources=_resources(attempt),
    )


def _resources(attempt: Attempt) -> ResourcesView | None:
    """What a container that runs has, None when that is nothing."""
    found = attempt.resources
    if found is None or found == ResourceRequirements():
        return None
    return ResourcesView(requests=quantities(found.requests), limits=quantities(found.limits))


def quantities(resources: ResourceList) -> dict[str, str]:
    """Return amounts of resources in Kubernetes' spelling."""
    return {name: format_amount(name, amount) for name, amount in amounts(resources).items()}


def _has_succeeded(scene: Scene, container: Container, attempt: Attempt) -> bool:
    ended = attempt.ended
    return (
        ended is not None
        and not has_failed(scene.pod.spec, container, ended)
        and not is_past(scene.observed, attempt)
    )


def _states(
    scene: Scene, container: Container, seen: ContainerObservation
) -> tuple[ContainerState, ContainerState]:
    """The state of a container, and its last one."""
    latest = seen.latest
    if latest is None:
        failure = seen.failure
        waiting = _creating(scene) if failure is None else _failure(scene, container, failure)
        return ContainerState(waiting=waiting), ContainerState()
    if latest.ended is None:
        state = _live(scene, container, seen.failure, latest)
        return state, _terminated(scene, container, seen.previous)
    pause = _waiting(scene, container, seen.failure, latest)
    if pause is not None:
        return ContainerState(waiting=pause), _terminated(scene, container, latest)
    return _terminated(scene, container, latest), _terminated(scene, container, seen.previous)


def _creating(scene: Scene) -> Waiting:
    return Waiting(reason="PodInitializing" if scene.pod.spec.init_containers else "ContainerCreating")


def _live(
    scene: Scene, container: Container, failure: StartFailure | None, attempt: Attempt
) -> ContainerState:
    if attempt.state is AttemptState.CREATED:
        waiting = Waiting(reason="Created") if failure is None else _failure(scene, container, failure)
        return ContainerState(waiting=waiting)
    if attempt.paused:
        return ContainerState(waiting=Waiting(reason="Paused"))
    if attempt.post_start is HookState.PENDING:
        return ContainerState(waiting=_creating(scene))
    return ContainerState(running=Running(started_at=attempt.started_at))


def _waiting(
    scene: Scene, container: Container, failure: StartFailure | None, latest: Attempt
) -> Waiting | None:
    """What the next attempt of a container that has ended waits for; None when it shows how it ended."""
    spec, observed = scene.pod.spec, scene.observed
    start = None if scene.closing else next_start(spec, container, observed, scene.settings)
    if start is None:
        return None
    if failure is not None:
        return _failure(scene, container, failure)
    if is_past(observed, latest) and not is_initialized(spec, observed):
        return _creating(scene)
    if start.due_ns <= scene.now:
        return None
    pod = scene.pod.metadata.name
    message = f"back-off {duration(start.delay_ns)} restarting failed container={container.name} pod={pod}"
    return Waiting(reason="CrashLoopBackOff", message=message)


def _failure(scene: Scene, container: Container, failure: StartFailure) -> Waiting:
    """Why it could not be started; while the next try waits, a pull that failed is called its back-off."""
    start = next_start(scene.pod.spec, container, scene.observed, scene.settings)
    waits = start is not None and start.due_ns > scene.now and not scene.closing
    if failure.reason != "ErrImagePull" or not waits:
        return Waiting(reason=failure.reason, message=failure.message)
    message = f'Back-off pulling image "{container.image}": {failure.reason}: {failure.message}'
    return Waiting(reason="ImagePullBackOff", message=message)


def _terminated(scene: Scene, container: Container, attempt: Attempt | None) -> ContainerState:
    if attempt is None or attempt.ended is None:
        return ContainerState()
    ended = attempt.ended
    # With exit code 0 too, when only a child was killed: what the program made of that loss nobody else can see.
    # The kubelet expects it (an init container with this reason has failed), and so do the runtimes it talks to.
    if ended.lost:
        reason = "MonitorLost"
    elif ended.oom_kills:
        reason = "OOMKilled"
    else:
        reason = "Error" if ended.exit_code else "Completed"
    return ContainerState(
        terminated=Terminated(
            exit_code=ended.exit_code,
            reason=reason,
            message=ended.message,
            signal=ended.signal,
            started_at=attempt.started_at,
            finished_at=ended.finished_at,
            container_id=_container_id(scene, container, attempt),
        )
    )


def _container_id(scene: Scene, container: Container, attempt: Attempt) -> str:
    return f"pyrun://{scene.observed.uid}/{container.name}/{attempt.attempt}"
