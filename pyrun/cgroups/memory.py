"""The memory controller: what is kept, what is reclaimed first, the limit, swap, and whom the OOM killer kills.

Source: cgroup-v2.rst, "Memory Interface Files".
"""

from __future__ import annotations

from pyrun.cgroups import files
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.value import Value


class MemoryUse(Value, frozen=True, kw_only=True):
    """Bytes of a group and all below it. `peak` is None where the kernel (before 5.19) does not know it.

    `working_set` is what cannot be reclaimed easily: all but the file pages not used lately, as the kubelet counts.
    `limit` None is none.
    """

    current: int
    working_set: int
    anonymous: int
    file: int
    swap: int = 0
    peak: int | None = None
    limit: int | None = None


class MemoryEvents(Value, frozen=True, kw_only=True):
    """How often it came to what. `oom_kill` counts processes killed, `oom_group_kill` groups killed as a whole."""

    low: int = 0
    high: int = 0
    max: int = 0
    oom: int = 0
    oom_kill: int = 0
    oom_group_kill: int = 0


def settings(resources: LinuxResources) -> tuple[tuple[str, str], ...]:
    """Return what to write to which file, in order.

    Swap is taken away before the limit may push pages there, and memory.high slows down before memory.max kills.
    """
    wanted = (
        ("memory.min", resources.memory_min),
        ("memory.low", resources.memory_low),
        ("memory.swap.max", resources.swap_max),
        ("memory.high", resources.memory_high),
        ("memory.max", resources.memory_max),
        ("memory.oom.group", None if resources.oom_group is None else int(resources.oom_group)),
    )
    return tuple((file, str(value)) for file, value in wanted if value is not None)


def use(group: str) -> MemoryUse | None:
    """Return what a group uses; None when it is gone or the controller is not on it."""
    current, stat = files.number(group, "memory.current"), files.find(group, "memory.stat")
    if current is None or stat is None:
        return None
    numbers = files.keyed(stat)
    return MemoryUse(
        current=current,
        working_set=max(current - numbers.get("inactive_file", 0), 0),
        anonymous=numbers.get("anon", 0),
        file=numbers.get("file", 0),
        swap=files.number(group, "memory.swap.current") or 0,
        peak=files.number(group, "memory.peak"),
        limit=files.number(group, "memory.max"),
    )


def events(group: str) -> MemoryEvents | None:
    """Return the events of a group and all below it; None when it is gone or the controller is not on it."""
    text = files.find(group, "memory.events")
    return None if text is None else parse_events(text)


def local_events(group: str) -> MemoryEvents | None:
    """Return the events of a group itself; None when it is gone or the controller is not on it."""
    text = files.find(group, "memory.events.local")
    return None if text is None else parse_events(text)


def parse_events(text: str) -> MemoryEvents:
    """Read the text of a memory.events; what an older kernel does not count is 0."""
    numbers = files.keyed(text)
    return MemoryEvents(
        low=numbers.get("low", 0),
        high=numbers.get("high", 0),
        max=numbers.get("max", 0),
        oom=numbers.get("oom", 0),
        oom_kill=numbers.get("oom_kill", 0),
        oom_group_kill=numbers.get("oom_group_kill", 0),
    )
