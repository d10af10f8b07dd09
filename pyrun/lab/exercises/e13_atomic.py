"""Atomic: a Pod for which there is no room is not there at all, and is made as a whole when there is some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from pyrun.errors import Unsupported
from pyrun.lab import pods
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene
from pyrun.plan.sandbox import PAUSE_LEAF
from pyrun.runtime.pods import pod_directories
from pyrun.spec.quantity import format_milli_cpu
from pyrun.state.events import EventLog, Reason

POD = "lab-13"
CONTAINERS = ("first", "second")
ENOUGH = 100
"""Thousandths of a CPU of which the shares of the manifests can be told from each other."""


class Atomic(Exercise):
    number: ClassVar[int] = 13

    def prepare(self, scene: Scene) -> None:
        free = scene.free_cpu_millis()
        if free < ENOUGH:
            raise Unsupported(
                f"the Pods here have left {format_milli_cpu(free)} of the CPUs, and the exercise divides 100m at least",
                hint="stop or remove one of them (pyrun check says how much is allocated)",
            )

    def check(self, scene: Scene) -> Iterator[Finding]:
        pod = pods.find(scene, POD)
        inits = [pod.init(name) for name in CONTAINERS] if pod is not None else []
        running = [init.pid for init in inits if init is not None]
        yield Finding(
            f"both containers of Pod {POD} run", len(running) == len(CONTAINERS), f"processes {running}"
        )
        waited = pod is not None and _waited(scene, pod.directory.uid)
        yield Finding("it was applied, and waited until there was room for all of it", waited)
        known = {directory.uid for directory in pod_directories(scene.layout)}
        stray = [uid for uid in _groups(scene.prefix) if uid not in known]
        yield Finding("no group is left of a Pod that could not be made", not stray, ", ".join(stray))
        mine = pods.of_exercise(scene)
        yield Finding("there is one Pod, and no half of another one", len(mine) == 1, f"{len(mine)} of them")


def _waited(scene: Scene, uid: str) -> bool:
    """Whether a Pod was told once that there is no room for it; only one that was applied is there after that."""
    events = EventLog(scene.layout.root).read()
    return any(event.about.uid == uid and event.reason == Reason.FAILED_SCHEDULING for event in events)


def _groups(prefix: str) -> Iterator[str]:
    """Yield the ids of the Pods that have a group for their pause."""
    for path, directories, _ in os.walk(prefix):
        if PAUSE_LEAF in directories:
            yield os.path.basename(path)
