"""Annotations that set what Kubernetes has no field for in a cgroup: `pyrun.io/SETTING` in the Pod's own, and
`SETTING.pyrun.io/CONTAINER` in a container's.

- `pids-limit`: the most processes and threads.
- `cpuset-cpus`, `cpuset-mems`: the CPUs and memory nodes that may be used, as a list such as `0-2,4`.
- `io-weight`: the share of a disk under contention, 1 to 10000, where 100 is that of everyone.
- `io-max`: limits of disks, `MAJ:MIN KEY=NUMBER...` with the keys rbps, wbps, riops and wiops; several by `;`.
- `memory-high` (above it memory is reclaimed and its users slowed down), `memory-min` (never reclaimed below it) and
  `swap-max`, quantities such as `64Mi`.
- `single-process-oom-kill`: `true` leaves the rest of a container alive when the kernel kills one of its processes
  for memory; `false` at the Pod kills all its containers together when the Pod is out of memory.
- `hugetlb-SIZE`: the most memory in huge pages of a size, such as `hugetlb-2Mi`.

Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from pyrun.spec.annotations import DOMAIN, parse_switch
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.hugepages import format_page_size, kernel_page_size, parse_page_size, parse_pages
from pyrun.spec.quantity import parse_whole_bytes
from pyrun.spec.quoting import quoted

PIDS_LIMIT = "pids-limit"
CPUSET_CPUS = "cpuset-cpus"
CPUSET_MEMS = "cpuset-mems"
IO_WEIGHT = "io-weight"
IO_MAX = "io-max"
MEMORY_HIGH = "memory-high"
MEMORY_MIN = "memory-min"
SWAP_MAX = "swap-max"
SINGLE_PROCESS_OOM_KILL = "single-process-oom-kill"
SETTINGS = (
    PIDS_LIMIT,
    CPUSET_CPUS,
    CPUSET_MEMS,
    IO_WEIGHT,
    IO_MAX,
    MEMORY_HIGH,
    MEMORY_MIN,
    SWAP_MAX,
    SINGLE_PROCESS_OOM_KILL,
)
"""What can be set, but for the huge pages of a size."""
HUGETLB_PREFIX = "hugetlb-"

MAX_PIDS = 2**22
"""Most processes that the kernel counts to (PID_MAX_LIMIT, include/linux/threads.h)."""
MAX_IO_WEIGHT = 10000
MAX_CPU = 8191
"""Highest CPU that a kernel is built for (NR_CPUS, arch/x86/Kconfig)."""
MAX_MEMORY_NODE = 1023
"""Highest memory node that a kernel is built for (NODES_SHIFT, arch/x86/Kconfig)."""

_DEVICE = re.compile(r"[0-9]{1,4}:[0-9]{1,7}")
_IO_KEYS = ("rbps", "wbps", "riops", "wiops")
_Read = TypeVar("_Read")


class SettingKey(NamedTuple):
    """The key of an annotation: what it sets, and of which container; empty for the Pod."""

    setting: str
    container: str


def setting_key(key: str) -> SettingKey | None:
    """Cut the key of an annotation; None when it is not pyrun's. Whether it sets anything is not asked."""
    prefix, _, name = key.partition("/")
    if prefix == DOMAIN:
        return SettingKey(name, "")
    setting = prefix.removesuffix(f".{DOMAIN}")
    return None if setting == prefix else SettingKey(setting, name)


def annotation(setting: str, container: str = "") -> str:
    """Return the key of the annotation that sets something of a container or (empty) of the Pod."""
    return f"{setting}.{DOMAIN}/{container}" if container else f"{DOMAIN}/{setting}"


def is_setting(name: str) -> bool:
    """Whether something can be set by this name; the page size of huge pages is not looked at."""
    return name in SETTINGS or name.startswith(HUGETLB_PREFIX)


def parse_setting(name: str, text: str) -> LinuxResources:
    """Return what one setting sets. Raises ValueError with a sentence when its value is not what it must be."""
    return _settings({name: text})


