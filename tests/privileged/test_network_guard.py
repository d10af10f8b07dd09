"""The guard: a Pod sends with the address it was given and with no other, whatever its rights."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.network import nftables, tables
from pyrun.network.host import ensure
from pyrun.network.netns import in_network_namespace
from tests.netns import host_namespace, ip, sender_seen
from tests.privileged.network_pods import ConnectedPod, config_at, connected_pod

pytestmark = pytest.mark.requires("namespaces", "nftables")

CLAIM = "10.137.200.200"


@pytest.fixture
def host() -> Iterator[int]:
    """A network namespace that plays the host, in which the test runs."""
    with host_namespace() as namespace:
        yield namespace


def claim_address(pod: ConnectedPod, address: str) -> None:
    """Do what a Pod with CAP_NET_ADMIN can do: take another address."""
    with in_network_namespace(pod.pidfd):
        ip(f"addr add {address}/16 dev eth0")


def test_a_pod_cannot_send_with_an_address_that_is_not_its_own(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with connected_pod(config) as liar, connected_pod(config) as victim:
        claim_address(liar, CLAIM)
        assert sender_seen(liar.pidfd, victim.pidfd, victim.address, claim=liar.address) == liar.address
        assert sender_seen(liar.pidfd, victim.pidfd, victim.address, claim=CLAIM) is None
        assert sender_seen(liar.pidfd, None, config.gateway, claim=CLAIM) is None
        nftables.run(f"flush chain bridge {config.table} prerouting")
        assert sender_seen(liar.pidfd, victim.pidfd, victim.address, claim=CLAIM) == CLAIM


def test_a_pod_cannot_answer_arp_for_another(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with connected_pod(config) as liar, connected_pod(config) as victim:
        claim_address(liar, CLAIM)
        assert sender_seen(victim.pidfd, liar.pidfd, CLAIM) is None
        nftables.run(f"flush chain bridge {config.table} prerouting")
        ip(f"neigh flush dev {config.bridge}")
        with in_network_namespace(victim.pidfd):
            ip("neigh flush dev eth0")
        assert sender_seen(victim.pidfd, liar.pidfd, CLAIM) == victim.address


# A well-formed IPv6 packet to all nodes: version, payload length, no next header, hop limit, addresses.
PACKET = b"\x60\0\0\0" + b"\0\x20" + b"\x3b\x40" + b"\xfd" + bytes(14) + b"\1" + b"\xff\2" + bytes(13) + b"\1"
PACKET += b"x" * 32


def frame_arrives(source: ConnectedPod, target: ConnectedPod, kind: int) -> bool:
    """Whether a broadcast Ethernet frame of a protocol gets from one Pod to another."""
    with in_network_namespace(target.pidfd):
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
    with in_network_namespace(source.pidfd):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with receiver, sender:
        receiver.settimeout(0.3)
        receiver.bind(("eth0", kind))
        sender.bind(("eth0", 0))
        sender.send(b"\xff" * 6 + b"\x02" + b"\x00" * 5 + kind.to_bytes(2, "big") + PACKET)
        try:
            while PACKET not in receiver.recv(2048):
                pass  # the bridge's own multicast reports
        except TimeoutError:
            return False
        return True


@pytest.mark.parametrize("kind", [0x86DD, 0x88B5])
def test_a_pod_speaks_only_ipv4_and_arp(host: int, tmp_path: Path, kind: int) -> None:
    config = config_at(tmp_path)
    with connected_pod(config) as one, connected_pod(config) as two:
        assert not frame_arrives(one, two, kind)
        nftables.run(f"flush chain bridge {config.table} prerouting")
        assert frame_arrives(one, two, kind)


def test_the_guard_forgets_a_pod_that_is_gone(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with connected_pod(config) as stays:
        with connected_pod(config) as goes:
            assert f'"{goes.link}" . {goes.address}' in nftables.run(f"list table bridge {config.table}")
        listed = nftables.run(f"list table bridge {config.table}")
        assert goes.link not in listed
        assert f'"{stays.link}" . {stays.address}' in listed


def test_running_pods_are_known_again_after_the_ruleset_was_flushed(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with connected_pod(config) as one, connected_pod(config) as two:
        nftables.run("flush ruleset")
        assert not tables.have_tables(config)
        ensure(config)  # as the next Pod does
        assert sender_seen(one.pidfd, two.pidfd, two.address) == one.address
        claim_address(one, CLAIM)
        assert sender_seen(one.pidfd, two.pidfd, two.address, claim=CLAIM) is None
