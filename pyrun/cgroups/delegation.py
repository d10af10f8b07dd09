"""Which part of the hierarchy is ours, and how it is made ours. Nothing outside of it is touched.

- On a host without systemd the groups of instances lie in the root: nobody else looks after it.
- In a container they lie in the container's own group. Its processes go to a leaf first, because a group has
  processes or children with controllers, not both.
- Where PID 1 is systemd they lie in a delegated scope of their own: what systemd has not delegated, it takes for its
  own and resets. The scope is held by one process that does nothing, and ends with the last Pod of all instances.

Source: systemd, "Control Group APIs and Delegation"; cgroup-v2.rst, "No Internal Process Constraint".
"""

from __future__ import annotations

import enum
import errno
import os
import time
from collections.abc import Collection

from pyrun.cgroups import files
from pyrun.cgroups.controllers import CONTROLLERS
from pyrun.errors import Unsupported
from pyrun.kernel.operation import Operation, Results
from pyrun.kernel.proc import read_text
from pyrun.spec.value import Value

INIT_LEAF = "init"
SCOPE = "machine.slice/pyrun.scope"

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of include/linux/proc_ns.h
# What Delegate=yes gives: systemd.resource-control(5).
_DELEGATED = frozenset({"cpu", "cpuset", "io", "memory", "pids"})
_MOVING = 2.0
_OPTIONS = {
    "cpu": "CONFIG_FAIR_GROUP_SCHED and CONFIG_CFS_BANDWIDTH",
    "cpuset": "CONFIG_CPUSETS",
    "hugetlb": "CONFIG_CGROUP_HUGETLB",
    "io": "CONFIG_BLK_CGROUP",
    "memory": "CONFIG_MEMCG",
    "pids": "CONFIG_CGROUP_PIDS",
}


class Owner(enum.Enum):
    """Who looks after the group in which those of instances lie."""

    NOBODY = "nobody"
    CONTAINER = "container"
    SYSTEMD = "systemd"


class Place(Value, frozen=True, kw_only=True):
    """The group in which those of instances lie, and the controllers it can give them, in the order of CONTROLLERS."""

    parent: str
    owner: Owner = Owner.NOBODY
    controllers: tuple[str, ...] = ()


def find_place() -> Place:
    """Return where the groups of instances lie. Changes nothing. Raises Unsupported without cgroup v2."""
    mount = files.unified_mount()
    if _systemd_is_here():
        return _scope(mount)
    if is_root(mount) and os.readlink("/proc/self/ns/pid") == _INITIAL_PID_NAMESPACE:
        return _place(mount, Owner.NOBODY)
    own = _group_of_init(mount)
    return _place(own, Owner.NOBODY if is_root(own) else Owner.CONTAINER)


def _systemd_is_here() -> bool:
    """Whether systemd is PID 1 (sd_booted(3)), uses this hierarchy, and is in the part of it that is seen."""
    path = _path_of_init()
    return os.path.isdir("/run/systemd/system") and path != "/" and not path.startswith("/..")


def is_root(group: str) -> bool:
    """Whether a group is the root of the hierarchy itself, not only of what a cgroup namespace shows of it."""
    return not os.path.exists(f"{group}/cgroup.type")


def _place(parent: str, owner: Owner) -> Place:
    return Place(parent=parent, owner=owner, controllers=_known(files.controllers(parent)))


def _known(there: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in CONTROLLERS if name in there)


def _scope(mount: str) -> Place:
    parent = f"{mount}/{SCOPE}"
    there = frozenset(files.controllers(mount)) & _DELEGATED
    of_scope = files.find(parent, "cgroup.controllers")
    if of_scope is not None:  # it is made for the first Pod, and goes with the last
        there &= frozenset(of_scope.split())
    return Place(parent=parent, owner=Owner.SYSTEMD, controllers=_known(there))


def _group_of_init(mount: str) -> str:
    """The group of the container around us: that of its PID 1, which may have been moved to a leaf already."""
    path = _path_of_init().removesuffix(f"/{INIT_LEAF}").rstrip("/")
    outside = path.startswith("/..")  # PID 1 is the host's, the cgroup namespace is not
    return mount if outside or not os.path.isdir(mount + path) else mount + path


def _path_of_init() -> str:
    """The path of PID 1 on the unified hierarchy, as this cgroup namespace shows it."""
    lines = read_text("/proc/1/cgroup").splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")


def remedy(place: Place, controller: str) -> str:
    """Return what to do for a controller that a place does not have."""
    if controller in _held_by_v1():
        return "cgroup v1 holds it: boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all"
    if place.owner is Owner.CONTAINER:
        return f"enable it in cgroup.subtree_control of the group above {place.parent}, from outside this container"
    if place.owner is Owner.SYSTEMD and controller not in _DELEGATED:
        return "systemd does not delegate it"
    return f"boot with cgroup_enable={controller}, or use a kernel with {_OPTIONS[controller]}"


def _held_by_v1() -> frozenset[str]:
    """The controllers that are mounted as hierarchies of cgroup v1, by their names in v2."""
    try:
        lines = read_text("/proc/cgroups").splitlines()
    except FileNotFoundError:
        return frozenset()
    held = {fields[0] for line in lines if (fields := line.split())[1] not in ("0", "hierarchy")}
    return frozenset("io" if name == "blkio" else name for name in held)


class VacateCgroup(Operation, frozen=True, tag=True):
    """Move every process of a group into a leaf of it. Undo leaves them there, where they lack nothing.

    Raises Unsupported for a process that this one cannot see or may not move.
    """

    group: str
    leaf: str = INIT_LEAF

    def describe(self) -> str:
        target = f"{self.group}/{self.leaf}"
        return f"mkdir -p {target}; write each process of {self.group} to {target}/cgroup.procs"

    def apply(self, results: Results) -> None:
        deadline = time.monotonic() + _MOVING
        while pids := files.processes(self.group):  # anew: they fork meanwhile
            os.makedirs(f"{self.group}/{self.leaf}", exist_ok=True)
            for pid in pids:
                self._move(pid)
            if time.monotonic() > deadline:
                raise Unsupported(
                    f"processes do not leave {self.group}: {', '.join(map(str, pids))}",
                    hint="stop what starts new ones there",
                )

    def _move(self, pid: int) -> None:
        try:
            files.write(f"{self.group}/{self.leaf}", "cgroup.procs", str(pid))
        except OSError as error:
            if error.errno == errno.ESRCH and pid:
                return  # it has ended
            who = f"process {pid}" if pid else "a process of another PID namespace"
            raise Unsupported(
                f"{who} cannot be moved from {self.group} to its child {self.leaf}: {error.strerror}",
                hint="start pyrun in a cgroup of its own, such as a unit with Delegate=yes",
            ) from None

    def undo(self) -> None:
        """Nothing."""
