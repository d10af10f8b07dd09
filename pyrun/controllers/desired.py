"""The store as the control loops see it: broken or missing it is no reason to stop looking after Pods."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from pyrun.controllers.context import Context
from pyrun.errors import Busy, Conflict, NotFound, StateError
from pyrun.spec.object import Json, ObjectKey, StoredObject
from pyrun.store.objects import Store

STORE_TIMEOUT = 0.2
"""Seconds that the loop waits for other writers; then it looks again later."""

RETRY_NS = 5_000_000_000
"""How long what went wrong is not tried again: closing and opening the store wakes who watches it."""


class _Trouble(NamedTuple):
    """What went wrong, and until when (CLOCK_MONOTONIC ns) that is not tried again."""

    sentence: str
    not_before_ns: int


class Desired:
    """Desired state, read anew at each look. What cannot be read is told once; then nothing is decided by it."""

    def __init__(self, context: Context, path: str, changed: Callable[[], None]) -> None:
        """`changed` has everything that is desired looked at again, soon."""
        self.changed = changed
        self._context = context
        self._path = path
        self._store: Store | None = None
        self._troubles: dict[str, _Trouble] = {}

    def objects(self, kind: str) -> tuple[StoredObject, ...] | None:
        """The objects of a kind; None when they cannot be read now: then they are looked at again later."""
        found: list[tuple[StoredObject, ...]] = []
        if not self._use(kind, lambda store: found.append(store.list(kind))):
            return None
        return found[0] if found else ()

    def write_status(self, key: ObjectKey, uid: str, status: Json) -> bool:
        """Store what was observed of an object; False when it must be given again at the next look."""
        return self._use("writing", lambda store: store.update_status(key, uid, status))

    def remove(self, key: ObjectKey, uid: str) -> None:
        """Remove an object whose deletion has come to its end."""
        self._use("writing", lambda store: store.remove(key, uid))

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _use(self, doing: str, use: Callable[[Store], object]) -> bool:
        """Do something with the store, if there is one; False when that went wrong, or did a moment ago."""
        trouble = self._troubles.get(doing)
        if trouble is not None and self._context.loop.clock() < trouble.not_before_ns:
            return False
        try:
            store = self._open()
            if store is not None:
                use(store)
        except (NotFound, Conflict):
            pass  # it was deleted meanwhile, or another one has its name by now
        except (StateError, Busy) as error:
            self._complain(doing, error.sentence())
            return False
        self._troubles.pop(doing, None)
        return True

    def _open(self) -> Store | None:
        if self._store is None and os.path.exists(self._path):
            self._store = Store.open(self._path, STORE_TIMEOUT)
        return self._store

    def _complain(self, doing: str, sentence: str) -> None:
        """Tell what is wrong, unless that was said and has not ended since; have it looked at again later."""
        self.close()
        if all(sentence != trouble.sentence for trouble in self._troubles.values()):
            self._context.report(f"{sentence}; Pods that run are looked after as before")
        later = self._context.loop.clock() + RETRY_NS
        self._troubles[doing] = _Trouble(sentence, later)
        self._context.loop.at(("store", doing), later, self.changed)
