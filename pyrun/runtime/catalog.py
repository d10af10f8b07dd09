"""All objects of an instance as they are listed: Pods that exist, Pods and ReplicaSets that are wished for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from pyrun.errors import ManifestError, StateError
from pyrun.manifest.load import read_object
from pyrun.runtime.view import PodView, ViewMetadata, list_pods
from pyrun.spec.layout import Layout
from pyrun.spec.object import StoredObject
from pyrun.spec.status import Phase, PodStatus
from pyrun.store.convert import object_value
from pyrun.store.objects import Store


class Catalog:
    """Reads the objects of an instance. The store is opened once, and only if there is one.

    `unreadable` says why the store could not be read: what runs is listed all the same. `broken` says of which
    Pods the records could not be read.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._store: Store | None = None
        self.unreadable: StateError | None = None
        self.broken: list[StateError] = []

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def pods(self) -> tuple[PodView, ...]:
        """Return the Pods that exist, oldest first, and those that were applied and are not made yet."""
        self.broken = []
        found = list_pods(self._layout, self.broken.append)
        names = {(view.metadata.namespace, view.metadata.name) for view in found}
        applied = self._objects("Pod")
        marked = {(o.key.namespace, o.key.name): o for o in applied if o.deleted_at}
        waiting = tuple(o for o in applied if (o.key.namespace, o.key.name) not in names)
        return (
            *(_marked(view, marked) for view in found),
            *(_pending(stored) for stored in self._readable(waiting)),
        )

    def replica_sets(self) -> tuple[StoredObject, ...]:
        """Return the ReplicaSets, by namespace and name."""
        return self._objects("ReplicaSet")

    def _objects(self, kind: str) -> tuple[StoredObject, ...]:
        try:
            if self._store is None and os.path.exists(self._layout.store):
                self._store = Store.open(self._layout.store)
            return () if self._store is None else self._store.list(kind)
        except StateError as error:
            self.unreadable = error
            return ()

    def _readable(self, applied: tuple[StoredObject, ...]) -> Iterator[StoredObject]:
        """Yield the Pods whose spec is one; the others are told like a store that cannot be read."""
        for stored in applied:
            try:
                read_object(object_value(stored))
            except ManifestError as error:
                self.unreadable = StateError(f"{stored.key} of the store cannot be read: {error}")
            else:
                yield stored


def _marked(view: PodView, marked: dict[tuple[str, str], StoredObject]) -> PodView:
    """The deletion of an applied Pod is known before the Pod itself is asked to go."""
    stored = marked.get((view.metadata.namespace, view.metadata.name))
    if stored is None or view.metadata.deletion_timestamp:
        return view
    metadata = msgspec.structs.replace(
        view.metadata,
        deletion_timestamp=stored.deleted_at,
        deletion_grace_period_seconds=stored.deletion_grace_seconds,
    )
    return msgspec.structs.replace(view, metadata=metadata)


def _pending(stored: StoredObject) -> PodView:
    """A Pod that was applied and of which nothing is made yet, or nothing is left but how it ended."""
    value: Any = object_value(stored)
    return PodView(
        metadata=ViewMetadata(
            name=stored.key.name,
            namespace=stored.key.namespace,
            uid=stored.uid,
            creation_timestamp=stored.created_at,
            deletion_timestamp=stored.deleted_at,
            deletion_grace_period_seconds=stored.deletion_grace_seconds,
            labels=stored.labels,
            annotations=stored.annotations,
        ),
        spec=value["spec"],
        status=stored_status(stored),
    )


def stored_status(stored: StoredObject) -> PodStatus:
    """Return the status that the store keeps of a Pod that is not on this host (yet, or any more)."""
    try:
        return msgspec.json.decode(stored.status, type=PodStatus)
    except msgspec.DecodeError:  # nothing has been written yet
        return PodStatus(phase=Phase.PENDING, conditions=(), container_statuses=())
