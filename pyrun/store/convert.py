"""Between an object as a manifest has it and as the store has it; the same for every kind."""

from __future__ import annotations

import msgspec

from pyrun.errors import InputError
from pyrun.manifest.scalars import Value
from pyrun.spec.object import DesiredObject, Json, ObjectKey, StoredObject


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Whole(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    metadata: _Metadata
    spec: Json


def desired_object(applied: Value, checked: Value) -> DesiredObject:
    """Return what the store shall hold: `applied` as it was given, `checked` the same with all defaults.

    Both are whole objects in Kubernetes' spelling; `checked` is what `manifest.dump` wrote. Raises
    InputError when it has no name: what is applied again must be found again.
    """
    whole = msgspec.json.decode(msgspec.json.encode(checked), type=_Whole)
    group, _, version = whole.api_version.rpartition("/")
    metadata = whole.metadata
    if not metadata.name:
        raise InputError(f"a {whole.kind} with generateName cannot be applied", hint="give it a name")
    return DesiredObject(
        key=ObjectKey(group=group, kind=whole.kind, namespace=metadata.namespace, name=metadata.name),
        version=version,
        applied=Json(msgspec.json.encode(applied)),
        spec=whole.spec,
        labels=metadata.labels,
        annotations=metadata.annotations,
    )


def object_value(stored: StoredObject) -> dict[str, Value]:
    """Return the whole object as the Kubernetes API shows it: metadata, spec with defaults, status."""
    metadata: dict[str, Value] = {
        "name": stored.key.name,
        "namespace": stored.key.namespace,
        "uid": stored.uid,
        "resourceVersion": str(stored.resource_version),
        "generation": stored.generation,
        "creationTimestamp": stored.created_at,
    }
    if stored.labels:
        metadata["labels"] = dict(stored.labels)
    if stored.annotations:
        metadata["annotations"] = dict(stored.annotations)
    if stored.deleted_at:
        metadata["deletionTimestamp"] = stored.deleted_at
        metadata["deletionGracePeriodSeconds"] = stored.deletion_grace_seconds
    if managed := json_value(stored.managed_fields):
        metadata["managedFields"] = managed
    whole: dict[str, Value] = {
        "apiVersion": stored.api_version,
        "kind": stored.key.kind,
        "metadata": metadata,
        "spec": json_value(stored.spec),
    }
    if status := json_value(stored.status):
        whole["status"] = status
    return whole


def json_value(text: Json) -> Value:
    """Return what a JSON text means."""
    value: Value = msgspec.json.decode(text)
    return value
