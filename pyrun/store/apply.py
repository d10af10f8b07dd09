"""What users do to objects of the store: apply, scale, label. The same for every kind.

Fields that others have set stay: the number of replicas when the applied text does not name it (so that `scale`
lasts), labels, annotations and resources (of `pod resize`) that no applied text has named.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from pyrun.errors import Conflict, InputError, NotFound
from pyrun.manifest.scalars import Value
from pyrun.spec.object import DesiredObject, Json, ObjectKey, StoredObject
from pyrun.store.convert import json_value
from pyrun.store.immutable import refuse_changes
from pyrun.store.kept import kept_resources, with_container_resources
from pyrun.store.objects import Store

_ATTEMPTS = 5
MAX_REPLICAS = 2**31 - 1


class Outcome(enum.Enum):
    """What apply did, in the words of kubectl."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


class Applied(NamedTuple):
    """An object after it was applied."""

    outcome: Outcome
    object: StoredObject


def apply(store: Store, desired: DesiredObject, at: str) -> Applied:
    """Create an object (`at`, RFC 3339), or make the one of its name as it is desired.

    Raises ManifestError for a field that cannot change, Conflict when the object is being deleted.
    """
    for _ in range(_ATTEMPTS):
        try:
            if store.find(desired.key) is None:
                return Applied(Outcome.CREATED, store.create(desired, at))
            before, after = store.edit(desired.key, lambda present: _configured(present, desired))
            return Applied(Outcome.UNCHANGED if after == before else Outcome.CONFIGURED, after)
        except (NotFound, Conflict) as error:  # deleted or created by another process in between
            failure = error
    raise failure


def _configured(present: StoredObject, desired: DesiredObject) -> StoredObject:
    if present.deleted_at:
        raise Conflict(f"{present.key} is being deleted", hint="wait until it has gone, then apply it again")
    spec = _spec(present, desired)
    refuse_changes(present.key, present.spec, spec)
    before = json_value(present.applied)
    return msgspec.structs.replace(
        present,
        version=desired.version,
        applied=desired.applied,
        spec=spec,
        labels=_merged(present.labels, before, "labels", desired.labels),
        annotations=_merged(present.annotations, before, "annotations", desired.annotations),
    )


def _spec(present: StoredObject, desired: DesiredObject) -> Json:
    """The desired spec; with the replicas there are, when the text that was applied does not name them, and with the
    resources of a Pod that others have set.
    """
    wanted, live = json_value(desired.spec), json_value(present.spec)
    if present.key.kind == "Pod":
        texts = json_value(present.applied), json_value(desired.applied)
        return Json(msgspec.json.encode(kept_resources(live, wanted, *texts)))
    named = _fields(_fields(json_value(desired.applied)).get("spec")).get("replicas") is not None
    if named or not isinstance(wanted, dict) or not isinstance(live, dict) or "replicas" not in live:
        return desired.spec
    return Json(msgspec.json.encode(wanted | {"replicas": live["replicas"]}))


def _merged(live: Mapping[str, str], before: Value, name: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """What is wanted, and what is there but was not applied before."""
    ours = _fields(_fields(_fields(before).get("metadata")).get(name))
    return {key: value for key, value in live.items() if key not in ours} | dict(wanted)


def _fields(value: Value) -> dict[str, Value]:
    return value if isinstance(value, dict) else {}


def scale(store: Store, key: ObjectKey, replicas: int) -> StoredObject:
    """Set how many replicas an object shall have. Raises NotFound, InputError for a number that cannot be."""
    if not 0 <= replicas <= MAX_REPLICAS:
        raise InputError(f"replicas must be between 0 and {MAX_REPLICAS}, got {replicas}")

    def scaled(present: StoredObject) -> StoredObject:
        spec = json_value(present.spec)
        if not isinstance(spec, dict) or "replicas" not in spec:
            raise InputError(f"{key} has no replicas that could be scaled")
        return msgspec.structs.replace(present, spec=Json(msgspec.json.encode(spec | {"replicas": replicas})))

    return store.edit(key, scaled).after


def label(store: Store, key: ObjectKey, labels: Mapping[str, str | None]) -> StoredObject:
    """Set labels of an object, and take away those that are None. Raises NotFound."""

    def labelled(present: StoredObject) -> StoredObject:
        merged = {**present.labels, **labels}
        kept = {name: value for name, value in merged.items() if value is not None}
        return msgspec.structs.replace(present, labels=kept)

    return store.edit(key, labelled).after


def resize(store: Store, key: ObjectKey, uid: str, resources: Mapping[str, Value]) -> StoredObject | None:
    """Set the resources of containers, by their names, of the Pod with this uid; None when the store has no such Pod.

    The applied text stays: applied again, it has its own resources again.
    """

    def resized(present: StoredObject) -> StoredObject:
        if present.uid != uid:
            raise NotFound(f"{key} of the store is another one")
        if present.deleted_at:
            raise Conflict(
                f"{present.key} is being deleted", hint="wait until it has gone, then apply it again"
            )
        spec = with_container_resources(json_value(present.spec), resources)
        refuse_changes(key, present.spec, wanted := Json(msgspec.json.encode(spec)))
        return msgspec.structs.replace(present, spec=wanted)

    try:
        return store.edit(key, resized).after
    except NotFound:
        return None
