"""The store as the control loops see it: broken or missing it is no reason to stop looking after Pods."""

from __future__ import annotations

import os
from collections.abc import Callable

from pyrun.controllers.context import Context
from pyrun.errors import Busy, Conflict, NotFound, StateError
from pyrun.spec.object import Json, ObjectKey, StoredObject
from pyrun.store.objects import Store

STORE_TIMEOUT = 0.2
"""Seconds that the loop waits for other writers; then it looks again later."""


class Desired:
    """Desired state, read anew at each look. What cannot be read is told once; then nothing is decided by it."""

    def __init__(self, context: Context, path: str, changed: Callable[[], None]) -> None:
        """`changed` has everything that is desired looked at again, soon."""
        self.changed = changed
        self._context = context
        self._path = path
        self._store: Store | None = None
        self._told = ""

    def objects(self, kind: str) -> tuple[StoredObject, ...] | None:
        """The objects of a kind; None when the store cannot be read now."""
        try:
            store = self._open()
            found = store.list(kind) if store is not None else ()
        except (StateError, Busy) as error:
            self._complain(error.sentence())
            return None
        self._told = ""
        return found

    def write_status(self, key: ObjectKey, uid: str, status: Json) -> None:
        """Store what was observed of an object; not written, it is written after the next change."""
        try:
            store = self._open()
            if store is not None:
                store.update_status(key, uid, status)
        except (NotFound, Conflict):
            return  # it was deleted meanwhile
        except (StateError, Busy) as error:
            self._complain(error.sentence())

    def remove(self, key: ObjectKey, uid: str) -> None:
        """Remove an object whose deletion has come to its end."""
        try:
            store = self._open()
            if store is not None:
                store.remove(key, uid)
        except Conflict:
            return  # another one has its name by now
        except (StateError, Busy) as error:
            self._complain(error.sentence())

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _open(self) -> Store | None:
        if self._store is None and os.path.exists(self._path):
            self._store = Store.open(self._path, STORE_TIMEOUT)
        return self._store

    def _complain(self, sentence: str) -> None:
        self.close()
        if sentence != self._told:
            self._told = sentence
            self._context.report(f"{sentence}; Pods that run are looked after as before")
