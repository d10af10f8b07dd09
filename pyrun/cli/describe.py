"""`pyrun describe`: what is known of an object, for a person to read from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_targets
from pyrun.cli.kinds import Kind, all_namespaces_option, namespace_option, parse_targets, selector_option
from pyrun.errors import InputError

if TYPE_CHECKING:
    from pyrun.cli.rows import Row
    from pyrun.cli.usage import Measured
    from pyrun.state.events import Repeated

WIDTH = 18
EVENTS = 30
"""Most events that are shown; `pyrun events --for` has all."""

SHARED_PROCESSES = (
    "its containers see each other's processes, their arguments and environment (/proc/PID/environ) and, with",
    "the same user, their files (/proc/PID/root). PID 1 is pause: `kill -HUP 1` does not reach your program.",
)
"""What sharing a PID namespace means. Source: Kubernetes task "Share Process Namespace between Containers in a Pod"."""


@click.command()
@click.argument("words", nargs=-1, metavar="KIND [NAME...] | KIND/NAME...", shell_complete=complete_targets)
@namespace_option
@all_namespaces_option
@selector_option
@click.pass_obj
def describe(
    application: Application, words: tuple[str, ...], namespace: str, all_namespaces: bool, selector: str
) -> None:
    """Print all that is known of Pods or ReplicaSets, and at the end what has happened to them."""
    from pyrun.cli.listing import Listing, scope_of
    from pyrun.cli.usage import Measured, measure
    from pyrun.state.events import EventLog, aggregate

    targets = parse_targets(words)
    if any(target.kind is Kind.EVENT for target in targets):
        raise InputError(
            "events are not described", hint="pyrun events prints them, pyrun get events -o yaml all"
        )
    listing = Listing(application)
    try:
        rows = listing.find(targets, scope_of(namespace, all_namespaces, selector))
        pods = listing.rows(Kind.POD) if any(row.kind is Kind.REPLICA_SET for row in rows) else []
    finally:
        listing.close()
    events = tuple(EventLog(application.layout.root).read())
    measured = measure(application.layout, {row.uid for row in rows if row.kind is Kind.POD})
    for number, row in enumerate(rows):
        if number:
            click.echo("\n")
        own = aggregate(event for event in events if event.about.uid == row.uid)
        known = measured.get(row.uid, Measured())
        text = describe_pod(row, known) if row.kind is Kind.POD else describe_set(row, pods)
        click.echo("\n".join((*text, *_events(own))))


def _plain(row: Row) -> Any:
    """The object as Kubernetes spells it, in plain values."""
    return msgspec.json.decode(msgspec.json.encode(row.value))


def describe_pod(row: Row, measured: Measured) -> Iterator[str]:
    """Yield the lines of a Pod, with what it uses."""
    value = _plain(row)
    spec, status = value["spec"], value["status"]
    yield from _head(value)
    yield _line("Status", row.cells[2])
    for name, key in (("Reason", "reason"), ("Message", "message"), ("IP", "podIP")):
        if status.get(key):
            yield _line(name, status[key])
    owner = next((o for o in value["metadata"].get("ownerReferences", ()) if o.get("controller")), None)
    if owner is not None:
        yield _line("Controlled By", f"{owner['kind']}/{owner['name']}")
    yield _line("Restart Policy", spec.get("restartPolicy", "Always"))
    yield _line("Grace Period", f"{spec.get('terminationGracePeriodSeconds', 30)}s")
    if spec.get("activeDeadlineSeconds"):
        yield _line("Active Deadline", f"{spec['activeDeadlineSeconds']}s")
    if measured.usage:
        yield _line("Usage", measured.usage)
    yield from _namespaces(spec)
    for title, containers, statuses in (
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
    ):
        if spec.get(containers):
            yield f"{title}:"
            known = {found["name"]: found for found in status.get(statuses, ())}
            for container in spec[containers]:
                yield from _container(container, known.get(container["name"], {}))
                for name, lines in (("Usage", measured.containers), ("OOM Kills", measured.kills)):
                    if line := lines.get(container["name"]):
                        yield _line(name, line, 4)
    yield from _conditions(status)
    yield from _volumes(spec)


def _head(value: Any) -> Iterator[str]:
    metadata = value["metadata"]
    yield _line("Name", metadata["name"])
    yield _line("Namespace", metadata["namespace"])
    yield _line("UID", metadata["uid"])
    yield _line("Created", _moment(metadata["creationTimestamp"]))
    if metadata.get("deletionTimestamp"):
        yield _line("Deletion", _moment(metadata["deletionTimestamp"]))
    yield from _pairs("Labels", metadata.get("labels", {}), "=")
    yield from _pairs("Annotations", metadata.get("annotations", {}), ": ")


def _namespaces(spec: Any) -> Iterator[str]:
    shared = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    if shared:
        yield _line("Of the host", ", ".join(shared))
    if spec.get("shareProcessNamespace"):
        yield _line("Shared processes", SHARED_PROCESSES[0])
        yield " " * WIDTH + SHARED_PROCESSES[1]


def _container(container: Any, status: Any) -> Iterator[str]:
    yield f"  {container['name']}:"
    sidecar = container.get("restartPolicy") == "Always"
    ports = ", ".join(f"{p['containerPort']}/{p.get('protocol', 'TCP')}" for p in container.get("ports", ()))
    lines = [
        ("Container ID", status.get("containerID", "")),
        ("Image", container["image"]),
        ("Image ID", status.get("imageID", "")),
        ("Ports", ports),
        ("Command", _words(container.get("command", ()))),
        ("Args", _words(container.get("args", ()))),
        ("Sidecar", "yes" if sidecar else ""),
        *_resources(container, status),
    ]
    yield from (_line(name, text, 4) for name, text in lines if text)
    yield from _state("State", status.get("state", {}) or {"waiting": {"reason": "ContainerCreating"}})
    if status.get("lastState"):
        yield from _state("Last State", status["lastState"])
    yield _line("Ready", str(bool(status.get("ready"))), 4)
    yield _line("Restart Count", str(status.get("restartCount", 0)), 4)
    for name in ("startup", "readiness", "liveness"):
        if probe := container.get(f"{name}Probe"):
            yield _line(name.capitalize(), probe_text(probe), 4)
    for name, hook in container.get("lifecycle", {}).items():
        yield _line(name[:1].upper() + name[1:], hook if isinstance(hook, str) else action_text(hook), 4)
    variables = {v["name"]: _variable(v) for v in container.get("env", ())}
    yield from _pairs("Environment", variables, "=", 4)
    mounts = [
        f"{m['mountPath']} from {m['name']} ({'ro' if m.get('readOnly') else 'rw'}"
        + (f",path={m['subPath']}" if m.get("subPath") else "")
        + ")"
        for m in container.get("volumeMounts", ())
    ]
    yield from _list("Mounts", mounts, 4)


def _resources(container: Any, status: Any) -> Iterator[tuple[str, str]]:
    """Yield what a container that runs really has, else what it shall have."""
    found = status.get("resources") or container.get("resources", {})
    for title, field in (("Requests", "requests"), ("Limits", "limits")):
        yield title, ", ".join(f"{name}={amount}" for name, amount in found.get(field, {}).items())


def _variable(variable: Any) -> str:
    source = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
    return f"({source})" if source else str(variable.get("value", ""))


def _words(words: Sequence[str]) -> str:
    import shlex

    return shlex.join(words)


def _state(title: str, state: Any) -> Iterator[str]:
    kind, detail = next(iter(state.items()))
    yield _line(title, kind.capitalize(), 4)
    fields = (
        ("Reason", "reason"),
        ("Message", "message"),
        ("Exit Code", "exitCode"),
        ("Signal", "signal"),
        ("Started", "startedAt"),
        ("Finished", "finishedAt"),
    )
    for name, key in fields:
        if key in detail:
            text = str(detail[key])
            yield _line(name, _moment(text) if key.endswith("At") else " ".join(text.split()), 6)


def probe_text(probe: Any) -> str:
    """Return a probe in one line, as kubectl does."""
    return (
        f"{action_text(probe)} delay={probe.get('initialDelaySeconds', 0)}s"
        f" timeout={probe.get('timeoutSeconds', 1)}s period={probe.get('periodSeconds', 10)}s"
        f" #success={probe.get('successThreshold', 1)} #failure={probe.get('failureThreshold', 3)}"
    )


def action_text(action: Any) -> str:
    """Return what a probe or a hook does, in one line."""
    if found := action.get("exec"):
        return f"exec [{_words(found.get('command', ()))}]"
    if found := action.get("httpGet"):
        scheme = found.get("scheme", "HTTP").lower()
        return f"http-get {scheme}://{found.get('host', '')}:{found['port']}{found.get('path', '/')}"
    if found := action.get("tcpSocket"):
        return f"tcp-socket {found.get('host', '')}:{found['port']}"
    if found := action.get("grpc"):
        return f"grpc <pod>:{found['port']} {found.get('service', '')}".rstrip()
    return f"sleep {action.get('sleep', {}).get('seconds', 0)}s"


def _conditions(status: Any) -> Iterator[str]:
    from pyrun.lifecycle.status import RESIZE_IN_PROGRESS, RESIZE_PENDING

    conditions = status.get("conditions", ())
    if conditions:
        yield "Conditions:"
        rows = [
            (c["type"], c["status"], c.get("reason", ""), _age(c.get("lastTransitionTime", "")))
            for c in conditions
        ]
        yield from _table(("Type", "Status", "Reason", "Since"), rows)
        for c in conditions:
            if c["type"] in (RESIZE_PENDING, RESIZE_IN_PROGRESS) and c.get("message"):
                yield _line(c["type"], c["message"], 2)


def _volumes(spec: Any) -> Iterator[str]:
    if spec.get("volumes"):
        yield "Volumes:"
        for volume in spec["volumes"]:
            kind, source = next((k, v) for k, v in volume.items() if k != "name")
            detail = ", ".join(f"{key}={value}" for key, value in source.items())
            yield _line(volume["name"], f"{kind} {detail}".rstrip(), 2)


def describe_set(row: Row, pods: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a ReplicaSet; `pods` are all Pods there are."""
    value = _plain(row)
    spec, status = value["spec"], value.get("status", {})
    yield from _head(value)
    yield _line("Selector", row.wide[2])
    yield _line("Replicas", f"{status.get('replicas', 0)} current / {spec.get('replicas', 1)} desired")
    ready = f"{status.get('readyReplicas', 0)} ready / {status.get('availableReplicas', 0)} available"
    yield _line("Of these", ready)
    own = [pod for pod in pods if _owned_by(pod, row.uid)]
    counts: dict[str, int] = {}
    for pod in own:
        counts[pod.cells[2]] = counts.get(pod.cells[2], 0) + 1
    yield _line("Pods Status", ", ".join(f"{n} {word}" for word, n in counts.items()) or "<none>")
    if spec.get("minReadySeconds"):
        yield _line("Min Ready", f"{spec['minReadySeconds']}s")
    template = spec["template"]
    yield from _pairs("Pod Labels", template.get("metadata", {}).get("labels", {}), "=")
    yield from _namespaces(template["spec"])
    for title, key in (("Init Containers", "initContainers"), ("Containers", "containers")):
        if template["spec"].get(key):
            yield f"{title}:"
            for container in template["spec"][key]:
                yield f"  {container['name']}:"
                yield _line("Image", container["image"], 4)
                for name in ("startup", "readiness", "liveness"):
                    if probe := container.get(f"{name}Probe"):
                        yield _line(name.capitalize(), probe_text(probe), 4)
    yield from _conditions(status)
    yield from _volumes(template["spec"])
    if own:
        yield "Pods:"
        yield from _table(("Name", "Ready", "Status", "Restarts", "Age"), [pod.cells for pod in own])


