"""The status of a Pod, derived from the kernel and the records each time it is asked for.

The words and the shape are those of a Kubernetes PodStatus (core/v1), so that anything that reads one reads this.
"""

from __future__ import annotations

from pyrun.cgroups import group
from pyrun.plan.sandbox import container_leaf
from pyrun.process.control import ExitRecord
from pyrun.runtime.observe import end_of
from pyrun.runtime.pods import ContainerKey, PodDirectory, require_pod, require_sandbox
from pyrun.spec.pod import Container
from pyrun.spec.status import (
    Condition,
    ContainerState,
    ContainerStatus,
    Phase,
    PodIP,
    PodStatus,
    Running,
    Terminated,
    Waiting,
)
from pyrun.state.records import ContainerRecord, SandboxRecord


def pod_status(pod: PodDirectory) -> PodStatus:
    """Return the status of a Pod. Raises StateError when it is half made."""
    manifest, sandbox = require_pod(pod), require_sandbox(pod)
    statuses = tuple(container_status(pod, sandbox, c) for c in manifest.spec.containers)
    alive = sandbox.pause.alive()
    ready = alive and all(status.ready for status in statuses)
    return PodStatus(
        phase=_phase(statuses),
        conditions=(
            _condition("PodReadyToStartContainers", alive, "" if alive else "SandboxStopped"),
            _condition("Initialized", True, ""),
            _condition("ContainersReady", ready, "" if ready else "ContainersNotReady"),
            _condition("Ready", ready, "" if ready else "ContainersNotReady"),
        ),
        pod_ip=sandbox.address,
        pod_ips=(PodIP(ip=sandbox.address),) if sandbox.address else (),
        start_time=sandbox.created_at,
        container_statuses=statuses,
    )


def _condition(kind: str, value: bool, reason: str) -> Condition:
    return Condition(type=kind, status=str(value), reason=reason)


def container_status(pod: PodDirectory, sandbox: SandboxRecord, container: Container) -> ContainerStatus:
    """Return the status of the latest attempt of a container."""
    name, image = container.name, container.image
    key = pod.latest(name)
    record = pod.container(key) if key is not None else None
    if key is None or record is None:
        state = ContainerState(waiting=Waiting(reason="ContainerCreating"))
        return ContainerStatus(
            name=name, state=state, image=image, ready=False, started=False, restart_count=0
        )
    state = _state(pod, key, record, sandbox)
    running = state.running is not None
    return ContainerStatus(
        name=name,
        state=state,
        image=image,
        image_id=record.config.image_id,
        container_id=f"pyrun://{pod.uid}/{name}/{record.attempt}",
        ready=running,
        started=running,
        restart_count=record.attempt,
    )


def _state(
    pod: PodDirectory, key: ContainerKey, record: ContainerRecord, sandbox: SandboxRecord
) -> ContainerState:
    ended = end_of(pod, key, record, f"{sandbox.facts.cgroup}/{container_leaf(key[0])}")
    if ended is not None:
        reason = "Completed" if ended.exit_code == 0 else "MonitorLost" if ended.lost else "Error"
        return ContainerState(terminated=_terminated(record, ended, reason))
    if not record.started_at:
        return ContainerState(waiting=Waiting(reason="Created"))
    if group.is_frozen(f"{sandbox.facts.cgroup}/{container_leaf(key[0])}"):
        return ContainerState(waiting=Waiting(reason="Paused"))
    return ContainerState(running=Running(started_at=record.started_at))


def _terminated(record: ContainerRecord, ended: ExitRecord, reason: str) -> Terminated:
    return Terminated(
        exit_code=ended.exit_code,
        signal=ended.signal,
        reason=reason,
        started_at=record.started_at,
        finished_at=ended.finished_at,
    )


def _phase(statuses: tuple[ContainerStatus, ...]) -> Phase:
    ended = [status.state.terminated for status in statuses if status.state.terminated is not None]
    if len(ended) == len(statuses):
        return Phase.SUCCEEDED if all(state.exit_code == 0 for state in ended) else Phase.FAILED
    created = any(s.state.waiting is not None and s.state.waiting.reason != "Paused" for s in statuses)
    return (
        Phase.PENDING
        if created and not ended and not any(s.state.running for s in statuses)
        else Phase.RUNNING
    )


def running_containers(pod: PodDirectory) -> list[str]:
    """Return the names of the containers that have not ended."""
    if pod.sandbox() is None:
        return []
    statuses = pod_status(pod).container_statuses
    return [status.name for status in statuses if status.state.terminated is None]
