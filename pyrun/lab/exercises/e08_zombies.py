"""A zombie factory, with a process 1 that reaps and with one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import kernel, pods
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene
from pyrun.namespaces.table import Namespace

FULL, CLEAN, CONTAINER = "lab-8-zombies", "lab-8-reaped", "factory"
ENOUGH = 10


class Zombies(Exercise):
    number: ClassVar[int] = 8

    def check(self, scene: Scene) -> Iterator[Finding]:
        full, clean = pods.find(scene, FULL), pods.find(scene, CLEAN)
        init = full.init(CONTAINER) if full is not None else None
        yield Finding(f"the factory of {FULL} runs", init is not None)
        if init is not None:
            yield Finding("it is process 1 of its PID namespace", init.number_inside() == 1)
            count = _zombies(init)
            yield Finding(f"{ENOUGH} zombies or more are its children", count >= ENOUGH, f"{count} zombies")
        init = clean.init(CONTAINER) if clean is not None else None
        yield Finding(f"the factory of {CLEAN} runs", init is not None)
        if clean is not None and init is not None:
            yield Finding(
                "process 1 of its PID namespace is pause",
                init.shares(Namespace.PID, clean.pause) and clean.pause.number_inside() == 1,
                f"the factory is process {init.number_inside()}",
            )
            count = _zombies(clean.pause) + _zombies(init)
            yield Finding("pause has reaped them all", count == 0, f"{count} zombies")


def _zombies(parent: kernel.Process) -> int:
    return sum(child.is_zombie() for child in kernel.children_of(parent.pid))
