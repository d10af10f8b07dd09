"""The words of `pod why`: sentences, spans of time, and the command that asks what a probe asks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from pyrun.runtime.history import History, kills_of, seconds
from pyrun.spec.pod import Container
from pyrun.spec.probe import ExecAction, GrpcAction, HttpGetAction, Probe, TcpSocketAction


def probe_command(history: History, container: Container, probe: Probe | None) -> str:
    """Return a command that asks what a probe asks, empty when there is none."""
    address = history.status.pod_ip if history.status is not None else ""
    ports = {port.name: port.container_port for port in container.ports if port.name}
    match probe.action if probe is not None else None:
        case ExecAction(command=command):
            return f"pyrun exec {history.name} -c {container.name} -- {shlex.join(command)}"
        case HttpGetAction() as get:
            port = ports.get(str(get.port), get.port)
            url = f"{get.scheme.lower()}://{get.host or address or 'localhost'}:{port}{get.path}"
            return f"curl -{'k' if get.scheme == 'HTTPS' else ''}i {shlex.quote(url)}"
        case TcpSocketAction() as tcp:
            return f"nc -zv {tcp.host or address or 'localhost'} {ports.get(str(tcp.port), tcp.port)}"
        case GrpcAction() as grpc:
            return f"grpcurl -plaintext {address or 'localhost'}:{grpc.port} grpc.health.v1.Health/Check"
    return ""


def killed(history: History) -> Iterator[str]:
    """Yield for each container in which the kernel has killed somebody for want of memory lately what it did."""
    for container in history.observed.containers if history.observed is not None else ():
        if container.latest is not None and container.latest.oom_kills:
            yield f'in container "{container.name}" {kills_of(container.latest)}'


def log_choice(history: History) -> str:
    """The option of `pyrun logs` that a Pod of several containers needs."""
    count = 0 if history.pod is None else len(history.pod.spec.all_containers())
    return " --all-containers" if count > 1 else ""


def since(history: History, time: str) -> str:
    """Return ` since 40 s` for an RFC 3339 time, nothing for what is none."""
    at = seconds(time)
    return "" if at is None else f" since {span(max(history.now - at, 0))}"


def span(length: float) -> str:
    """Return a length of time in seconds in words."""
    return f"{length:.0f} s" if length < 600 else f"{length / 60:.0f} min"


def several(noun: str, names: list[str]) -> str:
    """Return names with the noun for one or for several."""
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def capital(text: str) -> str:
    """Return a text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """One line that ends in one full stop, whatever was quoted in it."""
    return " ".join(text.split()).rstrip(".") + "."
