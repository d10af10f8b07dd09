"""The io controller: weight against one's siblings, and limits for single devices.

Source: cgroup-v2.rst, "IO Interface Files".
"""

from __future__ import annotations

from pyrun.cgroups import files
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.value import Value


class IoUse(Value, frozen=True, kw_only=True):
    """Bytes and operations of a group and all below it, on all devices together."""

    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


def settings(resources: LinuxResources) -> tuple[tuple[str, str], ...]:
    """Return what to write to which file, in order; a device a write."""
    weight = () if resources.io_weight is None else (("io.weight", f"default {resources.io_weight}"),)
    return (*weight, *(("io.max", line) for line in resources.io_max))


def use(group: str) -> IoUse | None:
    """Return what a group has done; None when it is gone or the controller is not on it."""
    text = files.find(group, "io.stat")
    return None if text is None else parse(text)


def parse(text: str) -> IoUse:
    """Read the text of an io.stat and add up its devices."""
    sums: dict[str, int] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if equals and value.isdecimal():
            sums[key] = sums.get(key, 0) + int(value)
    return IoUse(
        read_bytes=sums.get("rbytes", 0),
        written_bytes=sums.get("wbytes", 0),
        reads=sums.get("rios", 0),
        writes=sums.get("wios", 0),
    )
