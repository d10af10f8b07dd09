"""A noisy neighbour: weight, bandwidth and pressure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.cgroups import cpu, files
from pyrun.cgroups.cpu import CpuUse
from pyrun.cgroups.pressure import Pressure, pressure
from pyrun.lab import groups, kernel
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene

QUIET, NOISY = "quiet", "noisy"


class Noise(Exercise):
    number: ClassVar[int] = 10
    needs: ClassVar[str] = "cpu controller, PSI"

    def prepare(self, scene: Scene) -> None:
        groups.require_pressure(scene)
        groups.enable(scene, "cpu")

    def check(self, scene: Scene) -> Iterator[Finding]:
        quiet, noisy = f"{scene.cgroup}/{QUIET}", f"{scene.cgroup}/{NOISY}"
        for group in (quiet, noisy):
            count = len(kernel.processes_in(group))
            yield Finding(f"somebody works in {group}", count > 0, f"{count} processes")
        weights = [files.number(group, "cpu.weight") or 0 for group in (quiet, noisy)]
        yield Finding(f"{QUIET} has the greater weight", weights[0] > weights[1] > 0, f"cpu.weight {weights}")
        use = [cpu.use(group) or CpuUse() for group in (quiet, noisy)]
        used = [one.usage_us for one in use]
        yield Finding(f"it has had more of the processor than {NOISY}", used[0] > used[1], f"{used} us")
        quota = (files.find(noisy, "cpu.max") or "").split()
        throttled = use[1].throttled_periods
        yield Finding(
            f"{NOISY} has a limit, and has met it",
            quota[:1] not in ([], ["max"]) and throttled > 0,
            f"cpu.max {' '.join(quota)}; {throttled} times throttled",
        )
        waited = (pressure(noisy, "cpu") or Pressure()).some.total_us
        yield Finding(f"{NOISY} waits: its pressure says how long", waited > 0, f"{waited} us")
