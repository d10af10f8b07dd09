"""Objects as lines of a table, with the columns of kubectl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyrun.cli.durations import human
from pyrun.cli.kinds import Kind
from pyrun.manifest.selectors import format_selector
from pyrun.runtime.clock import parse_rfc3339
from pyrun.runtime.view import PodView
from pyrun.spec.object import StoredObject
from pyrun.spec.selector import Operator, Requirement, Selector
from pyrun.spec.status import ContainerStatus
from pyrun.state.events import Repeated
from pyrun.store.convert import object_value

HEADERS: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Kind.POD: (("NAME", "READY", "STATUS", "RESTARTS", "AGE"), ("IP", "ID", "CONTAINERS", "IMAGES")),
    Kind.REPLICA_SET: (("NAME", "DESIRED", "CURRENT", "READY", "AGE"), ("CONTAINERS", "IMAGES", "SELECTOR")),
    Kind.EVENT: (("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"), ("SOURCE", "FIRST SEEN", "COUNT")),
}
"""The columns of each kind, and those that `-o wide` adds."""


class Row(NamedTuple):
    """An object with its cells; `value` is what `-o json` prints."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    cells: tuple[str, ...]
    wide: tuple[str, ...]
    value: Any


def pod_row(view: PodView, now: float) -> Row:
    """Return a Pod as a line; `now` in seconds since 1970."""
    status, metadata = view.status, view.metadata
    statuses = status.container_statuses
    count = len(view.spec["containers"])
    cells = (
        metadata.name,
        f"{sum(s.ready for s in statuses)}/{count}",
        view.display_status(),
        _restarts((*status.init_container_statuses, *statuses), now),
        human(now - view.created()),
    )
    names = ",".join(c["name"] for c in view.spec["containers"])
    images = ",".join(c["image"] for c in view.spec["containers"])
    wide = (status.pod_ip or "<none>", metadata.uid[:8], names, images)
    return Row(Kind.POD, metadata.namespace, metadata.name, metadata.uid, metadata.labels, cells, wide, view)


def _restarts(statuses: Sequence[ContainerStatus], now: float) -> str:
    """Return how often containers were started again, and when that was last."""
    total = sum(status.restart_count for status in statuses)
    ends = [
        ended.finished_at
        for status in statuses
        if status.restart_count and (ended := status.last_state.terminated) is not None and ended.finished_at
    ]
    if not total or not ends:
        return str(total)
    return f"{total} ({human(now - max(map(parse_rfc3339, ends)))} ago)"


def set_row(stored: StoredObject, now: float) -> Row:
    """Return a ReplicaSet as a line."""
    value: Any = object_value(stored)
    spec, status = value["spec"], value.get("status", {})
    containers = spec["template"]["spec"]["containers"]
    cells = (
        stored.key.name,
        str(spec.get("replicas", 1)),
        str(status.get("replicas", 0)),
        str(status.get("readyReplicas", 0)),
        human(now - parse_rfc3339(stored.created_at)),
    )
    wide = (
        ",".join(c["name"] for c in containers),
        ",".join(c["image"] for c in containers),
        format_selector(selector_of(spec["selector"])) or "<none>",
    )
    key = stored.key
    return Row(Kind.REPLICA_SET, key.namespace, key.name, stored.uid, dict(stored.labels), cells, wide, value)


def selector_of(value: Any) -> Selector:
    """Return the selector that a spec holds in Kubernetes' spelling."""
    return Selector(
        match_labels=value.get("matchLabels", {}),
        match_expressions=tuple(
            Requirement(
                key=item["key"], operator=Operator(item["operator"]), values=tuple(item.get("values", ()))
            )
            for item in value.get("matchExpressions", ())
        ),
    )


def event_row(found: Repeated, now: float) -> Row:
    """Return an event as a line."""
    event, about = found.event, found.event.about
    title = f"{about.kind.lower()}/{about.name}"
    seen = human(now - parse_rfc3339(event.time))
    first = human(now - parse_rfc3339(found.first))
    cells = (
        f"{seen} (x{found.count} over {first})" if found.count > 1 else seen,
        event.type.value,
        event.reason,
        title,
        " ".join(event.message.split()),
    )
    source = f"{event.source}, {about.container}" if about.container else event.source
    value = event_value(found)
    name: str = value["metadata"]["name"]
    wide = (source, first, str(found.count))
    return Row(Kind.EVENT, about.namespace, name, "", {}, cells, wide, value)


def event_value(found: Repeated) -> dict[str, Any]:
    """Return an event as Kubernetes spells it (core/v1 Event)."""
    from binascii import crc32

    event, about = found.event, found.event.about
    words = f"{about.uid}/{about.container}/{event.reason}/{event.message}/{found.first}"
    subject = {
        "apiVersion": "v1" if about.kind == "Pod" else "apps/v1",
        "kind": about.kind,
        "namespace": about.namespace,
        "name": about.name,
        "uid": about.uid,
    }
    if about.container:
        subject["fieldPath"] = f"spec.containers{{{about.container}}}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{about.name}.{crc32(words.encode()):08x}",
            "namespace": about.namespace,
            "creationTimestamp": found.first,
        },
        "involvedObject": subject,
        "type": event.type.value,
        "reason": event.reason,
        "message": event.message,
        "count": found.count,
        "firstTimestamp": found.first,
        "lastTimestamp": event.time,
        "source": {"component": event.source},
        "reportingComponent": event.source,
        "reportingInstance": "",
    }
