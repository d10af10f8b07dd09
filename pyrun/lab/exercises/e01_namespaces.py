"""A process in its own UTS and PID namespace, and in nothing else of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import kernel
from pyrun.lab.exercise import Exercise, Finding, best
from pyrun.lab.scene import Scene
from pyrun.namespaces.table import Namespace

HOSTNAME = "lab"


class OwnNamespaces(Exercise):
    number: ClassVar[int] = 1

    def check(self, scene: Scene) -> Iterator[Finding]:
        none = Finding(f"a process runs in the cgroup {scene.cgroup}", False, "it is empty")
        yield from best(map(_findings, kernel.processes_in(scene.cgroup)), none)


def _findings(process: kernel.Process) -> tuple[Finding, ...]:
    host = kernel.this()
    uts, pid = process.namespace(Namespace.UTS), process.namespace(Namespace.PID)
    inside = process.number_inside()
    return (
        Finding("a process runs in the exercise's cgroup", True, f"process {process.pid}"),
        Finding(
            "it has a UTS namespace of its own",
            not process.shares(Namespace.UTS, host),
            f"{uts}; the host's is {host.namespace(Namespace.UTS)}",
        ),
        Finding(f'its hostname is "{HOSTNAME}"', process.hostname() == HOSTNAME, process.hostname()),
        Finding("the host's is not", host.hostname() != HOSTNAME, host.hostname()),
        Finding(
            "it has a PID namespace of its own",
            not process.shares(Namespace.PID, host),
            f"{pid}; the host's is {host.namespace(Namespace.PID)}",
        ),
        Finding("it is process 1 there", inside == 1, f"{process.pid} outside, {inside} inside"),
        Finding("its network is still the host's", process.shares(Namespace.NETWORK, host)),
    )
