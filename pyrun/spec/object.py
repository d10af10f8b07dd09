"""Objects as the store keeps them: of any kind, with what Kubernetes' API machinery knows of each.

Source: Kubernetes API conventions ("Metadata", "Concurrency Control and Consistency"), meta/v1 ObjectMeta.
"""

from __future__ import annotations

import enum

import msgspec

from pyrun.spec.value import Value

Json = msgspec.Raw
"""A value as JSON text; the room of its kind reads and writes it."""

NO_FIELDS = Json(b"{}")
NO_ENTRIES = Json(b"[]")


class ObjectKey(Value, frozen=True, kw_only=True):
    """What an object is known by; the version of its API is no part of that. `group` is empty for core."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f'{self.kind} "{self.namespace}/{self.name}"'


class DesiredObject(Value, frozen=True, kw_only=True):
    """An object that a user wants, read and checked.

    `applied` is the whole object as it was given, `spec` its spec with all defaults.
    """

    key: ObjectKey
    version: str
    applied: Json
    spec: Json
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class StoredObject(Value, frozen=True, kw_only=True):
    """An object of the store.

    `resource_version` is that of its last change, `generation` counts the changes of its spec. Times are RFC
    3339. `deleted_at` is set once its deletion was asked for: it goes when its controller has done its part,
    and what it owns is left alone when `orphan`. `managed_fields` is kept for a server-side apply to come.
    """

    key: ObjectKey
    version: str
    uid: str
    resource_version: int
    generation: int
    created_at: str
    deleted_at: str = ""
    deletion_grace_seconds: int | None = None
    orphan: bool = False
    applied: Json
    spec: Json
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    status: Json = NO_FIELDS
    managed_fields: Json = NO_ENTRIES

    @property
    def api_version(self) -> str:
        """Group and version as a manifest writes them: `apps/v1`, `v1`."""
        return f"{self.key.group}/{self.version}" if self.key.group else self.version


class ChangeType(enum.Enum):
    """What a change did to an object (the event types of a Kubernetes watch)."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Change(Value, frozen=True, kw_only=True):
    """An entry of the watch log: the object after the change; as it was last, when it is deleted.

    `object.resource_version` is that of the change, of a deletion too.
    """

    type: ChangeType
    object: StoredObject
