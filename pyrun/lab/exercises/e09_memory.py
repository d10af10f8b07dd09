"""Memory: an OOM kill, and whose it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import controllers, kernel
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene

EATER, NEIGHBOUR = "eater", "neighbour"
EVENTS, OWN_EVENTS = "memory.events", "memory.events.local"


class Memory(Exercise):
    number: ClassVar[int] = 9
    needs: ClassVar[str] = "memory controller"

    def prepare(self, scene: Scene) -> None:
        controllers.enable(scene, "memory")

    def check(self, scene: Scene) -> Iterator[Finding]:
        eater, neighbour = f"{scene.cgroup}/{EATER}", f"{scene.cgroup}/{NEIGHBOUR}"
        limit = kernel.value_of(eater, "memory.max")
        yield Finding(f"{eater} has a limit", limit.isdecimal(), f"memory.max {limit or 'is not there'}")
        kills = kernel.key_of(eater, EVENTS, "oom_kill")
        yield Finding(f"a process was killed in {EATER}", kills > 0, f"oom_kill {kills}")
        living = kernel.processes_in(neighbour)
        kills = kernel.key_of(neighbour, EVENTS, "oom_kill")
        yield Finding(
            f"{NEIGHBOUR}, beside it, lives", bool(living) and kills == 0, f"{len(living)} processes"
        )
        below = kernel.key_of(scene.cgroup, EVENTS, "oom_kill")
        own = kernel.key_of(scene.cgroup, OWN_EVENTS, "oom_kill")
        yield Finding(
            "the group above counts it, and knows that it was not its own",
            below > 0 and own == 0,
            f"{EVENTS}: {below}, {OWN_EVENTS}: {own}",
        )
