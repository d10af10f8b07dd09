"""Pods that were applied: the store says that they shall be, so they are made again when they have gone.

One that has come to its end (restartPolicy Never or OnFailure) is not made again; its status is kept in the
store, so that this outlives a reboot.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from pyrun.controllers.context import Context
from pyrun.controllers.desired import Desired
from pyrun.controllers.making import Birth, make
from pyrun.controllers.pods import PodUnit
from pyrun.controllers.refusal import is_lack_of_room, refused_status
from pyrun.controllers.workers import Failure
from pyrun.errors import Busy, ManifestError, NotFound, StateError
from pyrun.manifest.load import read_object
from pyrun.runtime.admission import unschedulable
from pyrun.runtime.metadata import change_metadata
from pyrun.runtime.stop import request_stop
from pyrun.spec.annotations import takes_best_effort
from pyrun.spec.effective import Shortage, effective_request
from pyrun.spec.object import Json, StoredObject
from pyrun.spec.pod import Metadata, Pod
from pyrun.spec.resources import ResourceList
from pyrun.spec.status import Phase, PodStatus
from pyrun.state.clock import now
from pyrun.state.events import Reason, about_pod
from pyrun.store.convert import object_value

SECOND = 1_000_000_000
MAX_RETRY_NS = 60 * SECOND
_OVER = (Phase.SUCCEEDED, Phase.FAILED)


class _Read(NamedTuple):
    """A Pod of the store as it was read when its spec had a generation, and what it needs to be free."""

    generation: int
    pod: Pod
    request: ResourceList

    def is_of(self, stored: StoredObject) -> bool:
        """Whether an object is still as it was read, its labels and annotations too."""
        metadata = self.pod.metadata
        said = (self.generation, metadata.labels, metadata.annotations)
        return said == (stored.generation, stored.labels, stored.annotations)


class StoredPods:
    """The loop over the Pods of the store.

    A Pod for which there is no room waits, without a timer, until a look finds some: whatever frees something has
    everything looked at. Those that wait are tried in the order in which they were applied, and one that fits does not
    wait for a larger one before it, as in Kubernetes.
    """

    def __init__(self, context: Context, desired: Desired, scan: Callable[[], None]) -> None:
        """`scan` takes up Pods that have appeared, so that one that was made is seen before it is looked for."""
        self._context = context
        self._desired = desired
        self._scan = scan
        self._making: set[str] = set()
        self._waiting: dict[str, _Read] = {}
        self._failures: dict[str, int] = {}
        self._written: dict[str, bytes] = {}
        self._unreadable: set[str] = set()

    def sync(self, units: Mapping[str, PodUnit]) -> None:
        """Compare each Pod of the store with the one on this host, if the store can be read."""
        objects = self._desired.objects("Pod")
        if objects is None:
            return
        for stored in sorted(objects, key=lambda stored: stored.created_at):
            self._one(stored, units.get(stored.uid))
        wanted = {stored.uid for stored in objects}
        for memory in (self._waiting, self._failures, self._written):
            for uid in memory.keys() - wanted:
                del memory[uid]

    def _one(self, stored: StoredObject, unit: PodUnit | None) -> None:
        if stored.uid in self._making:
            return
        if stored.deleted_at:
            self._delete(stored, unit)
        elif unit is None:
            self._make(stored)
        else:
            self._failures.pop(stored.uid, None)
            self._waiting.pop(stored.uid, None)
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
        """Begin to make a Pod, if there is room for it and it has not failed a moment ago."""
        if self._is_over(stored):
            return
        try:
            read = self._read(stored)
        except ManifestError as error:
            if not self._waits(stored.uid):
                self._write_refusal(stored, Failure(type(error).__name__, error.sentence()))
                self._retry(stored.uid)
            return
        if read is None:
            return
        lacking = self._lacking(read)
        if lacking:
            self._has_no_room(stored, read.pod, lacking)
        elif not self._waits(stored.uid):
            self._making.add(stored.uid)
            make(self._context, read.pod, functools.partial(self._made, stored), stored.uid)

    def _read(self, stored: StoredObject) -> _Read | None:
        """Return the Pod of an object; of one that waits it is kept, since it is looked at again and again."""
        known = self._waiting.get(stored.uid)
        if known is None or not known.is_of(stored):
            pod = read_object(object_value(stored))
            if not isinstance(pod, Pod):
                return None
            known = _Read(stored.generation, pod, effective_request(pod.spec))
            self._waiting[stored.uid] = known
        return known

    def _lacking(self, read: _Read) -> tuple[Shortage, ...]:
        return () if takes_best_effort(read.pod) else self._context.headroom.shortages(read.request)

    def _has_no_room(self, stored: StoredObject, pod: Pod, lacking: tuple[Shortage, ...]) -> None:
        """Wait for room. What failed before does not count any more: it is tried as soon as there is some."""
        self._failures.pop(stored.uid, None)
        self._context.loop.cancel(("make-again", stored.uid))
        error = unschedulable((pod,), lacking)
        self._refuse(stored, pod, Failure(type(error).__name__, error.sentence()))

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
            self._scan()
            return
        if is_lack_of_room(failure):  # something else came first; it is seen in a moment
            self._refuse(stored, birth.pod, failure)
        else:
            self._context.record(about_pod(birth.uid, birth.pod), Reason.FAILED_CREATE, failure.sentence)
            self._write_refusal(stored, failure)
        self._retry(stored.uid)

    def _retry(self, uid: str) -> None:
        """Try again later: after 1 s, doubling to 60 s."""
        count = self._failures.get(uid, 0)
        self._failures[uid] = count + 1
        self._again(uid, min(SECOND << min(count, 6), MAX_RETRY_NS))

    def _refuse(self, stored: StoredObject, pod: Pod, failure: Failure) -> None:
        """Say that there is no room, when something else was said before."""
        if self._write_refusal(stored, failure):
            self._context.record(about_pod(stored.uid, pod), Reason.FAILED_SCHEDULING, failure.sentence)

    def _write_refusal(self, stored: StoredObject, failure: Failure) -> bool:
        """Store that a Pod is Pending, and why; whether that was not stored before."""
        return self._write(stored, refused_status(failure, stored.status, now()))

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

    def _write(self, stored: StoredObject, status: PodStatus) -> bool:
        """Store the status when it has changed since it was written last; whether it was stored now."""
        text = msgspec.json.encode(status)
        if self._written.get(stored.uid, bytes(stored.status)) == text:
            return False
        if not self._desired.write_status(stored.key, stored.uid, Json(text)):
            return False
        self._written[stored.uid] = text
        return True


class _Stored(msgspec.Struct):
    phase: Phase = Phase.PENDING