def settings_of(annotations: Mapping[str, str], container: str = "") -> LinuxResources:
    """Return what annotations set for a container or (empty) for the Pod's own cgroup.

    Raises ValueError with a sentence when a value is not what it must be.
    """
    keys = {name: setting_key(name) for name in annotations}
    return _settings(
        {key.setting: annotations[name] for name, key in keys.items() if key and key.container == container}
    )


def _settings(given: Mapping[str, str]) -> LinuxResources:
    def of(name: str, parse: Callable[[str], _Read]) -> _Read | None:
        return parse(given[name]) if name in given else None

    single = of(SINGLE_PROCESS_OOM_KILL, parse_switch)
    return LinuxResources(
        pids_max=of(PIDS_LIMIT, lambda text: _number(text, MAX_PIDS)),
        cpuset_cpus=of(CPUSET_CPUS, lambda text: _list(text, MAX_CPU)),
        cpuset_mems=of(CPUSET_MEMS, lambda text: _list(text, MAX_MEMORY_NODE)),
        io_weight=of(IO_WEIGHT, lambda text: _number(text, MAX_IO_WEIGHT)),
        io_max=of(IO_MAX, _io_max) or (),
        memory_high=of(MEMORY_HIGH, _some_bytes),
        memory_min=of(MEMORY_MIN, _bytes),
        swap_max=of(SWAP_MAX, _bytes),
        oom_group=None if single is None else not single,
        hugetlb=_hugetlb(given),
    )


def _hugetlb(given: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    limits: dict[int, int] = {}
    for name, text in given.items():
        if name.startswith(HUGETLB_PREFIX):
            size = parse_page_size(name.removeprefix(HUGETLB_PREFIX))
            plain = f"{HUGETLB_PREFIX}{format_page_size(size)}"
            if name != plain:
                raise ValueError(f'spell it "{plain}"')
            limits[size] = parse_pages(_unsigned(text), size)
    return tuple((kernel_page_size(size), limits[size]) for size in sorted(limits))


def _number(text: str, most: int) -> int:
    number = int(text) if re.fullmatch(r"[0-9]{1,10}", text) else 0
    if not 1 <= number <= most:
        raise ValueError(f"{quoted(text)} is not a number between 1 and {most}")
    return number


def _bytes(text: str) -> int:
    return parse_whole_bytes(_unsigned(text))


def _some_bytes(text: str) -> int:
    amount = _bytes(text)
    if not amount:
        raise ValueError("must not be zero")
    return amount


def _unsigned(text: str) -> str:
    if text.startswith("-"):
        raise ValueError(f"must not be negative, got {quoted(text)}")
    return text


def _list(text: str, highest: int) -> str:
    """Check a list of numbers and ranges of them, as cpuset(7) has it."""
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        if match is None:
            raise ValueError(f"{quoted(text)} is not a list of numbers and ranges such as 0-2,4")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f"{quoted(text)} has the range {part}, which ends before it begins")
        if last > highest:
            raise ValueError(f"{quoted(text)} has the number {last}, the highest there can be is {highest}")
    return text


def _io_max(text: str) -> tuple[str, ...]:
    lines = tuple(_io_line(part) for part in text.split(";"))
    devices = [line.partition(" ")[0] for line in lines]
    for device in devices:
        if devices.count(device) > 1:
            raise ValueError(f"device {device} is given twice; its limits go into one line")
    return lines


def _io_line(text: str) -> str:
    """Check the limits of one device, and return them with single spaces."""
    device, *limits = text.split() or ("",)
    if not _DEVICE.fullmatch(device) or not limits:
        raise ValueError(
            f'{quoted(text.strip())} is no limit of a disk such as "8:0 rbps=1048576 wiops=120", several by ";"'
        )
    keys = []
    for limit in limits:
        key, _, value = limit.partition("=")
        if key not in _IO_KEYS:
            raise ValueError(f"{quoted(limit)} limits none of {', '.join(_IO_KEYS)}")
        if key in keys:
            raise ValueError(f"{key} of device {device} is given twice")
        if not re.fullmatch(r"[0-9]{1,19}", value) or not 1 <= int(value) < 2**63:
            raise ValueError(f"{quoted(limit)} has no number from 1 on")
        keys.append(key)
    return " ".join((device, *limits))
