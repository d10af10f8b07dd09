"""Memory: an OOM kill, and whose it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.cgroups import files, memory
from pyrun.cgroups.memory import MemoryEvents
from pyrun.lab import groups, kernel
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene

EATER, NEIGHBOUR = "eater", "neighbour"


class Memory(Exercise):
    number: ClassVar[int] = 9
    needs: ClassVar[str] = "memory controller"

    def prepare(self, scene: Scene) -> None:
        groups.enable(scene, "memory")

    def check(self, scene: Scene) -> Iterator[Finding]:
        eater, neighbour = f"{scene.cgroup}/{EATER}", f"{scene.cgroup}/{NEIGHBOUR}"
        limit = files.number(eater, "memory.max")
        yield Finding(f"{EATER} has a limit", limit is not None, f"{limit} bytes")
        kills = _kills(memory.events(eater))
        yield Finding(f"a process was killed in {EATER}", kills > 0, f"oom_kill {kills}")
        living, kills = kernel.processes_in(neighbour), _kills(memory.events(neighbour))
        yield Finding(
            f"{NEIGHBOUR}, beside it, lives", bool(living) and kills == 0, f"{len(living)} processes"
        )
        below, own = _kills(memory.events(scene.cgroup)), _kills(memory.local_events(scene.cgroup))
        yield Finding(
            "the group above counts it, and knows that it was not its own",
            below > 0 and own == 0,
            f"oom_kill {below} in memory.events, {own} in memory.events.local",
        )


def _kills(events: MemoryEvents | None) -> int:
    return 0 if events is None else events.oom_kill
