"""The pids controller: how many processes and threads there may be.

Source: cgroup-v2.rst, "PID Interface Files".
"""

from __future__ import annotations

from pyrun.cgroups import files
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.value import Value


class PidsUse(Value, frozen=True, kw_only=True):
    """Processes and threads of a group and all below it, and how often a fork was refused for its limit.

    `peak` is None where the kernel (before 6.1) does not know it, `limit` None is none.
    """

    current: int
    peak: int | None = None
    limit: int | None = None
    refused: int = 0


def settings(resources: LinuxResources) -> tuple[tuple[str, str], ...]:
    """Return what to write to which file."""
    return () if resources.pids_max is None else (("pids.max", str(resources.pids_max)),)


def use(group: str) -> PidsUse | None:
    """Return what a group holds; None when it is gone or the controller is not on it."""
    current = files.number(group, "pids.current")
    if current is None:
        return None
    return PidsUse(
        current=current,
        peak=files.number(group, "pids.peak"),
        limit=files.number(group, "pids.max"),
        refused=files.keyed(files.find(group, "pids.events") or "").get("max", 0),
    )
