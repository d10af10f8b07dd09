"""Field references: what a container may be told about its own Pod.

Source: Kubernetes documentation "Downward API"; pkg/fieldpath and core/v1 validation of Kubernetes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

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

_SUBSCRIPT = re.compile(r"(.+?)\['(.*)'\]", re.DOTALL)


class FieldPath(NamedTuple):
    """A field, and the key of one of its entries; empty when the whole field is meant."""

    field: str
    key: str


def split_field_path(path: str) -> FieldPath:
    """Cut `metadata.labels['KEY']` into field and key; whether either is known is not asked."""
    match = _SUBSCRIPT.fullmatch(path)
    return FieldPath(match[1], match[2]) if match else FieldPath(path, "")
