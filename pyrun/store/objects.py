"""The store: objects by key, one resourceVersion over all of them, and the log of their changes.

Semantics are those of the Kubernetes API: optimistic concurrency by resourceVersion, a generation that grows
with the spec alone, a change that changes nothing is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from pyrun.errors import Conflict, NotFound, StateError, TooOld
from pyrun.spec.object import Change, ChangeType, DesiredObject, Json, ObjectKey, StoredObject
from pyrun.store.database import Database, Durability, open_database

if TYPE_CHECKING:
    import sqlite3

LOG_LENGTH = 10_000
"""Changes that the watch log keeps."""

TIMEOUT = 5.0
"""Seconds a write waits for those of other processes."""


class Edited(NamedTuple):
    """An object before and after a change; equal when nothing has changed."""

    before: StoredObject
    after: StoredObject


class Store:
    """The desired state of one instance. Several processes may have it open, a forked child must not use it.

    Every write is one transaction: it is there whole after it has returned, or not at all. Every method raises
    StateError when the database cannot be read or written, Busy when others write for too long.
    After each write `<path>-changed` is modified, which others can watch with inotify(7); what has changed is then
    said by `changes_since`.
    """

    def __init__(self, database: Database, log_length: int) -> None:
        self._database = database
        self._log_length = log_length

    @classmethod
    def open(cls, path: str, timeout: float = TIMEOUT, log_length: int = LOG_LENGTH) -> Self:
        """Open the store, or make it when there is none. Raises StateError when it is damaged or too new."""
        return cls(open_database(path, timeout), log_length)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; does nothing in a forked child."""
        self._database.close()

    @property
    def path(self) -> str:
        """The database file."""
        return self._database.path

    def verify(self) -> None:
        """Read and check all of the database. Raises StateError with what is wrong."""
        self._database.verify()

    def resource_version(self) -> int:
        """The version of the last change; 0 when there was none."""
        with self._database.reading() as connection:
            return _last_version(connection)

    def find(self, key: ObjectKey) -> StoredObject | None:
        """Return an object, None when there is none."""
        with self._database.reading() as connection:
            return _find(connection, key, self.path)

    def get(self, key: ObjectKey) -> StoredObject:
        """Return an object. Raises NotFound."""
        with self._database.reading() as connection:
            return _require(connection, key, self.path)

    def list(self, kind: str, namespace: str | None = None) -> tuple[StoredObject, ...]:
        """Return the objects of a kind in the order of their names, of all namespaces when None is given.

        To follow them from here, ask for `resource_version` first: what changes in between is then seen twice,
        and nothing is missed.
        """
        where, values = ("", (kind,)) if namespace is None else (" AND namespace = ?", (kind, namespace))
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT body FROM objects WHERE kind = ?{where} ORDER BY namespace, name", values
            ).fetchall()
        return tuple(_decode(body, self.path) for (body,) in rows)

    def create(self, desired: DesiredObject, at: str) -> StoredObject:
        """Store a new object, created `at` (RFC 3339). Raises Conflict when its name is taken."""
        import uuid  # costs start-up time

        with self._database.writing(Durability.FULL) as connection:
            if _find(connection, desired.key, self.path) is not None:
                raise Conflict(
                    f"{desired.key} exists already", hint="change it with apply, or delete it first"
                )
            created = StoredObject(
                key=desired.key,
                version=desired.version,
                uid=str(uuid.uuid4()),
                resource_version=_last_version(connection) + 1,
                generation=1,
                created_at=at,
                applied=desired.applied,
                spec=desired.spec,
                labels=desired.labels,
                annotations=desired.annotations,
            )
            return self._write(connection, ChangeType.ADDED, created)

    def update(self, changed: StoredObject, expected_resource_version: int) -> StoredObject:
        """Store what a user may change of an object that was read before, as `edit` does.

        Raises NotFound, and Conflict when the object is not the one that was read: then read it again and
        repeat.
        """

        def check(present: StoredObject) -> StoredObject:
            _require_uid(present, changed.uid)
            if present.resource_version != expected_resource_version:
                raise Conflict(
                    f"{changed.key} has changed since it was read: its resourceVersion was "
                    f"{expected_resource_version} and is {present.resource_version}",
                    hint="read it again and repeat the change",
                )
            return changed

        return self.edit(changed.key, check).after

    def edit(self, key: ObjectKey, change: Callable[[StoredObject], StoredObject]) -> Edited:
        """Change an object as it is now; nobody else writes while `change` looks at it.

        Taken from what it returns: applied text, spec, labels, annotations, version, managed fields.
        What it returns is not written when it means the same as before. Raises NotFound and what `change`
        raises; then nothing is written.
        """
        with self._database.writing(Durability.FULL) as connection:
            present = _require(connection, key, self.path)
            changed = change(present)
            spec_is_same = same_json(present.spec, changed.spec)
            wanted = msgspec.structs.replace(
                present,
                version=changed.version,
                generation=present.generation + (0 if spec_is_same else 1),
                applied=present.applied if same_json(present.applied, changed.applied) else changed.applied,
                spec=present.spec if spec_is_same else changed.spec,
                labels=changed.labels,
                annotations=changed.annotations,
                managed_fields=changed.managed_fields,
            )
            return Edited(present, self._modify(connection, present, wanted))

    def update_status(self, key: ObjectKey, uid: str, status: Json) -> StoredObject:
        """Store what was observed of an object; a power failure may take it back.

        Raises NotFound, and Conflict when the name is another object's by now.
        """
        with self._database.writing(Durability.NORMAL) as connection:
            present = _require(connection, key, self.path)
            _require_uid(present, uid)
            if same_json(present.status, status):
                return present
            return self._modify(connection, present, msgspec.structs.replace(present, status=status))

    def mark_deleted(self, key: ObjectKey, at: str, grace_seconds: int, orphan: bool) -> StoredObject:
        """Store that an object shall go; its controller removes it when what it owns has gone.

        When that was stored before, the first time and `orphan` stay, and the grace period can only shrink.
        Raises NotFound.
        """
        with self._database.writing(Durability.FULL) as connection:
            present = _require(connection, key, self.path)
            if present.deleted_at:
                grace = min(grace_seconds, present.deletion_grace_seconds or 0)
                wanted = msgspec.structs.replace(present, deletion_grace_seconds=grace)
            else:
                wanted = msgspec.structs.replace(
                    present, deleted_at=at, deletion_grace_seconds=grace_seconds, orphan=orphan
                )
            return self._modify(connection, present, wanted)

    def remove(self, key: ObjectKey, uid: str) -> None:
        """Remove an object; gone is success. Raises Conflict when another one has its name by now."""
        with self._database.writing(Durability.FULL) as connection:
            present = _find(connection, key, self.path)
            if present is None:
                return
            _require_uid(present, uid)
            connection.execute(
                'DELETE FROM objects WHERE "group" = ? AND kind = ? AND namespace = ? AND name = ?',
                _columns(key),
            )
            version = _last_version(connection) + 1
            last = msgspec.structs.replace(present, resource_version=version)
            self._log(connection, ChangeType.DELETED, last)

    def changes_since(self, resource_version: int) -> tuple[Change, ...]:
        """Return the changes after a version, in their order.

        Raises TooOld when the log does not go back so far, or has never been there: list all again.
        """
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT resource_version, type, body FROM changes WHERE resource_version > ? "
                "ORDER BY resource_version",
                (resource_version,),
            ).fetchall()
            # Versions have no gaps: the first one tells whether some before it were pruned.
            lost = rows[0][0] > resource_version + 1 if rows else _last_version(connection) < resource_version
            if lost:
                raise TooOld(
                    f"the changes after resourceVersion {resource_version} are not known any more",
                    hint="list the objects again",
                )
        return tuple(Change(type=ChangeType(word), object=_decode(body, self.path)) for _, word, body in rows)

    def _modify(
        self, connection: sqlite3.Connection, present: StoredObject, wanted: StoredObject
    ) -> StoredObject:
        """Write what has changed under the next version, if anything has."""
        if wanted == present:
            return present
        version = _last_version(connection) + 1
        return self._write(
            connection, ChangeType.MODIFIED, msgspec.structs.replace(wanted, resource_version=version)
        )

    def _write(
        self, connection: sqlite3.Connection, change: ChangeType, written: StoredObject
    ) -> StoredObject:
        connection.execute(
            'INSERT INTO objects ("group", kind, namespace, name, body) VALUES (?, ?, ?, ?, ?) '
            'ON CONFLICT ("group", kind, namespace, name) DO UPDATE SET body = excluded.body',
            (*_columns(written.key), msgspec.json.encode(written)),
        )
        self._log(connection, change, written)
        return written

    def _log(self, connection: sqlite3.Connection, change: ChangeType, written: StoredObject) -> None:
        version = written.resource_version
        connection.execute(
            "INSERT INTO changes (resource_version, type, body) VALUES (?, ?, ?)",
            (version, change.value, msgspec.json.encode(written)),
        )
        connection.execute("DELETE FROM changes WHERE resource_version <= ?", (version - self._log_length,))


