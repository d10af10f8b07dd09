"""The cpu controller: weight against one's siblings, and a hard limit of time in each period.

Source: cgroup-v2.rst, "CPU Interface Files".
"""

from __future__ import annotations

from pyrun.cgroups import files
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.value import Value


class CpuUse(Value, frozen=True, kw_only=True):
    """What a group and all below it have used, in microseconds; the counts of periods are 0 without the controller.

    Of `periods` in which something could run, it was made to wait in `throttled_periods`, for `throttled_us` in all.
    """

    usage_us: int = 0
    user_us: int = 0
    system_us: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_us: int = 0


def settings(resources: LinuxResources) -> tuple[tuple[str, str], ...]:
    """Return what to write to which file, in order."""
    found = []
    if resources.cpu_weight is not None:
        found.append(("cpu.weight", str(resources.cpu_weight)))
    if resources.cpu_quota_us is not None or resources.cpu_period_us is not None:
        quota = "max" if resources.cpu_quota_us is None else str(resources.cpu_quota_us)
        period = "" if resources.cpu_period_us is None else f" {resources.cpu_period_us}"
        found.append(("cpu.max", quota + period))
    return tuple(found)


def use(group: str) -> CpuUse | None:
    """Return what a group has used; the kernel counts it with and without the controller. None when it is gone."""
    text = files.find(group, "cpu.stat")
    return None if text is None else parse(text)


def parse(text: str) -> CpuUse:
    """Read the text of a cpu.stat."""
    numbers = files.keyed(text)
    return CpuUse(
        usage_us=numbers.get("usage_usec", 0),
        user_us=numbers.get("user_usec", 0),
        system_us=numbers.get("system_usec", 0),
        periods=numbers.get("nr_periods", 0),
        throttled_periods=numbers.get("nr_throttled", 0),
        throttled_us=numbers.get("throttled_usec", 0),
    )
