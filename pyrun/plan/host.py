"""What a plan needs to know of the host; read once, before planning."""

from __future__ import annotations

import msgspec

from pyrun.security.limits import Rlimit
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The host as a planner sees it. `capabilities` is the bounding set: the most a container can get.

    `address` is the one it would send from, 127.0.0.1 without a route.
    """

    layout: Layout
    cgroup_mount: str
    capabilities: tuple[str, ...]
    limits: tuple[Rlimit, ...]
    network: NetworkConfig
    hostname: str
    address: str = "127.0.0.1"