def same_json(one: Json, other: Json) -> bool:
    """Whether two JSON texts mean the same value; the order of fields is nothing."""
    return one == other or _sorted(one) == _sorted(other)


def _sorted(text: Json) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(text), order="sorted")


def _columns(key: ObjectKey) -> tuple[str, str, str, str]:
    return key.group, key.kind, key.namespace, key.name


def _last_version(connection: sqlite3.Connection) -> int:
    """The version of the last entry of the log; there is always one once there was a change."""
    (version,) = connection.execute("SELECT max(resource_version) FROM changes").fetchone()
    return int(version or 0)


def _find(connection: sqlite3.Connection, key: ObjectKey, path: str) -> StoredObject | None:
    row = connection.execute(
        'SELECT body FROM objects WHERE "group" = ? AND kind = ? AND namespace = ? AND name = ?',
        _columns(key),
    ).fetchone()
    return None if row is None else _decode(row[0], path)


def _require(connection: sqlite3.Connection, key: ObjectKey, path: str) -> StoredObject:
    present = _find(connection, key, path)
    if present is None:
        raise NotFound(f"no {key} exists", hint=f"see pyrun get {key.kind.lower()}s")
    return present


def _require_uid(present: StoredObject, uid: str) -> None:
    if present.uid != uid:
        raise Conflict(
            f"{present.key} has been deleted and made anew since it was read",
            hint="read it again and repeat the change",
        )


def _decode(body: bytes, path: str) -> StoredObject:
    try:
        return msgspec.json.decode(body, type=StoredObject)
    except msgspec.DecodeError as error:
        raise StateError(
            f"an object of the store {path} cannot be read: {error}",
            hint="it is of another version of pyrun, or damaged; nothing was deleted",
        ) from error
