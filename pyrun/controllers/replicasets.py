"""The loop over the ReplicaSets of the store: what was decided about each is begun here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from pyrun.controllers.context import Context
from pyrun.controllers.desired import Desired
from pyrun.controllers.making import Birth, make
from pyrun.controllers.ownership import adopted, owner_reference, pod_from_template, released
from pyrun.controllers.pods import PodUnit
from pyrun.controllers.ranking import PodSummary
from pyrun.controllers.replicaset import (
    BURST,
    REPLICA_FAILURE,
    UNSCHEDULABLE,
    Decision,
    DesiredSet,
    Now,
    Removal,
    decide,
    desired_set,
)
from pyrun.controllers.work import Work
from pyrun.controllers.workers import Failure
from pyrun.errors import Busy, ManifestError, NotFound, StateError
from pyrun.manifest.load import read_object
from pyrun.runtime.metadata import change_metadata
from pyrun.runtime.stop import request_stop
from pyrun.spec.event import ObjectReference
from pyrun.spec.object import Json, ObjectKey, StoredObject
from pyrun.spec.pod import Metadata
from pyrun.spec.replicaset import ReplicaSet
from pyrun.spec.status import Condition
from pyrun.state.clock import now
from pyrun.state.events import Reason
from pyrun.store.convert import object_value


class ReplicaSets:
    """What is kept from one look to the next: the work in flight of each set, by its uid."""

    def __init__(self, context: Context, desired: Desired, scan: Callable[[], None]) -> None:
        """`scan` takes up Pods that have appeared, so that one that was made is seen before it is looked for."""
        self._context = context
        self._desired = desired
        self._scan = scan
        self._work: dict[str, Work] = {}
        self._units: Mapping[str, PodUnit] = {}
        self._unreadable: set[str] = set()

    def sync(self, units: Mapping[str, PodUnit]) -> None:
        """Decide about every set and begin what was decided, if the store can be read."""
        objects = self._desired.objects("ReplicaSet")
        if objects is None:
            return
        self._units = units
        pods = [summary for unit in units.values() if (summary := unit.summary()) is not None]
        for stored in objects:
            desired = self._read(stored)
            if desired is not None:
                self._one(stored, desired, pods)
        for uid in self._work.keys() - {stored.uid for stored in objects}:
            del self._work[uid]

    def _read(self, stored: StoredObject) -> DesiredSet | None:
        """Return a set that can be read; of one that cannot the Pods are left as they are, and that is told once."""
        try:
            replica_set = read_object(object_value(stored))
            if isinstance(replica_set, ReplicaSet):
                return desired_set(stored, replica_set)
        except (ManifestError, StateError) as error:
            if stored.uid not in self._unreadable:
                self._unreadable.add(stored.uid)
                self._context.report(f"{stored.key} cannot be read, its Pods are left as they are: {error}")
        return None

    def _one(self, stored: StoredObject, desired: DesiredSet, pods: list[PodSummary]) -> None:
        work = self._seen(self._work.get(stored.uid, Work()))
        room = self._context.headroom.room(pod_from_template(desired.replica_set, stored.uid), BURST)
        decision = decide(desired, pods, work, Now(self._context.loop.clock(), now()), room)
        self._work[stored.uid] = decision.work
        self._change_owners(stored, desired, decision)
        for removal in decision.remove:
            self._remove(stored, removal)
        self._create(stored, desired.replica_set, decision.create)
        self._write(stored, desired, decision)
        timer = ("replicaset", stored.uid)
        if decision.wake_ns is None:
            self._context.loop.cancel(timer)
        else:
            self._context.loop.at(timer, decision.wake_ns, self._desired.changed)
        if decision.finished:
            self._desired.remove(stored.key, stored.uid)

    def _seen(self, work: Work) -> Work:
        """The work without the deletions that the view shows by now."""
        for uid in work.deleting:
            unit = self._units.get(uid)
            if unit is None or unit.terminating:
                work = work.deleted(uid)
        return work

    # Creations

    def _create(self, stored: StoredObject, replica_set: ReplicaSet, count: int) -> None:
        made = self._maker(stored)
        births = [make(self._context, pod_from_template(replica_set, stored.uid), made) for _ in range(count)]
        self._work[stored.uid] = self._work[stored.uid].begun(birth.pod.metadata.name for birth in births)

    def _maker(self, stored: StoredObject) -> Callable[[Birth, Failure | None], None]:
        return lambda birth, failure: self._made(stored, birth, failure)

    def _made(self, stored: StoredObject, birth: Birth, failure: Failure | None) -> None:
        name = birth.pod.metadata.name
        work = self._work.get(stored.uid, Work())
        if failure is None:
            self._scan()
            self._work[stored.uid] = work.created(name)
            self._tell(stored, Reason.SUCCESSFUL_CREATE, f"Created Pod: {name}")
        else:
            message = f'Error creating: Pod "{name}": {failure.sentence}'
            self._work[stored.uid] = work.create_failed(name, message, self._context.loop.clock())
            self._tell(stored, Reason.FAILED_CREATE, message)
        self._desired.changed()

    # Deletions and owners

    def _remove(self, stored: StoredObject, removal: Removal) -> None:
        unit = self._units.get(removal.uid)
        if unit is None or unit.pod is None:
            return
        name = unit.pod.metadata.name
        try:
            request_stop(unit.directory, None, "Killing", removal.message, remove=True)
        except NotFound:
            unit.soon()
            return
        except (StateError, Busy) as error:
            work = self._work[stored.uid]
            failed = work.delete_failed(removal.uid, error.sentence(), self._context.loop.clock())
            self._work[stored.uid] = failed
            self._tell(stored, Reason.FAILED_DELETE, f'Error deleting Pod "{name}": {error.sentence()}')
            return
        self._tell(stored, Reason.SUCCESSFUL_DELETE, f"Deleted Pod: {name}: {removal.message}")
        unit.soon()

    def _change_owners(self, stored: StoredObject, desired: DesiredSet, decision: Decision) -> None:
        reference = owner_reference(desired.replica_set, desired.uid)
        for uid in decision.adopt:
            self._change_owner(uid, lambda metadata: adopted(metadata, reference))
        for uid in decision.release:
            self._change_owner(uid, lambda metadata: released(metadata, stored.uid))

    def _change_owner(self, uid: str, change: Callable[[Metadata], Metadata]) -> None:
        unit = self._units.get(uid)
        key = ("owner", uid)
        if unit is None or self._context.workers.busy(key):
            return
        directory = unit.directory
        self._context.workers.start(key, lambda: change_metadata(directory, change), lambda _: unit.soon())

    # What is told

    def _write(self, stored: StoredObject, desired: DesiredSet, decision: Decision) -> None:
        text = msgspec.json.encode(decision.status)
        if bytes(stored.status) == text or decision.finished:
            return
        if self._desired.write_status(stored.key, stored.uid, Json(text)):
            lacking = _lacking(decision.status.conditions)
            if lacking and lacking != _lacking(desired.conditions):
                self._tell(stored, Reason.FAILED_SCHEDULING, lacking)

    def _tell(self, stored: StoredObject, reason: Reason, message: str) -> None:
        self._context.record(reference_to(stored.key, stored.uid), reason, message)


def _lacking(conditions: Iterable[Condition]) -> str:
    """What there is no room for, in words; empty when there is room."""
    kinds = (REPLICA_FAILURE, UNSCHEDULABLE)
    return next((one.message for one in conditions if (one.type, one.reason) == kinds), "")


def reference_to(key: ObjectKey, uid: str) -> ObjectReference:
    """Return what an event of an object of the store is about."""
    return ObjectReference(kind=key.kind, namespace=key.namespace, name=key.name, uid=uid)
