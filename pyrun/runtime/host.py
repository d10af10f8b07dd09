"""Reading the facts of the host that plans are made from."""

from __future__ import annotations

import os
import socket

from pyrun.cgroups.delegation import find_place
from pyrun.errors import PyrunError
from pyrun.plan.host import HostFacts
from pyrun.security.capabilities import bounding_set
from pyrun.security.limits import hard_limits
from pyrun.security.oom import score_floor
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.resources import Capacity

_HUGE_PAGES = "/sys/kernel/mm/hugepages"
"""A directory hugepages-SIZEkB for each size (Documentation/admin-guide/mm/hugetlbpage.rst)."""
_ELSEWHERE = "192.0.2.1"
"""An address of documentation (RFC 5737), nobody's."""


def require_root() -> None:
    """Raise PyrunError unless this process may make namespaces and mounts."""
    if os.geteuid() != 0:
        raise PyrunError(
            "pyrun makes namespaces, mounts and cgroups, which needs root",
            hint="run it with sudo (pyrun plan, --help and version work without)",
        )


def read_host(layout: Layout, network: NetworkConfig) -> HostFacts:
    """Return the facts of this host. Raises Unsupported when there is no cgroup v2 hierarchy."""
    return HostFacts(
        layout=layout,
        place=find_place(),
        capacity=read_capacity(layout),
        capabilities=bounding_set(),
        limits=hard_limits(),
        network=network,
        hostname=socket.gethostname(),
        address=_address(),
        oom_score_floor=score_floor(),
    )


def read_capacity(layout: Layout) -> Capacity:
    """Return the CPUs that are online, the memory, the file system of Pods' files and the huge pages of this host."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = os.statvfs(_nearest(layout.root))
    return Capacity(
        cpu_millis=os.sysconf("SC_NPROCESSORS_ONLN") * 1000,
        memory=memory,
        ephemeral_storage=disk.f_blocks * disk.f_frsize,
        hugepages=_huge_pages(),
    )


def _nearest(path: str) -> str:
    """Return a path, or what there is above it: it may not have been made yet."""
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    return path or "."


def _huge_pages() -> tuple[tuple[int, int], ...]:
    """Return size and memory of the pools of huge pages that have some."""
    found = []
    for name in os.listdir(_HUGE_PAGES) if os.path.isdir(_HUGE_PAGES) else ():
        size = int(name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        with open(f"{_HUGE_PAGES}/{name}/nr_hugepages", encoding="ascii") as pool:
            count = int(pool.read())
        found += [(size, size * count)] if count else []
    return tuple(sorted(found))


def _address() -> str:
    """The address that the host would send from. Connecting a UDP socket asks the routes and sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((_ELSEWHERE, 9))
        except OSError:
            return "127.0.0.1"
        return str(asking.getsockname()[0])
