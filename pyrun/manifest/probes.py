"""Probes and lifecycle hooks: Kubernetes text -> `Probe`, `Lifecycle`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from pyrun.manifest import names
from pyrun.manifest.reader import Object, one_of
from pyrun.manifest.schema import Support
from pyrun.spec.probe import (
    ExecAction,
    GrpcAction,
    HookAction,
    HttpGetAction,
    HttpHeader,
    Lifecycle,
    Probe,
    ProbeAction,
    ProbeKind,
    SleepAction,
    TcpSocketAction,
)

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1

PROBE_FIELDS = {kind: f"{kind.value}Probe" for kind in ProbeKind}
"""The field of a container that holds its probe of a kind."""

Action = TypeVar("Action", bound=ProbeAction | HookAction)
_Readers: TypeAlias = Mapping[str, Callable[[Object], Action]]
"""What converts a handler, by its name."""


def read_probe(source: Object, kind: ProbeKind) -> Probe | None:
    """Convert the probe of a kind that a container (`source`) has; None without one, or when it has no handler.

    A number of 0 is Kubernetes' default, as its own defaulting has it.
    """
    field = PROBE_FIELDS[kind]
    if not source.has(field):
        return None
    probe = source.child(field)
    readers: _Readers[ProbeAction] = {
        "exec": _exec,
        "httpGet": _http_get,
        "tcpSocket": _tcp_socket,
        "grpc": _grpc,
    }
    action = _only_handler(probe, readers, "probe")
    success = probe.number("successThreshold", 0, MAX_INT32) or 1
    grace = probe.number("terminationGracePeriodSeconds", 1, MAX_INT64)
    if kind is not ProbeKind.READINESS and success != 1:
        probe.complain("successThreshold", f"must be 1 for a {field}, got {success}")
    if kind is ProbeKind.READINESS and probe.has("terminationGracePeriodSeconds"):
        probe.complain(
            "terminationGracePeriodSeconds", "not allowed in a readinessProbe, which kills nothing"
        )
    delay = probe.number("initialDelaySeconds", 0, MAX_INT32) or 0
    period = probe.number("periodSeconds", 0, MAX_INT32) or 10
    timeout = probe.number("timeoutSeconds", 0, MAX_INT32) or 1
    failure = probe.number("failureThreshold", 0, MAX_INT32) or 3
    if action is None:
        return None
    return Probe(
        action=action,
        initial_delay_seconds=delay,
        period_seconds=period,
        timeout_seconds=timeout,
        success_threshold=success,
        failure_threshold=failure,
        termination_grace_period_seconds=grace,
    )


def read_lifecycle(source: Object) -> Lifecycle:
    """Convert the hooks of a `lifecycle`."""
    return Lifecycle(post_start=_hook(source, "postStart"), pre_stop=_hook(source, "preStop"))


def _hook(source: Object, field: str) -> HookAction | None:
    if not source.has(field):
        return None
    readers: _Readers[HookAction] = {"exec": _exec, "httpGet": _http_get, "sleep": _sleep}
    return _only_handler(source.child(field), readers, "hook")


def _only_handler(source: Object, readers: _Readers[Action], what: str) -> Action | None:
    """Convert the one handler that is given; none and two are problems."""
    given = [name for name in readers if source.has(name)]
    for name in given[1:]:
        source.complain(name, f"a {what} has only one handler, and {given[0]} is given too")
    actions = [readers[name](source.child(name)) for name in given]
    refused = [
        field.name
        for field in source.kind.fields.values()
        if field.support is Support.REFUSED and source.mentions(field.name)
    ]
    if not given and not refused:
        source.blame(f"a handler is required, one of {', '.join(readers)}")
    return actions[0] if actions else None


def _exec(source: Object) -> ExecAction:
    if source.raw("command") in (None, []):
        source.complain("command", "required, at least one word")
    return ExecAction(command=source.texts("command"))


def _http_get(source: Object) -> HttpGetAction:
    return HttpGetAction(
        port=_port(source),
        path=source.text("path", check=names.http_path) or "/",
        host=source.text("host", check=names.address),
        scheme=source.text("scheme", check=one_of("HTTP", "HTTPS")) or "HTTP",
        headers=tuple(
            HttpHeader(
                name=header.text("name", required=True, check=names.header_name),
                value=header.text("value", check=names.header_value),
            )
            for header in source.children("httpHeaders")
        ),
    )


def _tcp_socket(source: Object) -> TcpSocketAction:
    return TcpSocketAction(port=_port(source), host=source.text("host", check=names.address))


def _grpc(source: Object) -> GrpcAction:
    if not source.has("port"):
        source.complain("port", "required")
    return GrpcAction(port=source.number("port", 1, 65535) or 0, service=source.text("service"))


def _sleep(source: Object) -> SleepAction:
    if not source.has("seconds"):
        source.complain("seconds", "required")
    return SleepAction(seconds=source.number("seconds", 0, MAX_INT64) or 0)


def _port(source: Object) -> int | str:
    """Return a number, or the name of a port; whether there is one of this name is checked later."""
    value = source.raw("port")
    if isinstance(value, str):
        if value.isdecimal():
            source.complain("port", "expected a number or the name of a port; remove the quotes")
            return 0
        return source.text("port", required=True)
    if value is None:
        source.complain("port", "required")
    return source.number("port", 1, 65535) or 0
