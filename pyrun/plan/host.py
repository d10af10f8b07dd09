"""What a plan needs to know of the host; read once, before planning."""

from __future__ import annotations

import msgspec

from pyrun.cgroups.delegation import Place
from pyrun.security.limits import Rlimit
from pyrun.security.oom import LOWEST
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.resources import Capacity


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The host as a planner sees it. `capabilities` is the bounding set: the most a container can get.

    `place` is where its cgroups go, and what they can have; `oom_score_floor` the lowest oom_score_adj that may be
    written. `address` is the one it would send from, 127.0.0.1 without a route.
    """

    layout: Layout
    place: Place
    capacity: Capacity
    capabilities: tuple[str, ...]
    limits: tuple[Rlimit, ...]
    network: NetworkConfig
    hostname: str
    address: str = "127.0.0.1"
    oom_score_floor: int = LOWEST

    @property
    def controllers(self) -> tuple[str, ...]:
        """The controllers that the groups of Pods and containers can have."""
        return self.place.controllers
