"""Atomic: a Pod that cannot be made whole is not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import pods
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene
from pyrun.plan.sandbox import PAUSE_LEAF
from pyrun.runtime.pods import pod_directories

POD = "lab-13"
CONTAINERS = ("first", "second")


class Atomic(Exercise):
    number: ClassVar[int] = 13

    def check(self, scene: Scene) -> Iterator[Finding]:
        pod = pods.find(scene, POD)
        inits = [pod.init(name) for name in CONTAINERS] if pod is not None else []
        running = [init.pid for init in inits if init is not None]
        yield Finding(
            f"both containers of Pod {POD} run", len(running) == len(CONTAINERS), f"processes {running}"
        )
        known = {directory.uid for directory in pod_directories(scene.layout)}
        stray = [uid for uid in _groups(scene.prefix) if uid not in known]
        yield Finding("no group is left of a Pod that could not be made", not stray, ", ".join(stray))
        mine = pods.of_exercise(scene)
        yield Finding("there is one Pod, and no half of another one", len(mine) == 1, f"{len(mine)} of them")
        named = scene.layout.names("default")
        claims = [name for name in os.listdir(named) if name == POD] if os.path.isdir(named) else []
        yield Finding("its name is claimed once", len(claims) == 1)


def _groups(prefix: str) -> Iterator[str]:
    """Yield the ids of the Pods that have a group for their pause."""
    for path, directories, _ in os.walk(prefix):
        if PAUSE_LEAF in directories:
            yield os.path.basename(path)
