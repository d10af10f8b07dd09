"""What a Pod as a whole asks for and may use, and whether a host has room for it.

Source: Kubernetes documentation "Sidecar Containers" (resource sharing within containers) and "Assign Pod-level CPU
and memory resources"; component-helpers/resource of Kubernetes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pyrun.spec.pod import Container, PodSpec, RestartPolicy
from pyrun.spec.resources import EPHEMERAL_STORAGE, Capacity, ResourceList, amounts, format_amount


class Shortage(NamedTuple):
    """One resource that a host has too little of; thousandths of a CPU, else bytes.

    `resource` is its Kubernetes name (`cpu`, `memory`, `ephemeral-storage`, `hugepages-2Mi`).
    """

    resource: str
    requested: int
    reserved: int
    capacity: int

    @property
    def free(self) -> int:
        """What is left; nothing where more is reserved than there is."""
        return max(self.capacity - self.reserved, 0)

    def __str__(self) -> str:
        asked, free, whole = (
            format_amount(self.resource, one) for one in (self.requested, self.free, self.capacity)
        )
        return f"{self.resource}: {asked} requested, {free} of {whole} free"


def effective_request(spec: PodSpec) -> ResourceList:
    """Return what is kept for a Pod: its own request, and where it has none what its containers ask for."""
    summed = containers_request(spec)
    return summed if spec.resources is None else filled(spec.resources.requests, summed)


def containers_request(spec: PodSpec) -> ResourceList:
    """Return what the containers of a Pod ask for together.

    Init containers run one after the other before the application, each beside the sidecars before it: together they
    need the most of what is asked for at any one time.
    """
    return _together(spec, lambda container: container.resources.requests)


def effective_limits(spec: PodSpec) -> ResourceList:
    """Return the most that a Pod may use: its own limits, else those that each of its containers has."""
    summed = _together(spec, lambda container: container.resources.limits)
    limits = [container.resources.limits for container in spec.all_containers()]
    every = ResourceList(
        cpu_millis=None if any(one.cpu_millis is None for one in limits) else summed.cpu_millis,
        memory=None if any(one.memory is None for one in limits) else summed.memory,
        ephemeral_storage=(
            None if any(one.ephemeral_storage is None for one in limits) else summed.ephemeral_storage
        ),
        hugepages=summed.hugepages,
    )
    return every if spec.resources is None else filled(spec.resources.limits, every)


def container_limits(spec: PodSpec, container: Container) -> ResourceList:
    """Return the limits of a container; of CPU and memory those of the Pod as a whole where it has none."""
    limits = container.resources.limits
    if spec.resources is None:
        return limits
    whole = spec.resources.limits
    return filled(limits, ResourceList(cpu_millis=whole.cpu_millis, memory=whole.memory))


def fits(request: ResourceList, capacity: Capacity, reserved: ResourceList) -> tuple[Shortage, ...]:
    """Return what a host lacks for a request beside what is reserved on it already; nothing when it fits.

    Resources that are not asked for are not looked at, even where more is reserved than there is.
    """
    taken, there = amounts(reserved), amounts(capacity)
    found = (
        Shortage(name, asked, taken.get(name, 0), there.get(name, 0))
        for name, asked in amounts(request).items()
    )
    return tuple(
        one
        for one in found
        if one.requested > one.capacity - one.reserved and _is_counted(one.resource, capacity)
    )


def times(request: ResourceList, capacity: Capacity, reserved: ResourceList, most: int) -> int:
    """Return how often a request fits a host beside what is reserved on it already, counted up to `most`."""
    taken, there = amounts(reserved), amounts(capacity)
    counts = [
        max(there.get(name, 0) - taken.get(name, 0), 0) // asked
        for name, asked in amounts(request).items()
        if asked and _is_counted(name, capacity)
    ]
    return min((most, *counts))


def sum_of(lists: Iterable[ResourceList]) -> ResourceList:
    """Return each amount summed over some lists; None where none of them says one."""
    return functools.reduce(lambda left, right: _merged(left, right, int.__add__), lists, ResourceList())


def filled(given: ResourceList, defaults: ResourceList) -> ResourceList:
    """Return a list with the amounts it does not say taken from another."""
    return _merged(given, defaults, lambda amount, _: amount)


def _is_counted(resource: str, capacity: Capacity) -> bool:
    """Whether it is known how much of a resource there is; one that is not there at all is known."""
    return resource != EPHEMERAL_STORAGE or capacity.ephemeral_storage is not None


def _together(spec: PodSpec, amount: Callable[[Container], ResourceList]) -> ResourceList:
    sidecars = most = ResourceList()
    for container in spec.init_containers:
        beside = sum_of((sidecars, amount(container)))
        most = _merged(most, beside, max)
        if container.restart_policy is RestartPolicy.ALWAYS:
            sidecars = beside
    running = sum_of((sidecars, *map(amount, spec.containers)))
    return _merged(running, most, max)


def _merged(left: ResourceList, right: ResourceList, combine: Callable[[int, int], int]) -> ResourceList:
    """Return a list of two; an amount that only one of them has is taken as it is."""

    def one(first: int | None, second: int | None) -> int | None:
        if first is None or second is None:
            return second if first is None else first
        return combine(first, second)

    pages = dict(left.hugepages), dict(right.hugepages)
    sizes = sorted(pages[0] | pages[1])
    merged = ((size, one(pages[0].get(size), pages[1].get(size))) for size in sizes)
    return ResourceList(
        cpu_millis=one(left.cpu_millis, right.cpu_millis),
        memory=one(left.memory, right.memory),
        ephemeral_storage=one(left.ephemeral_storage, right.ephemeral_storage),
        hugepages=tuple((size, amount) for size, amount in merged if amount is not None),
    )
