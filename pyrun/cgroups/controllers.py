"""All controllers together: which settings belong to which, in the order in which the kernel wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pyrun.cgroups import cpu, cpuset, hugetlb, io, memory, pids
from pyrun.spec.cgroup import LinuxResources

_SETTINGS: tuple[tuple[str, Callable[[LinuxResources], tuple[tuple[str, str], ...]]], ...] = (
    ("cpuset", cpuset.settings),
    ("cpu", cpu.settings),
    ("io", io.settings),
    ("memory", memory.settings),
    ("pids", pids.settings),
    ("hugetlb", hugetlb.settings),
)

CONTROLLERS = tuple(name for name, _ in _SETTINGS)
"""The controllers that pyrun uses, as the kernel names them."""


class Setting(NamedTuple):
    """A value for a file of a group, and the controller whose file that is."""

    controller: str
    file: str
    value: str


def settings(resources: LinuxResources) -> tuple[Setting, ...]:
    """Return all that is to be written into a group, in order."""
    return tuple(Setting(name, *pair) for name, function in _SETTINGS for pair in function(resources))
