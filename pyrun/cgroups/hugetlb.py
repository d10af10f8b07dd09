"""The hugetlb controller: how much of the huge pages of each size.

Source: cgroup-v2.rst, "HugeTLB Interface Files"; Documentation/admin-guide/cgroup-v1/hugetlb.rst on reservations.
"""

from __future__ import annotations

import os

from pyrun.cgroups import files
from pyrun.spec.cgroup import LinuxResources


def settings(resources: LinuxResources) -> tuple[tuple[str, str], ...]:
    """Return what to write to which file, in order.

    The limit of reservations makes mmap(2) fail with ENOMEM; the other one alone would be a SIGBUS at the first touch.
    """
    return tuple(
        (f"hugetlb.{size}.{file}", str(limit))
        for size, limit in resources.hugetlb
        for file in ("rsvd.max", "max")
    )


def use(group: str) -> tuple[tuple[str, int], ...]:
    """Return pairs of page size and bytes in use; empty when the group is gone or the controller is not on it."""
    try:
        names = os.listdir(group)
    except FileNotFoundError:
        return ()
    sizes = sorted(n.split(".")[1] for n in names if n.startswith("hugetlb.") and n.count(".") == 2)
    found = ((size, files.number(group, f"hugetlb.{size}.current")) for size in dict.fromkeys(sizes))
    return tuple((size, amount) for size, amount in found if amount is not None)
