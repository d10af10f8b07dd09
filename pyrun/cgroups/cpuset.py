"""The cpuset controller: on which CPUs and memory nodes.

Source: cgroup-v2.rst, "Cpuset Interface Files"; lists as in cpuset(7).
"""

from __future__ import annotations

from pyrun.cgroups import files
from pyrun.spec.cgroup import LinuxResources


def settings(resources: LinuxResources) -> tuple[tuple[str, str], ...]:
    """Return what to write to which file, in order: memory nodes first, so that CPUs find theirs."""
    wanted = (("cpuset.mems", resources.cpuset_mems), ("cpuset.cpus", resources.cpuset_cpus))
    return tuple((file, value) for file, value in wanted if value is not None)


def effective(group: str) -> tuple[str, str] | None:
    """Return the CPUs and memory nodes that a group really has; None when it is gone or the controller is not on it."""
    cpus, mems = files.find(group, "cpuset.cpus.effective"), files.find(group, "cpuset.mems.effective")
    return None if cpus is None or mems is None else (cpus.strip(), mems.strip())