def _owned_by(pod: Row, uid: str) -> bool:
    return any(
        o["uid"] == uid and o.get("controller") for o in _plain(pod)["metadata"].get("ownerReferences", ())
    )


def _events(found: Sequence[Repeated]) -> Iterator[str]:
    if not found:
        yield _line("Events", "<none>")
        return
    yield "Events:"
    if len(found) > EVENTS:
        yield f"  ({len(found) - EVENTS} older ones: pyrun events --for {found[-1].event.about.name})"
    rows = []
    for repeated in found[-EVENTS:]:
        event = repeated.event
        times = f" (x{repeated.count} over {_age(repeated.first)})" if repeated.count > 1 else ""
        said = " ".join(event.message.split())
        rows.append((event.type.value, event.reason, _age(event.time) + times, event.source, said))
    yield from _table(("Type", "Reason", "Age", "From", "Message"), rows)


def _line(name: str, text: str, indent: int = 0) -> str:
    return f"{' ' * indent}{f'{name}:':<{WIDTH - 1}} {text}"


def _pairs(name: str, pairs: dict[str, str], sign: str, indent: int = 0) -> Iterator[str]:
    yield from _list(name, [f"{key}{sign}{value}" for key, value in pairs.items()], indent)


def _list(name: str, texts: Sequence[str], indent: int) -> Iterator[str]:
    """Yield a name with the first of the texts beside it, and the rest below that."""
    for number, text in enumerate(texts or ["<none>"]):
        yield _line(name, text, indent) if number == 0 else " " * (indent + WIDTH) + text


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = (headers, ["-" * len(header) for header in headers], *rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    for line in lines:
        yield "  " + "   ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()


def _seconds(text: str) -> float | None:
    from pyrun.runtime.history import seconds

    return seconds(text)


def _age(text: str) -> str:
    from pyrun.cli.durations import human

    at = _seconds(text)
    return "" if at is None else human(time.time() - at)


def _moment(text: str) -> str:
    age = _age(text)
    return f"{text.partition('.')[0]}{'Z' if '.' in text else ''} ({age} ago)" if age else text
