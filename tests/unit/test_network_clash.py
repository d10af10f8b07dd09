"""Which routes and addresses of a host clash with a Pod subnet."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

import pytest

from pyrun.network.clash import find_clash, free_subnet
from pyrun.network.host import default_mtu
from pyrun.network.rtnetlink import Address, Link, Route

SUBNET = IPv4Network("10.137.0.0/16")
UNICAST, BLACKHOLE, UNREACHABLE = 1, 6, 7
LINKS = {1: "lo", 2: "eth0", 3: "tun0"}


def route(network: str, kind: int = UNICAST, link: int = 3, gateway: str = "") -> Route:
    return Route(IPv4Network(network), kind, link, 0, 254, gateway)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (route("10.137.0.0/16"), "the route 10.137.0.0/16 dev tun0"),
        (route("10.0.0.0/8", gateway="192.0.2.1"), "the route 10.0.0.0/8 via 192.0.2.1 dev tun0"),
        (route("10.137.5.0/24"), "the route 10.137.5.0/24 dev tun0"),
        (route("10.137.5.0/24", BLACKHOLE, 0), "the route 10.137.5.0/24 dev ?"),
        (route("10.138.0.0/16"), None),
        (route("0.0.0.0/0"), None),
        (route("0.0.0.0/1"), None),
        (route("10.0.0.0/8", BLACKHOLE, 0), None),
        (route("10.137.0.0/16", UNREACHABLE, 0), None),
    ],
)
def test_routes(found: Route, said: str | None) -> None:
    assert find_clash(SUBNET, [route("192.0.2.0/24"), found], [], LINKS) == said


def test_addresses() -> None:
    address = Address(IPv4Interface("10.137.9.1/24"), 2)
    assert find_clash(SUBNET, [], [address], LINKS) == "the address 10.137.9.1/24 of eth0"
    assert find_clash(SUBNET, [], [Address(IPv4Interface("192.0.2.1/24"), 2)], LINKS) is None


def test_a_free_subnet_is_proposed() -> None:
    assert free_subnet([], []) == "10.137.0.0/16"
    assert free_subnet([route("10.136.0.0/14")], []) == "10.140.0.0/16"
    assert free_subnet([route("10.0.0.0/8")], []) is None


def test_the_mtu_is_that_of_the_best_default_route() -> None:
    links = [Link(2, "eth0", "", "", 1400, True, True), Link(3, "tun0", "tun", "", 1300, True, True)]
    slow = Route(IPv4Network("0.0.0.0/0"), UNICAST, 3, 600, 254, "")
    fast = Route(IPv4Network("0.0.0.0/0"), UNICAST, 2, 100, 254, "")
    assert default_mtu([slow, fast], links) == 1400
    assert default_mtu([slow], links) == 1300
    assert default_mtu([route("10.0.0.0/8")], links) == 1500
