"""Field references: what a container may be told about its own Pod.

Source: Kubernetes documentation "Downward API"; pkg/fieldpath and core/v1 validation of Kubernetes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pyrun.spec.resources import CPU, EPHEMERAL_STORAGE, MEMORY
from pyrun.spec.value import Value

FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
"""The fields that an environment variable may take its value from, whole."""

MAP_PATHS = ("metadata.labels", "metadata.annotations")
"""The fields of which it may take one entry: `metadata.labels['KEY']`."""

RESOURCES = tuple(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in (CPU, MEMORY, EPHEMERAL_STORAGE)
)
"""The requests and limits that it may be told."""

CPU_DIVISORS = {"1": 1000, "1m": 1}
"""What thousandths of a CPU can be divided by; the first is the default."""
BYTE_DIVISORS = {
    "1": 1,
    **{f"1{unit}": 1000**n for n, unit in enumerate("kMGTPE", 1)},
    **{f"1{unit}i": 1024**n for n, unit in enumerate("KMGTPE", 1)},
}
"""What bytes can be divided by; the first is the default."""

_SUBSCRIPT = re.compile(r"(.+?)\['(.*)'\]", re.DOTALL)


class FieldPath(NamedTuple):
    """A field, and the key of one of its entries; empty when the whole field is meant."""

    field: str
    key: str


class ResourceReference(Value, frozen=True, kw_only=True):
    """A request or limit, one of `RESOURCES`, of a container; of the one that is told it when `container` is empty.

    `divisor` is in thousandths of a CPU or in bytes.
    """

    resource: str
    divisor: int
    container: str = ""


def divisors(resource: str) -> dict[str, int]:
    """Return what the amount of one of `RESOURCES` can be divided by, in thousandths of a CPU or in bytes."""
    return CPU_DIVISORS if resource.endswith(f".{CPU}") else BYTE_DIVISORS


def split_field_path(path: str) -> FieldPath:
    """Cut `metadata.labels['KEY']` into field and key; whether either is known is not asked."""
    match = _SUBSCRIPT.fullmatch(path)
    return FieldPath(match[1], match[2]) if match else FieldPath(path, "")
