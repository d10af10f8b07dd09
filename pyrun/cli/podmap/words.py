"""What all pictures of a map have in common: the columns of the cgroup tree, and how sizes are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyrun.cgroups.stats import GroupUse
from pyrun.runtime.map import Group, PodMap
from pyrun.spec.quantity import size

UNKNOWN = "-"


class Column(NamedTuple):
    """A column of the cgroup tree; `controller` is the one whose files it needs, empty for none."""

    title: str
    controller: str
    cell: Callable[[GroupUse], str]


def columns(pod_map: PodMap) -> tuple[Column, ...]:
    """Return the columns that can be filled here: those of controllers that no group has are left out."""
    if all(group.use is None for _, group in pod_map.groups()):
        return _COLUMNS[:1]
    missing = pod_map.missing()
    return tuple(column for column in _COLUMNS if column.controller not in missing)


def cells(group: Group, shown: Sequence[Column]) -> list[str]:
    """Return the cells of a group; of one that is gone, only that."""
    if group.use is None:
        return ["gone", *(UNKNOWN for _ in shown[1:])]
    return [column.cell(group.use) for column in shown]


def note(pod_map: PodMap) -> str:
    """Return the sentence about what is not shown, empty when all is."""
    missing = pod_map.missing()
    if not missing:
        return ""
    return (
        f"This cgroup hierarchy has no controller for {', '.join(missing)}: "
        "their limits and counts do not exist here (remedy: pyrun check)."
    )


def title(pod_map: PodMap, group: Group, depth: int) -> str:
    """Return the name of a group in the tree; the Pod's own is its id, cut."""
    hidden = f" (+{group.hidden} below)" if group.hidden else ""
    return (pod_map.uid[:8] if depth == 0 else printable(group.name)) + hidden


def printable(text: str) -> str:
    """Return a name that a container may have chosen, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text)


def cut(text: str, width: int) -> str:
    """Return a text that is not longer than `width`; its middle goes."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def state(use: GroupUse) -> str:
    """Return what cgroup.events and cgroup.freeze say of a group."""
    if use.frozen:
        return "frozen"
    if use.freeze:
        return "freezing"
    return "populated" if use.populated else "empty"


def _cpu_max(use: GroupUse) -> str:
    limits = use.cpu_limits
    if limits is None:
        return UNKNOWN
    return "max" if limits.quota_us is None else f"{limits.quota_us}/{limits.period_us}"


def _of(current: int, limit: int | None, write: Callable[[int], str]) -> str:
    return f"{write(current)}/{'max' if limit is None else write(limit)}"


_COLUMNS = (
    Column("STATE", "", state),
    Column("PROCS", "", lambda use: str(len(use.processes))),
    Column("CPU TIME", "", lambda use: f"{use.cpu.usage_us / 1e6:.2f}s"),
    Column("CPU.MAX", "cpu", _cpu_max),
    Column("WEIGHT", "cpu", lambda use: str(use.cpu_limits.weight) if use.cpu_limits else UNKNOWN),
    Column(
        "MEMORY/MAX",
        "memory",
        lambda use: _of(use.memory.current, use.memory.limit, size) if use.memory else UNKNOWN,
    ),
    Column(
        "PIDS/MAX",
        "pids",
        lambda use: _of(use.pids.current, use.pids.limit, str) if use.pids else UNKNOWN,
    ),
)
