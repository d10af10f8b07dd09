"""A noisy neighbour: weight, bandwidth and pressure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import controllers, kernel
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene

QUIET, NOISY = "quiet", "noisy"


class Noise(Exercise):
    number: ClassVar[int] = 10
    needs: ClassVar[str] = "cpu controller, PSI"

    def prepare(self, scene: Scene) -> None:
        controllers.require_pressure()
        controllers.enable(scene, "cpu")

    def check(self, scene: Scene) -> Iterator[Finding]:
        quiet, noisy = f"{scene.cgroup}/{QUIET}", f"{scene.cgroup}/{NOISY}"
        for group in (quiet, noisy):
            count = len(kernel.processes_in(group))
            yield Finding(f"somebody works in {group}", count > 0, f"{count} processes")
        weights = [int(kernel.value_of(group, "cpu.weight") or 0) for group in (quiet, noisy)]
        yield Finding(f"{QUIET} has the greater weight", weights[0] > weights[1] > 0, f"cpu.weight {weights}")
        used = [kernel.key_of(group, "cpu.stat", "usage_usec") for group in (quiet, noisy)]
        yield Finding(f"it has had more of the processor than {NOISY}", used[0] > used[1], f"{used} us")
        quota = kernel.value_of(noisy, "cpu.max")
        throttled = kernel.key_of(noisy, "cpu.stat", "nr_throttled")
        limited = quota.partition(" ")[0].isdecimal() and throttled > 0
        yield Finding(
            f"{NOISY} has a limit, and has met it", limited, f"cpu.max {quota}; {throttled} times throttled"
        )
        waited = _pressure(noisy)
        yield Finding(f"{NOISY} waits: its pressure says how long", waited > 0, f"{waited} us")


def _pressure(group: str) -> int:
    """How long, in microseconds, some process of a group was ready and did not get a processor."""
    words = kernel.value_of(group, "cpu.pressure").split("\n")[0].split()
    return next((int(word.removeprefix("total=")) for word in words if word.startswith("total=")), 0)
