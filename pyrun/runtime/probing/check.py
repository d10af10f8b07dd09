"""What a check is: its target, how it is driven, what comes out of it."""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec

from pyrun.cgroups import group
from pyrun.errors import InputError
from pyrun.kernel.proc import ProcessIdentity
from pyrun.plan.sandbox import container_leaf
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.pod import Container
from pyrun.state.records import SandboxRecord

OUTPUT_LIMIT = 10 * 1024
"""Bytes that are kept of what a target answers or a program writes, as the kubelet keeps them."""


class Verdict(enum.Enum):
    """What a check found out. UNKNOWN: it could not be carried out, and says nothing about the container."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class Leftovers(enum.Enum):
    """What becomes of processes that a program has left running when it ends in time."""

    KILLED = "killed"
    KEPT = "kept"


class Outcome(msgspec.Struct, frozen=True):
    """The end of a check, with what the container answered or why it failed, for people."""

    verdict: Verdict
    message: str


class Check(Protocol):
    """A check under way. Who drives it polls `fileno` for `events`, both asked for anew after each `advance`.

    `advance` and `expire` never raise for what a target does, and after an outcome there is nothing left to do
    but `close`, which frees the descriptor (take it out of the poll set before).
    """

    def fileno(self) -> int:
        """The descriptor to wait for."""

    def events(self) -> int:
        """What to wait for: select.POLLIN, POLLOUT or both."""

    def advance(self) -> Outcome | None:
        """Go on as far as that is possible without waiting; None when it is not over."""

    def expire(self) -> Outcome:
        """Give up because the time is over, and take back what was begun."""

    def close(self) -> None:
        """Free everything; a check that is not over is given up. May be called twice."""


class ProbeTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a container, as a check reaches it.

    `address` is the Pod's, empty on the host's network; `pause` holds the network namespace; `ports` are the
    container's named ones; `leaf` is its cgroup; `literals` are its variables with a literal value.
    """

    address: str
    pause: ProcessIdentity
    ports: tuple[tuple[str, int], ...]
    literals: tuple[tuple[str, str], ...]
    pod: PodDirectory
    container: str
    attempt: int
    leaf: str

    def port(self, port: int | str) -> int:
        """Return the number of a port given by number or name. InputError when the container has no such name."""
        if isinstance(port, int):
            return port
        for name, number in self.ports:
            if name == port:
                return number
        if port.isdecimal():
            return int(port)
        known = ", ".join(name for name, _ in self.ports) or "none"
        raise InputError(
            f'container "{self.container}" has no port named "{port}"', hint=f"its named ports: {known}"
        )


def target_of(pod: PodDirectory, sandbox: SandboxRecord, container: Container, attempt: int) -> ProbeTarget:
    """Return what a check needs to reach an attempt of a container; it holds as long as the attempt does."""
    return ProbeTarget(
        address=sandbox.address,
        pause=sandbox.pause,
        ports=tuple((port.name, port.container_port) for port in container.ports if port.name),
        literals=tuple((v.name, v.value) for v in container.env if not v.field_path),
        pod=pod,
        container=container.name,
        attempt=attempt,
        leaf=f"{sandbox.facts.cgroup}/{container_leaf(container.name)}",
    )


def paused(target: ProbeTarget) -> Outcome | None:
    """Return the outcome for a container that is paused, which is not judged; None for one that is not."""
    try:
        frozen = group.is_frozen(target.leaf)
    except OSError:  # it is being removed at this moment
        frozen = False
    return Outcome(Verdict.UNKNOWN, f'container "{target.container}" is paused') if frozen else None
