"""Pods on the bridge: they reach each other, the host reaches them, they reach the world masqueraded."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.errors import NetworkError
from pyrun.kernel.operation import Results
from pyrun.network import nftables
from pyrun.network.netns import in_network_namespace
from tests.netns import (
    HOST_ADDRESS,
    OUTSIDE_ADDRESS,
    host_namespace,
    ip,
    outside_world,
    packet_to,
    pod_process,
    sender_seen,
    sniffer,
    udp_socket,
)
from tests.privileged.network_pods import config_at, connected_pod, operations

pytestmark = pytest.mark.requires("namespaces", "nftables")


@pytest.fixture
def host() -> Iterator[int]:
    """A network namespace that plays the host, in which the test runs."""
    with host_namespace() as namespace:
        yield namespace


def test_pods_reach_each_other_and_the_host_reaches_them(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with connected_pod(config) as one, connected_pod(config) as two:
        assert sender_seen(one.pidfd, two.pidfd, two.address) == one.address
        assert sender_seen(two.pidfd, one.pidfd, one.address) == two.address
        assert sender_seen(None, one.pidfd, one.address) == config.gateway
        assert sender_seen(one.pidfd, None, config.gateway) == one.address
        assert sender_seen(one.pidfd, one.pidfd, one.address) == one.address


def test_the_pod_sees_eth0_with_its_address_and_a_default_route(host: int, tmp_path: Path) -> None:
    with connected_pod(config_at(tmp_path)) as pod:
        with in_network_namespace(pod.pidfd):
            inside = ip("-o addr show dev eth0")
            assert f"{pod.address}/16" in inside
            assert "inet6" not in inside
            assert "default via 10.137.0.1 dev eth0" in ip("route")
            assert "72:70:0a:89" in ip("link show eth0")
        outside = ip(f"-d link show {pod.link}")
        assert "master pyrun0" in outside
        assert "inet6" not in ip(f"-o addr show dev {pod.link}") + ip("-o addr show dev pyrun0")


def test_the_outside_sees_the_hosts_address(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with outside_world() as world, connected_pod(config) as pod:
        assert sender_seen(pod.pidfd, world, OUTSIDE_ADDRESS) == HOST_ADDRESS
        # Without the rule the world sees an address that it cannot answer.
        nftables.run(f"flush chain ip {config.table} postrouting")
        assert sender_seen(pod.pidfd, world, OUTSIDE_ADDRESS) == pod.address


def test_answers_from_outside_come_back(host: int, tmp_path: Path) -> None:
    with (
        outside_world() as world,
        connected_pod(config_at(tmp_path)) as pod,
        udp_socket(world) as server,
        udp_socket(pod.pidfd) as client,
    ):
        client.sendto(b"question", (OUTSIDE_ADDRESS, server.getsockname()[1]))
        _, sender = server.recvfrom(100)
        server.sendto(b"answer", sender)
        assert client.recv(100) == b"answer"


def test_the_first_packet_passes_at_once(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    for _ in range(20):
        with connected_pod(config) as one, connected_pod(config) as two:
            # Not by asking for one link: that itself makes the kernel finish.
            for namespace in (host, one.pidfd, two.pidfd):
                with in_network_namespace(namespace):
                    assert "state DOWN" not in ip("-o link")
            begin = time.monotonic()
            assert sender_seen(one.pidfd, two.pidfd, two.address) == one.address
            assert sender_seen(None, one.pidfd, one.address) == config.gateway
            assert time.monotonic() - begin < 0.5


def test_traffic_between_pods_is_not_masqueraded_by_the_world_route(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with outside_world(), connected_pod(config) as one, connected_pod(config) as two:
        assert sender_seen(one.pidfd, two.pidfd, two.address) == one.address


def test_a_packet_to_a_pod_that_is_gone_never_leaves_the_host(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with outside_world() as world, sniffer(world) as listener, connected_pod(config) as pod:
        # The moment in which the bridge is gone, or not yet there, and something still sends to the Pod.
        ip(f"link delete {config.bridge}")
        with udp_socket() as sender:
            with pytest.raises(OSError, match=r"No route to host|unreachable") as caught:
                sender.sendto(b"secret", (pod.address, 9))
            assert caught.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
            assert not packet_to(listener, pod.address)
            ip(f"route delete unreachable {config.subnet} metric 4294967295")
            sender.sendto(b"secret", (pod.address, 9))
            assert packet_to(listener, pod.address), "without the route it leaves: the sniffer works"


def test_the_mtu_of_the_default_route_is_taken_over(host: int, tmp_path: Path) -> None:
    with outside_world(mtu=1400), connected_pod(config_at(tmp_path)) as pod:
        assert "mtu 1400" in ip("link show pyrun0")
        assert "mtu 1400" in ip(f"link show {pod.link}")
        with in_network_namespace(pod.pidfd):
            assert "mtu 1400" in ip("link show eth0")


def test_the_mtu_stays_when_pods_come_and_go(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path, mtu=1280)
    with connected_pod(config):
        with connected_pod(config):
            pass
        ip("link add odd0 mtu 9000 type veth peer name odd1")
        ip("link set odd0 master pyrun0")
        ip("link delete odd0")
        assert "mtu 1280" in ip("link show pyrun0")
    with connected_pod(config_at(tmp_path)):
        assert "mtu 1500" in ip("link show pyrun0")


def test_without_the_bridge_the_connection_is_refused_with_a_hint(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with contextlib.ExitStack() as stack:
        pidfd = stack.enter_context(pod_process())
        lease, ensure, connect = operations(config, "0b0c0d0e-0000-4000-8000-000000000000")
        results = Results()
        results.put_fd("pause.pidfd", os.dup(pidfd))
        stack.callback(results.close)
        for operation in (lease, ensure, connect):
            stack.callback(operation.undo)
        lease.apply(results)
        ensure.apply(results)
        ip("link delete pyrun0")
        with pytest.raises(NetworkError, match="the bridge pyrun0 does not exist"):
            connect.apply(results)


def test_a_pod_whose_process_is_gone_is_an_error_and_the_caller_stays_at_home(
    host: int, tmp_path: Path
) -> None:
    config = config_at(tmp_path)
    home = os.stat("/proc/thread-self/ns/net").st_ino
    with connected_pod(config):
        lease, ensure, connect = operations(config, "0b0c0d0e-0000-4000-8000-000000000000")
        with pod_process() as pidfd:
            stale = os.dup(pidfd)
        results = Results()
        results.put_fd("pause.pidfd", stale)
        lease.apply(results)
        ensure.apply(results)
        with pytest.raises(ProcessLookupError):
            connect.apply(results)
        assert os.stat("/proc/thread-self/ns/net").st_ino == home
        results.close()
        for operation in (connect, ensure, lease):
            operation.undo()
