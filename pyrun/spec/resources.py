"""What containers and Pods ask for and may use: requests and limits, and what a host has.

CPUs are thousandths of one, everything else is bytes; None means that nothing is said.
Source: Kubernetes API reference, core/v1 ResourceRequirements and ContainerResizePolicy.
"""

from __future__ import annotations

import enum

from pyrun.spec.hugepages import format_page_size
from pyrun.spec.quantity import format_bytes, format_milli_cpu
from pyrun.spec.value import Value

CPU = "cpu"
MEMORY = "memory"
EPHEMERAL_STORAGE = "ephemeral-storage"
HUGEPAGES_PREFIX = "hugepages-"


class ResourceList(Value, frozen=True, kw_only=True):
    """An amount of each resource. `hugepages` are pairs of page size and bytes, by page size."""

    cpu_millis: int | None = None
    memory: int | None = None
    ephemeral_storage: int | None = None
    hugepages: tuple[tuple[int, int], ...] = ()


class ResourceRequirements(Value, frozen=True, kw_only=True):
    """What is kept for a container or a Pod, and the most it may use. Requests have their defaults already."""

    requests: ResourceList = ResourceList()
    limits: ResourceList = ResourceList()


class RestartOnResize(enum.Enum):
    """Whether a container must be restarted to see a changed resource."""

    NOT_REQUIRED = "NotRequired"
    RESTART_CONTAINER = "RestartContainer"


class ResizableResource(enum.Enum):
    """The resources that can be changed while a container runs."""

    CPU = "cpu"
    MEMORY = "memory"


class ResizePolicy(Value, frozen=True, kw_only=True):
    """What a change of one resource does to a container."""

    resource: ResizableResource
    restart: RestartOnResize


class Capacity(Value, frozen=True, kw_only=True):
    """What a host has. `ephemeral_storage` None is not known, and not counted."""

    cpu_millis: int
    memory: int
    ephemeral_storage: int | None = None
    hugepages: tuple[tuple[int, int], ...] = ()


def amounts(resources: ResourceList | Capacity) -> dict[str, int]:
    """Return what a list says, by the names that Kubernetes has for resources."""
    found = {
        CPU: resources.cpu_millis,
        MEMORY: resources.memory,
        EPHEMERAL_STORAGE: resources.ephemeral_storage,
        **{f"{HUGEPAGES_PREFIX}{format_page_size(size)}": amount for size, amount in resources.hugepages},
    }
    return {name: amount for name, amount in found.items() if amount is not None}


def format_amount(resource: str, amount: int) -> str:
    """Write an amount of a resource as a quantity."""
    return format_milli_cpu(amount) if resource == CPU else format_bytes(amount)
