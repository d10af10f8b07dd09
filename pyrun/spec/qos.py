"""The quality of service class of a Pod, derived from its requests and limits of CPU and memory.

Source: Kubernetes documentation "Pod Quality of Service Classes"; pkg/apis/core/v1/helper/qos.
"""

from __future__ import annotations

import enum

from pyrun.spec.pod import PodSpec
from pyrun.spec.resources import ResourceRequirements


class QosClass(enum.Enum):
    """How much of what a Pod may use is kept for it."""

    GUARANTEED = "Guaranteed"
    BURSTABLE = "Burstable"
    BEST_EFFORT = "BestEffort"


def qos_class(spec: PodSpec) -> QosClass:
    """Return the class: of the Pod's own resources where it has some, else of all its containers."""
    if spec.resources is not None:
        return _class_of((spec.resources,))
    return _class_of(tuple(container.resources for container in spec.all_containers()))


def _class_of(resources: tuple[ResourceRequirements, ...]) -> QosClass:
    if not any(_says_something(one) for one in resources):
        return QosClass.BEST_EFFORT
    return QosClass.GUARANTEED if all(map(_is_guaranteed, resources)) else QosClass.BURSTABLE


def _says_something(resources: ResourceRequirements) -> bool:
    return any(
        amount is not None
        for given in (resources.requests, resources.limits)
        for amount in (given.cpu_millis, given.memory)
    )


def _is_guaranteed(resources: ResourceRequirements) -> bool:
    requests, limits = resources.requests, resources.limits
    if limits.cpu_millis is None or limits.memory is None:
        return False
    return (requests.cpu_millis, requests.memory) == (limits.cpu_millis, limits.memory)
