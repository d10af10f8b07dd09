"""Changing the labels of a Pod that exists: the only thing of its record a user may change."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pyrun.runtime.pods import PodDirectory, pod_lock, require_record
from pyrun.state.records import write_record


def merge_labels(present: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return labels with changes: None takes one away."""
    merged: dict[str, str | None] = {**present, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def label_pod(pod: PodDirectory, changes: Mapping[str, str | None]) -> None:
    """Set labels of a Pod, and take away those that are None. Raises NotFound, StateError, Busy."""
    with pod_lock(pod):
        record = require_record(pod)
        metadata = record.pod.metadata
        labels = merge_labels(metadata.labels, changes)
        if labels != metadata.labels:
            changed = msgspec.structs.replace(
                record.pod, metadata=msgspec.structs.replace(metadata, labels=labels)
            )
            write_record(f"{pod.path}/pod.json", msgspec.structs.replace(record, pod=changed))
