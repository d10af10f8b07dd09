"""Whether the Pod subnet is free on this host, as a pure function of the host's routes and addresses.

Routes of every table count: a VPN's policy routes as well as `local`. What does not count is a default
route (also as the two halves that VPNs use), and a route that refuses a wider network: nothing is behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

from pyrun.network.rtnetlink import Address, Route

_REFUSING = (6, 7, 8)  # RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT
_WIDEST_PREFIX = 1  # 0.0.0.0/1 and 128.0.0.0/1 stand for a default route


def find_clash(
    subnet: IPv4Network, routes: Sequence[Route], addresses: Sequence[Address], links: Mapping[int, str]
) -> str | None:
    """Return what of the host overlaps the subnet ("the route 10.0.0.0/8 dev tun0"), None when it is free.

    `links` gives the names of interfaces by index.
    """
    for address in addresses:
        if address.interface.network.overlaps(subnet):
            return f"the address {address.interface} of {links.get(address.link, '?')}"
    for route in routes:
        if route.network.prefixlen <= _WIDEST_PREFIX or not route.network.overlaps(subnet):
            continue
        if route.type in _REFUSING and subnet.subnet_of(route.network):
            continue
        via = f" via {route.gateway}" if route.gateway else ""
        return f"the route {route.network}{via} dev {links.get(route.link, '?')}"
    return None


def free_subnet(routes: Sequence[Route], addresses: Sequence[Address]) -> str | None:
    """Return a subnet to propose: the first /16 from 10.137 on that is free, None when none is."""
    for second in (*range(137, 244), *range(11, 42)):
        subnet = IPv4Network(f"10.{second}.0.0/16")
        if find_clash(subnet, routes, addresses, {}) is None:
            return str(subnet)
    return None
