"""Resizing a Pod that runs: what changes, what is refused, what must restart, and when to go on with it. Pure.

Source: Kubernetes task "Resize CPU and Memory Resources assigned to Containers"; pkg/apis/core/validation
(ValidatePodResize) and pkg/kubelet/kuberuntime (computePodResizeAction) of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from pyrun.errors import Problem
from pyrun.lifecycle.observation import PendingReason, PodObservation
from pyrun.spec.pod import Container, Pod, PodSpec, is_sidecar
from pyrun.spec.qos import qos_class
from pyrun.spec.resources import (
    CPU,
    MEMORY,
    ResizableResource,
    ResourceList,
    ResourceRequirements,
    RestartOnResize,
    amounts,
    format_amount,
)
from pyrun.spec.value import Value

RESIZE = "Resize"
"""The reason of a stop by which a container is restarted for its resources: no crash, and no policy is asked."""

RESIZABLE = (CPU, MEMORY)

RETRY_NS = 2 * 10**9
"""After which what has failed, as memory that is in use still, is tried again."""

Resources = tuple[tuple[str, ResourceRequirements], ...]
"""The resources of containers, by their names."""


class ContainerResize(Value, frozen=True, kw_only=True):
    """What changes of one container; `restart`: its resizePolicy asks for a restart."""

    container: str
    before: ResourceRequirements
    after: ResourceRequirements
    restart: bool


def resources_of(spec: PodSpec) -> Resources:
    """Return the resources of all containers of a Pod."""
    return tuple((container.name, container.resources) for container in spec.all_containers())


def with_resources(pod: Pod, resources: Resources) -> Pod:
    """Return a Pod with other resources of some of its containers; names that it does not have mean nothing."""
    wanted = dict(resources)

    def resized(container: Container) -> Container:
        if container.name not in wanted:
            return container
        return msgspec.structs.replace(container, resources=wanted[container.name])

    spec = msgspec.structs.replace(
        pod.spec,
        containers=tuple(map(resized, pod.spec.containers)),
        init_containers=tuple(map(resized, pod.spec.init_containers)),
    )
    return msgspec.structs.replace(pod, spec=spec)


def changes(running: PodSpec, wanted: PodSpec) -> tuple[ContainerResize, ...]:
    """Return what changes of the containers that both Pods have, in the order of the running one."""
    others = {container.name: container.resources for container in wanted.all_containers()}
    found = []
    for container in running.all_containers():
        after = others.get(container.name, container.resources)
        if after != container.resources:
            restart = _restarts(container, after)
            found.append(
                ContainerResize(
                    container=container.name, before=container.resources, after=after, restart=restart
                )
            )
    return tuple(found)


def _restarts(container: Container, after: ResourceRequirements) -> bool:
    asked = {
        one.resource for one in container.resize_policy if one.restart is RestartOnResize.RESTART_CONTAINER
    }
    return any(resource in asked for resource in _changed(container.resources, after))


def _changed(before: ResourceRequirements, after: ResourceRequirements) -> Iterator[ResizableResource]:
    """Yield the resources whose request or limit differs."""
    for resource in ResizableResource:
        pairs = ((before.requests, after.requests), (before.limits, after.limits))
        if any(amounts(old).get(resource.value) != amounts(new).get(resource.value) for old, new in pairs):
            yield resource


def growth(before: ResourceList, after: ResourceList) -> ResourceList:
    """Return what is wanted of the CPU and memory that there is to be more of: less needs no room."""

    def more(old: int | None, new: int | None) -> int | None:
        return new if new is not None and new > (old or 0) else None

    return ResourceList(
        cpu_millis=more(before.cpu_millis, after.cpu_millis), memory=more(before.memory, after.memory)
    )


def difference(wanted: ResourceList, held: ResourceList) -> ResourceList:
    """Return what is wanted of CPU and memory beyond what is held."""

    def beyond(amount: int | None, less: int | None) -> int | None:
        return None if amount is None else amount - (less or 0)

    return ResourceList(
        cpu_millis=beyond(wanted.cpu_millis, held.cpu_millis), memory=beyond(wanted.memory, held.memory)
    )


def refusals(running: PodSpec, wanted: PodSpec) -> tuple[Problem, ...]:
    """Return everything that a running Pod cannot take of a wanted one, each with its path.

    Only cpu and memory of application containers and sidecars can change, none can be taken away, and the QoS class
    stays. Nothing but resources is compared.
    """
    found = [
        *_of_containers("containers", running, wanted),
        *_of_containers("initContainers", running, wanted),
    ]
    if running.resources != wanted.resources:
        found.append(
            Problem(
                "spec.resources",
                "cannot change: pyrun resizes containers, not resources of the Pod as a whole",
            )
        )
    before, after = qos_class(running), qos_class(wanted)
    if before is not after:
        text = f"the QoS class of a Pod cannot change, and would from {before.value} to {after.value}"
        found.append(Problem("spec", text))
    return tuple(found)


def _of_containers(field: str, running: PodSpec, wanted: PodSpec) -> Iterator[Problem]:
    members = {"containers": wanted.containers, "initContainers": wanted.init_containers}[field]
    present = {container.name: container for container in running.all_containers()}
    for i, container in enumerate(members):
        before = present.get(container.name)
        if before is None or before.resources == container.resources:
            continue
        path = f"spec.{field}[{i}].resources"
        if field == "initContainers" and not is_sidecar(wanted, container):
            yield Problem(path, "cannot change: an init container that is no sidecar cannot be resized")
        else:
            yield from _of_lists(path, before.resources, container.resources)


def _of_lists(path: str, before: ResourceRequirements, after: ResourceRequirements) -> Iterator[Problem]:
    for field, old, new in (
        ("requests", amounts(before.requests), amounts(after.requests)),
        ("limits", amounts(before.limits), amounts(after.limits)),
    ):
        yield from _of_list(f"{path}.{field}", old, new)
    limits = amounts(after.limits)
    for name, amount in amounts(after.requests).items():
        if amount > limits.get(name, amount):
            text = f"{format_amount(name, amount)} is above the limit, {format_amount(name, limits[name])}"
            yield Problem(f"{path}.requests[{name}]", text)


def _of_list(path: str, old: Mapping[str, int], new: Mapping[str, int]) -> Iterator[Problem]:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) == new.get(name):
            continue
        if name not in RESIZABLE:
            yield Problem(f"{path}[{name}]", "cannot change while the Pod runs: only cpu and memory can")
        elif name not in new:
            yield Problem(
                f"{path}[{name}]",
                f"cannot be removed while the Pod runs: it is {format_amount(name, old[name])}",
            )


def next_try_ns(observed: PodObservation) -> int | None:
    """When somebody must go on with a resize (CLOCK_MONOTONIC ns, 0: at once); None when nothing is to be done.

    Containers that are being restarted for it come first. What is deferred waits for somebody to release something, and
    what is infeasible for another wish.
    """
    found = []
    pending, resizing = observed.pending, observed.resizing
    if pending is not None and pending.reason is PendingReason.UNDECIDED:
        found.append(0)
    if resizing is not None:
        if resizing.error:
            found.append(resizing.tried_ns + RETRY_NS)
        elif not (left := to_restart(observed)) or any(not _is_stopped(observed, name) for name, _ in left):
            found.append(0)
    return min(found, default=None)


def to_restart(observed: PodObservation) -> tuple[tuple[str, int], ...]:
    """Return the attempts whose end a resize waits for."""
    found = []
    for name, number in observed.resizing.restarts if observed.resizing is not None else ():
        latest = observed.container(name).latest
        if latest is not None and latest.attempt == number and latest.ended is None:
            found.append((name, number))
    return tuple(found)


def _is_stopped(observed: PodObservation, name: str) -> bool:
    latest = observed.container(name).latest
    return latest is not None and latest.stop is not None
