"""What is written into one cgroup: the values of its files, without the files.

Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

from pyrun.spec.value import Value


class LinuxResources(Value, frozen=True, kw_only=True):
    """The settings of one cgroup, and the OOM score of its processes. None and () are not written.

    Memory, swap and huge pages are bytes. `io_max` are whole lines of io.max (`8:0 rbps=1048576`), `hugetlb` pairs
    of page size as the kernel names it (`2MB`) and bytes; `oom_group` true means that the kernel kills all or none.
    """

    cpu_weight: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    memory_max: int | None = None
    memory_high: int | None = None
    memory_low: int | None = None
    memory_min: int | None = None
    swap_max: int | None = None
    oom_group: bool | None = None
    pids_max: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    io_weight: int | None = None
    io_max: tuple[str, ...] = ()
    hugetlb: tuple[tuple[str, int], ...] = ()
    oom_score_adj: int | None = None
