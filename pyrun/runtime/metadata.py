"""Changing the metadata of a Pod that exists: its labels, annotations and owners."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pyrun.runtime.pods import PodDirectory, pod_lock
from pyrun.spec.pod import Metadata
from pyrun.state.records import write_record


def change_metadata(pod: PodDirectory, change: Callable[[Metadata], Metadata]) -> None:
    """Write what `change` makes of the Pod's metadata. Raises NotFound, Busy, StateError."""
    with pod_lock(pod):
        record = pod.record()
        if record is None:
            return  # being made: whoever makes it has not got so far
        metadata = change(record.pod.metadata)
        if metadata != record.pod.metadata:
            changed = msgspec.structs.replace(record.pod, metadata=metadata)
            write_record(f"{pod.path}/pod.json", msgspec.structs.replace(record, pod=changed))
