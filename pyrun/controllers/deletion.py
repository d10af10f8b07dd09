"""Deleting objects as a command: asked for, and carried out by the supervisor, or here when none runs."""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from pyrun.controllers.ownership import released
from pyrun.controllers.running import supervisor
from pyrun.errors import Conflict, NotFound
from pyrun.plan.host import HostFacts
from pyrun.runtime.metadata import change_metadata
from pyrun.runtime.pods import PodDirectory, pod_directories, require_pod
from pyrun.runtime.stop import request_stop
from pyrun.runtime.terminate import terminate_pod
from pyrun.spec.layout import Layout
from pyrun.spec.object import ObjectKey, StoredObject
from pyrun.state.clock import now
from pyrun.state.events import EventLog, Reason, about_pod, happened
from pyrun.store.convert import json_value
from pyrun.store.objects import Store

MESSAGE = "it was deleted"


class Victim(msgspec.Struct, frozen=True, kw_only=True):
    """An object that shall go; `grace_seconds` None is its own grace period, `orphan` leaves what it owns."""

    key: ObjectKey
    uid: str
    grace_seconds: int | None = None
    orphan: bool = False


class Deletion:
    """Deletes objects of one instance, with its store when there is one."""

    def __init__(self, facts: HostFacts) -> None:
        self._facts = facts
        self._layout = facts.layout
        path = self._layout.store
        self._store = Store.open(path) if os.path.exists(path) else None

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()

    def ask(self, victim: Victim) -> None:
        """Persist that an object shall go. Gone already is success."""
        directory = PodDirectory(self._layout, victim.uid)
        stored = None if self._store is None else self._store.find(victim.key)
        if self._store is not None and stored is not None and stored.uid == victim.uid:
            grace = grace_of(stored) if victim.grace_seconds is None else victim.grace_seconds
            with suppress(NotFound):
                self._store.mark_deleted(victim.key, now(), grace, victim.orphan)
        if victim.key.kind == "Pod" and os.path.isdir(directory.path):
            with suppress(NotFound):
                self._stop(directory, victim.grace_seconds)

    def carry_out(self, victim: Victim) -> None:
        """Do what the supervisor would do, unless one runs; blocks until the object has gone."""
        if supervisor(self._layout) is not None:
            return
        if victim.key.kind == "Pod":
            self._end(PodDirectory(self._layout, victim.uid))
        else:
            owned = [pod for pod in pod_directories(self._layout) if _owned_by(pod, victim.uid)]
            for pod in owned:
                if victim.orphan:
                    change_metadata(pod, lambda metadata: released(metadata, victim.uid))
                else:
                    self._stop(pod, victim.grace_seconds)
            if not victim.orphan:
                for pod in owned:
                    self._end(pod)
        if self._store is not None:
            with suppress(Conflict):
                self._store.remove(victim.key, victim.uid)

    def gone(self, victim: Victim) -> bool:
        """Whether nothing is left of an object."""
        if self._store is not None:
            stored = self._store.find(victim.key)
            if stored is not None and stored.uid == victim.uid:
                return False
        return not os.path.isdir(PodDirectory(self._layout, victim.uid).path)

    def _stop(self, directory: PodDirectory, grace: int | None) -> None:
        """Ask a Pod to end and to go, and record that."""
        before = directory.stop()
        request_stop(directory, grace, Reason.KILLING, MESSAGE, remove=True)
        if before is None:
            pod = require_pod(directory)
            about, text = about_pod(directory.uid, pod), f"Stopping Pod {pod.metadata.name}: {MESSAGE}"
            EventLog(self._layout.root).append(happened(about, Reason.KILLING, text))

    def _end(self, directory: PodDirectory) -> None:
        if os.path.isdir(directory.path):
            with suppress(NotFound):
                terminate_pod(directory, self._facts)


def grace_of(stored: StoredObject) -> int:
    """Return the grace period of a Pod of the store, in seconds; that of a kind without one is 0."""
    spec = json_value(stored.spec)
    found = spec.get("terminationGracePeriodSeconds") if isinstance(spec, dict) else None
    return found if isinstance(found, int) else 0


def forget_applied(layout: Layout, directory: PodDirectory) -> None:
    """Take a Pod out of what shall be, as it is about to be removed by hand; otherwise it would be made again."""
    path = layout.store
    record = directory.record()
    if record is None or not os.path.exists(path):
        return
    metadata = record.pod.metadata
    with Store.open(path) as store, suppress(Conflict):
        key = ObjectKey(group="", kind="Pod", namespace=metadata.namespace, name=metadata.name)
        store.remove(key, directory.uid)


def _owned_by(pod: PodDirectory, uid: str) -> bool:
    record = pod.record()
    owners = record.pod.metadata.owner_references if record is not None else ()
    return any(owner.controller and owner.uid == uid for owner in owners)
