"""The rtnetlink requests of the Pod network, one function each, named after what ip(8) would do."""

from __future__ import annotations

import errno
from ipaddress import IPv4Network

from pyrun.network import rtnetlink
from pyrun.network.rtnetlink import AF_INET, Request, message

IFF_UP = 1
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
RT_TABLE_MAIN = 254
RTPROT_STATIC = 4
LOWEST_PRIORITY = 0xFFFFFFFF
ADDR_GEN_MODE_NONE = 1


def add_bridge(name: str, mac: str) -> Request:
    """ip link add NAME address MAC type bridge; one that exists is fine.

    With a MAC of its own the bridge does not take that of its lowest port, which would change, and with it
    what every Pod has in its ARP cache, whenever a Pod comes or goes.
    """
    attributes = [
        ("IFLA_IFNAME", name),
        ("IFLA_ADDRESS", mac),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge")]}),
    ]
    body = message(rtnetlink.RTM_NEWLINK, {}, attributes)
    return Request(rtnetlink.RTM_NEWLINK, rtnetlink.CREATE, body, f"link {name}", (errno.EEXIST,))


def add_veth(name: str, bridge: int, mtu: int, peer: tuple[str, str, int]) -> Request:
    """ip link add NAME master BRIDGE mtu MTU type veth peer name ... address ... netns ...

    `peer` is the name, the MAC address and a descriptor of the network namespace of the other end, which
    is born there: it never exists on the host.
    """
    peer_name, peer_mac, namespace = peer
    peer_attributes = [
        ("IFLA_IFNAME", peer_name),
        ("IFLA_ADDRESS", peer_mac),
        ("IFLA_MTU", mtu),
        ("IFLA_NET_NS_FD", namespace),
    ]
    data = {"attrs": [("VETH_INFO_PEER", {"index": 0, "attrs": peer_attributes})]}
    attributes = [
        ("IFLA_IFNAME", name),
        ("IFLA_MTU", mtu),
        ("IFLA_MASTER", bridge),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}),
    ]
    body = message(rtnetlink.RTM_NEWLINK, {}, attributes)
    return Request(rtnetlink.RTM_NEWLINK, rtnetlink.CREATE, body, f"link {name}")


def without_ipv6_address(name: str) -> Request:
    """ip link set NAME addrgenmode none: no link-local address, no duplicate address detection.

    Must come before the link is up. A kernel without IPv6 has nothing to switch off.
    """
    modes = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", ADDR_GEN_MODE_NONE)]}
    attributes = [("IFLA_IFNAME", name), ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", modes)]})]
    body = message(rtnetlink.RTM_NEWLINK, {}, attributes)
    return Request(rtnetlink.RTM_NEWLINK, 0, body, f"link {name}", (errno.EAFNOSUPPORT,))


def set_up(name: str, mtu: int | None = None) -> Request:
    """ip link set NAME [mtu MTU] up."""
    attributes: list[tuple[str, object]] = [("IFLA_IFNAME", name)]
    if mtu is not None:
        attributes.append(("IFLA_MTU", mtu))
    body = message(rtnetlink.RTM_NEWLINK, {"flags": IFF_UP, "change": IFF_UP}, attributes)
    return Request(rtnetlink.RTM_NEWLINK, 0, body, f"link {name}")


def delete_link(name: str) -> Request:
    """ip link delete NAME; one that is gone is fine."""
    body = message(rtnetlink.RTM_DELLINK, {}, [("IFLA_IFNAME", name)])
    return Request(rtnetlink.RTM_DELLINK, 0, body, f"link {name}", (errno.ENODEV,))


def add_address(link: int, address: str, prefix_length: int) -> Request:
    """ip addr add ADDRESS/LENGTH broadcast + dev LINK; one that exists is fine."""
    broadcast = str(IPv4Network(f"{address}/{prefix_length}", strict=False).broadcast_address)
    attributes = [("IFA_LOCAL", address), ("IFA_ADDRESS", address), ("IFA_BROADCAST", broadcast)]
    fields = {"family": AF_INET, "prefixlen": prefix_length, "index": link}
    body = message(rtnetlink.RTM_NEWADDR, fields, attributes)
    return Request(rtnetlink.RTM_NEWADDR, rtnetlink.CREATE, body, f"address {address}", (errno.EEXIST,))


def add_default_route(gateway: str) -> Request:
    """ip route add default via GATEWAY."""
    fields = _route_fields(0, RTN_UNICAST)
    body = message(rtnetlink.RTM_NEWROUTE, fields, [("RTA_GATEWAY", gateway)])
    return Request(rtnetlink.RTM_NEWROUTE, rtnetlink.CREATE, body, f"default route via {gateway}")


def add_unreachable(network: IPv4Network, protocol: int) -> Request:
    """ip route add unreachable NETWORK metric 4294967295 proto PROTOCOL; one that exists is fine."""
    body = _unreachable(network, protocol)
    return Request(
        rtnetlink.RTM_NEWROUTE, rtnetlink.CREATE, body, f"unreachable route {network}", (errno.EEXIST,)
    )


def delete_unreachable(network: IPv4Network, protocol: int) -> Request:
    """ip route delete unreachable NETWORK metric 4294967295 proto PROTOCOL; one that is gone is fine.

    The kernel deletes only a route of this protocol: another instance's stays.
    """
    body = _unreachable(network, protocol)
    return Request(rtnetlink.RTM_DELROUTE, 0, body, f"unreachable route {network}", (errno.ESRCH,))


def _unreachable(network: IPv4Network, protocol: int) -> rtnetlink.Message:
    attributes = [("RTA_DST", str(network.network_address)), ("RTA_PRIORITY", LOWEST_PRIORITY)]
    fields = {**_route_fields(network.prefixlen, RTN_UNREACHABLE), "proto": protocol}
    return message(rtnetlink.RTM_NEWROUTE, fields, attributes)


def _route_fields(length: int, kind: int) -> dict[str, int]:
    return {
        "family": AF_INET,
        "dst_len": length,
        "table": RT_TABLE_MAIN,
        "proto": RTPROT_STATIC,
        "scope": 0,
        "type": kind,
    }
