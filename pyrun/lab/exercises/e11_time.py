"""The time namespace: a Pod that booted yesterday."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import kernel, pods
from pyrun.lab.exercise import Exercise, Finding, best
from pyrun.lab.scene import Scene
from pyrun.namespaces.table import Namespace

POD, CONTAINER = "lab-11", "clock"
DAY = 86400


class BootedYesterday(Exercise):
    number: ClassVar[int] = 11

    def check(self, scene: Scene) -> Iterator[Finding]:
        none = Finding("a process that you have made runs", False, f"{scene.cgroup} is empty")
        yield from best((_ahead(p, "your process") for p in kernel.processes_in(scene.cgroup)), none)
        pod = pods.find(scene, POD)
        clock = pod.init(CONTAINER) if pod is not None else None
        yield Finding(f"the container of Pod {POD} runs", clock is not None)
        if pod is not None and clock is not None:
            yield from _ahead(clock, "the container")
            yield Finding("pause holds its time namespace", clock.shares(Namespace.TIME, pod.pause))


def _ahead(process: kernel.Process, who: str) -> tuple[Finding, ...]:
    host = kernel.this()
    ahead = process.boottime_offset() - host.boottime_offset()
    return (
        Finding(
            f"{who} has a time namespace of its own",
            not process.shares(Namespace.TIME, host),
            f"{process.namespace(Namespace.TIME)}; the host's is {host.namespace(Namespace.TIME)}",
        ),
        Finding(f"for {who} the host has been up a day longer", ahead == DAY, f"{ahead} s ahead"),
    )
