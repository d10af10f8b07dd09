"""Pods that were applied: the store says that they shall be, so they are made again when they have gone.

One that has come to its end (restartPolicy Never or OnFailure) is not made again; its status is kept in the
store, so that this outlives a reboot.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

from pyrun.controllers.context import Context
from pyrun.controllers.desired import Desired
from pyrun.controllers.making import Birth, make
from pyrun.controllers.pods import PodUnit
from pyrun.controllers.workers import Failure
from pyrun.errors import Busy, ManifestError, NotFound, StateError
from pyrun.manifest.load import read_object
from pyrun.runtime.metadata import change_metadata
from pyrun.runtime.stop import request_stop
from pyrun.spec.object import Json, StoredObject
from pyrun.spec.pod import Metadata, Pod
from pyrun.spec.status import Phase, PodStatus
from pyrun.state.events import Reason, about_pod
from pyrun.store.convert import object_value

SECOND = 1_000_000_000
MAX_RETRY_NS = 60 * SECOND
_OVER = (Phase.SUCCEEDED, Phase.FAILED)


class StoredPods:
    """The loop over the Pods of the store."""

    def __init__(self, context: Context, desired: Desired) -> None:
        self._context = context
        self._desired = desired
        self._making: set[str] = set()
        self._failures: dict[str, int] = {}
        self._written: dict[str, bytes] = {}
        self._unreadable: set[str] = set()

    def sync(self, units: Mapping[str, PodUnit]) -> None:
        """Compare each Pod of the store with the one on this host, if the store can be read."""
        for stored in self._desired.objects("Pod") or ():
            self._one(stored, units.get(stored.uid))

    def _one(self, stored: StoredObject, unit: PodUnit | None) -> None:
        if stored.uid in self._making:
            return
        if stored.deleted_at:
            self._delete(stored, unit)
        elif unit is None:
            self._make(stored)
        else:
            self._failures.pop(stored.uid, None)
            self._follow(stored, unit)

    def _delete(self, stored: StoredObject, unit: PodUnit | None) -> None:
        if unit is None:
            self._desired.remove(stored.key, stored.uid)
        elif unit.pod is not None and not (
            unit.observed and unit.observed.stop and unit.observed.stop.remove
        ):
            grace, why = stored.deletion_grace_seconds, "it was deleted"
            try:
                request_stop(unit.directory, grace, "Killing", why, remove=True)
            except NotFound:
                unit.soon()
            except (StateError, Busy):  # the disk is full, or somebody else asks for it right now
                self._again(stored.uid, SECOND)
            else:
                text = f"Stopping Pod {stored.key.name}: {why}"
                self._context.record(about_pod(unit.uid, unit.pod), Reason.KILLING, text)

    def _make(self, stored: StoredObject) -> None:
        if self._waits(stored.uid) or self._is_over(stored):
            return
        try:
            pod = read_object(object_value(stored))
        except ManifestError as error:
            self._failed(stored, error.sentence())
            return
        if isinstance(pod, Pod):
            self._making.add(stored.uid)
            make(self._context, pod, functools.partial(self._made, stored), stored.uid)

    def _is_over(self, stored: StoredObject) -> bool:
        """Whether the Pod has come to its end; one whose status cannot be read might have, which is told once."""
        try:
            return msgspec.json.decode(stored.status, type=_Stored).phase in _OVER
        except msgspec.DecodeError as error:
            if stored.uid not in self._unreadable:
                self._unreadable.add(stored.uid)
                text = f"the status of {stored.key} cannot be read, it is not made: {error}"
                self._context.report(f"{text}; delete and apply it again")
            return True

    def _made(self, stored: StoredObject, birth: Birth, failure: Failure | None) -> None:
        self._making.discard(birth.uid)
        if failure is None:
            self._desired.changed()
            return
        self._context.record(about_pod(birth.uid, birth.pod), Reason.FAILED_CREATE, failure.sentence)
        self._failed(stored, failure.sentence)

    def _failed(self, stored: StoredObject, sentence: str) -> None:
        """Try again later; until then the Pod is Pending, and its status says why."""
        count = self._failures.get(stored.uid, 0)
        self._failures[stored.uid] = count + 1
        self._again(stored.uid, min(SECOND << min(count, 6), MAX_RETRY_NS))
        status = PodStatus(
            phase=Phase.PENDING,
            conditions=(),
            reason="FailedCreate",
            message=sentence,
            container_statuses=(),
        )
        self._write(stored, status)

    def _again(self, uid: str, delay_ns: int) -> None:
        loop = self._context.loop
        loop.at(("make-again", uid), loop.clock() + delay_ns, self._desired.changed)

    def _waits(self, uid: str) -> bool:
        return self._context.loop.is_set(("make-again", uid))

    def _follow(self, stored: StoredObject, unit: PodUnit) -> None:
        """Give the Pod the labels and annotations of its object, and the object the status of the Pod."""
        if unit.pod is None or unit.status is None:
            return
        metadata = unit.pod.metadata
        if (metadata.labels, metadata.annotations) != (stored.labels, stored.annotations):
            self._relabel(stored, unit)
        self._write(stored, unit.status)

    def _relabel(self, stored: StoredObject, unit: PodUnit) -> None:
        key = ("metadata", unit.uid)
        if self._context.workers.busy(key):
            return

        def change(metadata: Metadata) -> Metadata:
            return msgspec.structs.replace(metadata, labels=stored.labels, annotations=stored.annotations)

        directory = unit.directory
        self._context.workers.start(key, lambda: change_metadata(directory, change), lambda _: unit.soon())

    def _write(self, stored: StoredObject, status: PodStatus) -> None:
        """Store the status when it has changed since it was written last."""
        text = msgspec.json.encode(status)
        if self._written.get(stored.uid) != text and self._desired.write_status(
            stored.key, stored.uid, Json(text)
        ):
            self._written[stored.uid] = text


class _Stored(msgspec.Struct):
    phase: Phase = Phase.PENDING
