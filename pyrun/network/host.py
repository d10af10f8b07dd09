"""The host's side of the Pod network: what all Pods of an instance share.

    route     unreachable SUBNET, lowest priority   first made, last removed: a packet to a Pod that is gone
    bridge    its address is the Pods' gateway      never takes the default route out of the host
    forwarding and the nftables tables              see `forwarding` and `tables`

Everything happens under the instance's lock, which is held for milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyrun.errors import NetworkError
from pyrun.network import forwarding, requests, tables
from pyrun.network.clash import find_clash, free_subnet
from pyrun.network.leases import leases, remove_leases
from pyrun.network.lock import network_lock
from pyrun.network.rtnetlink import Link, Route, RouteSocket
from pyrun.spec.network import NetworkConfig, mac_of

DEFAULT_MTU = 1500


def ensure(config: NetworkConfig) -> None:
    """Make the shared parts that are missing; NetworkError when the subnet or the bridge's name is taken."""
    with network_lock(config), RouteSocket() as netlink:
        bridge = netlink.link(config.bridge)
        if bridge is None or not bridge.up:
            _make_bridge(config, netlink, bridge)
        else:
            check_ownership(config, bridge)
            netlink.batch(
                requests.add_unreachable(config.network, config.route_protocol),
                requests.add_address(bridge.index, config.gateway, config.prefix_length),
            )
        forwarding.turn_on()
        if not tables.have_tables(config):
            # Pods may be running: somebody else's `nft flush ruleset` takes pyrun's tables too.
            members = [(config.link_of(uid), address) for address, uid in leases(config)]
            tables.make_tables(config, members)


def release(config: NetworkConfig, pod_uid: str) -> None:
    """Give a Pod's address back and, when no other Pod holds one, take the shared parts down.

    The lease goes last, under the same lock: whoever is interrupted here finds it again, and of two Pods
    that leave at once the second sees that the first has gone.
    """
    with network_lock(config):
        if all(owner == pod_uid for _, owner in leases(config)):
            with RouteSocket() as netlink:
                _take_down(config, netlink)
        remove_leases(config, pod_uid)


def check_ownership(config: NetworkConfig, bridge: Link) -> None:
    """Raise NetworkError unless the link of the bridge's name was made by this instance for this subnet."""
    if bridge.kind != "bridge" or bridge.mac != mac_of(config.gateway):
        raise NetworkError(
            f"the link {config.bridge} exists, but is not the bridge of pyrun for {config.subnet}",
            hint=f"if nothing uses it, remove it (ip link delete {config.bridge}); if Pods with another "
            "subnet are running, use theirs or remove them first",
        )


def _make_bridge(config: NetworkConfig, netlink: RouteSocket, bridge: Link | None) -> None:
    if bridge is not None:
        check_ownership(config, bridge)  # half made
    routes = netlink.routes()
    links = netlink.links()
    check_subnet_is_free(config, netlink, routes, links)
    netlink.batch(
        requests.add_unreachable(config.network, config.route_protocol),
        requests.add_bridge(config.bridge, mac_of(config.gateway)),
    )
    bridge = netlink.link(config.bridge)
    if bridge is None:
        raise NetworkError(f"the bridge {config.bridge} vanished while it was made")
    mtu = config.mtu or default_mtu(routes, links)
    # The MTU is set after creation: only then does the kernel keep it when ports come and go.
    netlink.batch(
        requests.without_ipv6_address(config.bridge),
        requests.add_address(bridge.index, config.gateway, config.prefix_length),
        requests.set_up(config.bridge, mtu),
    )


def check_subnet_is_free(
    config: NetworkConfig, netlink: RouteSocket, routes: Sequence[Route], links: Sequence[Link]
) -> None:
    """Raise NetworkError when a route or an address of the host, not of the instance, overlaps the subnet."""
    own = {link.index for link in links if link.name == config.bridge}
    routes = [route for route in routes if route.link not in own]
    addresses = [address for address in netlink.addresses() if address.link not in own]
    clash = find_clash(config.network, routes, addresses, {link.index: link.name for link in links})
    if clash is None:
        return
    free = free_subnet(routes, addresses)
    raise NetworkError(
        f"the Pod subnet {config.subnet} clashes with {clash} of this host",
        hint="choose another with --subnet or PYRUN_SUBNET" + (f", for example {free}" if free else ""),
    )


def default_mtu(routes: Sequence[Route], links: Sequence[Link]) -> int:
    """Return the MTU in bytes of the link of the default route, 1500 without one."""
    defaults = [route for route in routes if route.network.prefixlen == 0 and route.link]
    if not defaults:
        return DEFAULT_MTU
    best = min(defaults, key=lambda route: route.priority)
    return next((link.mtu for link in links if link.index == best.link), DEFAULT_MTU)


def _take_down(config: NetworkConfig, netlink: RouteSocket) -> None:
    tables.remove_tables(config)
    bridge = netlink.link(config.bridge)
    if bridge is not None and bridge.kind == "bridge" and bridge.mac == mac_of(config.gateway):
        netlink.batch(requests.delete_link(config.bridge))
    forwarding.restore(netlink)
    netlink.batch(requests.delete_unreachable(config.network, config.route_protocol))
