"""Probes and lifecycle hooks: what the supervisor does to a container to know it, and at its ends.

Source: Kubernetes API reference, core/v1 Probe, Lifecycle, LifecycleHandler.
"""

from __future__ import annotations

import enum

from pyrun.spec.value import Value


class ProbeKind(enum.Enum):
    """The three questions that are asked of a running container."""

    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


class HttpHeader(Value, frozen=True, kw_only=True):
    """A header of an HTTP request."""

    name: str
    value: str = ""


class ExecAction(Value, frozen=True, kw_only=True, tag="exec", tag_field="action"):
    """Run a program inside the container; exit code 0 is success. No shell is involved."""

    command: tuple[str, ...]


class HttpGetAction(Value, frozen=True, kw_only=True, tag="httpGet", tag_field="action"):
    """Send a GET request; status 200 to 399 is success. `port` is a number or the name of a container's port.

    `host` is empty for the Pod's own address; `scheme` is HTTP or HTTPS (certificates are not checked).
    """

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    headers: tuple[HttpHeader, ...] = ()


class TcpSocketAction(Value, frozen=True, kw_only=True, tag="tcpSocket", tag_field="action"):
    """Open a TCP connection; that it is accepted is success."""

    port: int | str
    host: str = ""


class GrpcAction(Value, frozen=True, kw_only=True, tag="grpc", tag_field="action"):
    """Call grpc.health.v1.Health/Check; SERVING is success."""

    port: int
    service: str = ""


class SleepAction(Value, frozen=True, kw_only=True, tag="sleep", tag_field="action"):
    """Wait; a hook only."""

    seconds: int


ProbeAction = ExecAction | HttpGetAction | TcpSocketAction | GrpcAction
HookAction = ExecAction | HttpGetAction | SleepAction


def action_name(action: ProbeAction | HookAction) -> str:
    """Return the name of an action's kind as Kubernetes spells it: `exec`, `httpGet`."""
    return str(action.__struct_config__.tag)


class Probe(Value, frozen=True, kw_only=True):
    """A probe with its timing; times in seconds, thresholds in consecutive results.

    `termination_grace_period_seconds` takes the place of the Pod's when this probe has a container killed.
    """

    action: ProbeAction
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Lifecycle(Value, frozen=True, kw_only=True):
    """What is done right after a container was started and right before it is stopped."""

    post_start: HookAction | None = None
    pre_stop: HookAction | None = None
