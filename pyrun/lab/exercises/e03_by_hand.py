"""Two containers by hand, which share IPC, UTS and network, as one would without Pods."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import ClassVar

from pyrun.lab import kernel
from pyrun.lab.exercise import Exercise, Finding, best
from pyrun.lab.scene import Scene
from pyrun.namespaces.table import Namespace

PORT = 8080
SHARED = (Namespace.IPC, Namespace.UTS, Namespace.NETWORK)
OWN = (Namespace.PID, Namespace.MOUNT)


class TwoByHand(Exercise):
    number: ClassVar[int] = 3

    def check(self, scene: Scene) -> Iterator[Finding]:
        none = Finding("two processes run, each process 1 of a PID namespace of its own", False)
        host = kernel.this()
        first = [
            process
            for process in kernel.processes_in(scene.cgroup)
            if process.number_inside() == 1 and not process.shares(Namespace.PID, host)
        ]
        yield from best((_findings(*pair) for pair in permutations(first, 2)), none)


def _findings(server: kernel.Process, other: kernel.Process) -> tuple[Finding, ...]:
    host = kernel.this()
    shared = [
        Finding(
            f"they share their {kind.value} namespace, and not with the host",
            server.shares(kind, other) and not server.shares(kind, host),
            f"{server.namespace(kind)} and {other.namespace(kind)}; host {host.namespace(kind)}",
        )
        for kind in SHARED
    ]
    own = [
        Finding(
            f"each has a {kind.value} namespace of its own",
            not server.shares(kind, other) and not server.shares(kind, host) and not other.shares(kind, host),
            f"{server.namespace(kind)} and {other.namespace(kind)}",
        )
        for kind in OWN
    ]
    return (
        Finding("two containers run", True, f"processes {server.pid} and {other.pid}"),
        *shared,
        *own,
        Finding("their loopback is up", server.has_address("127.0.0.1"), "127.0.0.1 in their routes"),
        Finding(
            f"one of them listens at port {PORT}, so that the other can reach it",
            bool(server.listeners(PORT) & server.descriptors()),
        ),
    )
