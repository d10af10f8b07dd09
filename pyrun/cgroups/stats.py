"""What a group uses and what it may use, all controllers in one look; and what was used between two looks."""

from __future__ import annotations

import errno
import time

from pyrun.cgroups import cpu, files, io, memory, pids
from pyrun.cgroups.cpu import CpuUse
from pyrun.cgroups.io import IoUse
from pyrun.cgroups.memory import MemoryEvents, MemoryUse
from pyrun.cgroups.pids import PidsUse
from pyrun.cgroups.pressure import Pressure, pressure
from pyrun.spec.value import Value

COUNTED = ("cpu", "memory", "pids", "io")
"""The controllers that a look asks; cpu counts its time without one too."""


class CpuLimits(Value, frozen=True, kw_only=True):
    """The weight against siblings, and microseconds of CPU time in each period; `quota_us` None is no limit."""

    weight: int
    quota_us: int | None
    period_us: int

    @property
    def cpus(self) -> float | None:
        """The limit in CPUs, None when there is none."""
        return None if self.quota_us is None else self.quota_us / self.period_us


class GroupUse(Value, frozen=True, kw_only=True):
    """One look at a group and all below it, `taken_ns` on CLOCK_MONOTONIC; None stands for a missing controller.

    `processes` are those of the group itself. `freeze` is what was asked of this group, `frozen` what has come of
    that and of the groups above it. `pressure_*` is None where the kernel measures none.
    """

    taken_ns: int
    populated: bool
    frozen: bool
    freeze: bool
    processes: tuple[int, ...]
    cpu: CpuUse
    cpu_limits: CpuLimits | None = None
    memory: MemoryUse | None = None
    memory_events: MemoryEvents | None = None
    pids: PidsUse | None = None
    io: IoUse | None = None
    pressure_cpu: Pressure | None = None
    pressure_memory: Pressure | None = None
    pressure_io: Pressure | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The controllers that are not on this group, of those `COUNTED`."""
        found = (self.cpu_limits, self.memory, self.pids, self.io)
        return tuple(name for name, value in zip(COUNTED, found, strict=True) if value is None)


class Rates(Value, frozen=True, kw_only=True):
    """What was used in a second between two looks; None where it was not counted, or counted anew meanwhile.

    `cpu` is seconds of CPU time, `throttled` the share of the periods in which the limit made it wait (0 to 1).
    """

    cpu: float | None = None
    throttled: float | None = None
    read_bytes: float | None = None
    written_bytes: float | None = None


def look(group: str) -> GroupUse | None:
    """Return what a group uses now; None when it is gone. Raises OSError when it cannot be read."""
    try:
        events = files.events(group)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return None
        raise
    return GroupUse(
        taken_ns=time.monotonic_ns(),
        populated=events.get("populated", 0) != 0,
        frozen=events.get("frozen", 0) != 0,
        freeze=(files.find(group, "cgroup.freeze") or "0").strip() == "1",
        processes=files.processes(group),
        cpu=cpu.use(group) or CpuUse(),
        cpu_limits=_cpu_limits(group),
        memory=memory.use(group),
        memory_events=memory.events(group),
        pids=pids.use(group),
        io=io.use(group),
        pressure_cpu=pressure(group, "cpu"),
        pressure_memory=pressure(group, "memory"),
        pressure_io=pressure(group, "io"),
    )


def _cpu_limits(group: str) -> CpuLimits | None:
    weight, limit = files.number(group, "cpu.weight"), files.find(group, "cpu.max")
    return None if weight is None or limit is None else parse_cpu_limits(weight, limit)


def parse_cpu_limits(weight: int, limit: str) -> CpuLimits:
    """Read the text of a cpu.max: `QUOTA PERIOD` in microseconds, the quota may be `max`."""
    quota, period = limit.split()
    return CpuLimits(weight=weight, quota_us=None if quota == "max" else int(quota), period_us=int(period))


def rates(before: GroupUse, after: GroupUse) -> Rates:
    """Return what a group has used in a second between two looks at it, in order."""
    seconds = (after.taken_ns - before.taken_ns) / 1e9
    if seconds <= 0 or after.cpu.usage_us < before.cpu.usage_us:  # another group by the same name
        return Rates()
    periods = after.cpu.periods - before.cpu.periods
    throttled = after.cpu.throttled_periods - before.cpu.throttled_periods
    read = written = None
    if before.io is not None and after.io is not None:
        read = max(after.io.read_bytes - before.io.read_bytes, 0) / seconds
        written = max(after.io.written_bytes - before.io.written_bytes, 0) / seconds
    return Rates(
        cpu=(after.cpu.usage_us - before.cpu.usage_us) / 1e6 / seconds,
        throttled=None if after.cpu_limits is None else throttled / periods if periods > 0 else 0.0,
        read_bytes=read,
        written_bytes=written,
    )
