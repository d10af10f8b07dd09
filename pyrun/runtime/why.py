"""`pod why`: what happened to a Pod, in the order of time, the cause in one sentence, and what to try next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import msgspec

from pyrun.errors import NotFound, StateError
from pyrun.runtime.catalog import stored_status
from pyrun.runtime.causes import verdict
from pyrun.runtime.history import History, Moment, time_line
from pyrun.runtime.observe import observe
from pyrun.runtime.oom import with_reports
from pyrun.runtime.pods import find, pod_directories, require_pod
from pyrun.runtime.status import pod_status
from pyrun.spec.event import Event, ObjectReference
from pyrun.spec.layout import Layout
from pyrun.spec.object import ObjectKey
from pyrun.spec.status import PodStatus
from pyrun.state.events import EventLog, Reason, about_pod
from pyrun.store.objects import Store


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The time line of a Pod, oldest first, its cause and the next command (empty: nothing to do)."""

    name: str
    moments: tuple[Moment, ...]
    cause: str
    command: str


def explain(history: History) -> Explanation:
    """Explain a Pod from what is known of it. Raises NotFound when nothing is."""
    if history.pod is None and history.status is None and not history.events:
        raise NotFound(f'there is no Pod "{history.name}", and no event of one', hint="see pyrun get pods")
    found = verdict(history)
    return Explanation(
        name=history.name, moments=time_line(history), cause=found.sentence, command=found.command
    )


def events_of_pod(log: EventLog, name: str, namespace: str) -> tuple[Event, ...]:
    """Return the events of the Pod that had a name last (or a uid, or the beginning of one)."""
    events = tuple(log.read())
    found = [event for event in events if _is_about(event.about, name, namespace)]
    return events_of_uid(events, found[-1].about) if found else ()


def _is_about(about: ObjectReference, name: str, namespace: str) -> bool:
    named = (about.name, about.namespace) == (name, namespace)
    return about.kind == "Pod" and (named or (len(name) >= 4 and about.uid.startswith(name)))


def events_of_uid(events: Iterable[Event], pod: ObjectReference) -> tuple[Event, ...]:
    """Return the events of one Pod in the order of time, and what its ReplicaSet says of having deleted it."""
    words = f"Deleted Pod: {pod.name}"
    found: list[Event] = []
    for event in events:
        about = event.about
        deleted = (
            about.kind != "Pod"
            and event.reason == Reason.SUCCESSFUL_DELETE
            and about.namespace == pod.namespace
        )
        # Of a Pod of the same name before this one it was said before this one's first event.
        if about.uid == pod.uid or (
            found and deleted and (event.message == words or event.message.startswith(f"{words}:"))
        ):
            found.append(event)
    return tuple(sorted(found, key=lambda event: event.time))


def history_of(layout: Layout, name: str, namespace: str, supervised: bool) -> History:
    """Return what is known of a Pod, of one that is gone too. Raises InputError, StateError."""
    log = EventLog(layout.root)
    try:
        directory = find(layout, name, namespace)
        observed = with_reports(directory, observe(directory))
        pod, status = require_pod(directory), pod_status(directory)
    except (NotFound, StateError):
        if any(directory.uid == name for directory in pod_directories(layout)):
            raise
        return gone(layout, name, namespace, supervised)
    metadata = pod.metadata
    return History(
        name=_title(metadata.name, metadata.namespace),
        pod=pod,
        status=status,
        observed=observed,
        events=events_of_uid(log.read(), about_pod(directory.uid, pod)),
        supervised=supervised,
        now=time.time(),
        now_ns=time.monotonic_ns(),
    )


def _title(name: str, namespace: str) -> str:
    return name if namespace == "default" else f"{namespace}/{name}"


def gone(layout: Layout, name: str, namespace: str, supervised: bool) -> History:
    """Return what is known of a Pod that is not on this host (any more)."""
    return History(
        name=_title(name, namespace),
        status=_wished(layout, name, namespace),
        events=events_of_pod(EventLog(layout.root), name, namespace),
        supervised=supervised,
        now=time.time(),
        now_ns=time.monotonic_ns(),
    )


def _wished(layout: Layout, name: str, namespace: str) -> PodStatus | None:
    if not os.path.exists(layout.store):
        return None
    with Store.open(layout.store) as store:
        stored = store.find(ObjectKey(group="", kind="Pod", namespace=namespace, name=name))
    return None if stored is None else stored_status(stored)
