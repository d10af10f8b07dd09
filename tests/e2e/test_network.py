"""The network of Pods, through the command line: each other, the host, the outside, and nobody any more."""

from __future__ import annotations

import json
import socket

import pytest

from tests.e2e.conftest import Cli, eventually
from tests.netns import HOST_ADDRESS, OUTSIDE_ADDRESS, ip, outside_world

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SERVE = "mkdir -p /www; echo hello from $(hostname) > /www/index.html; httpd -f -p 80 -h /www"


def address_of(cli: Cli, pod: str) -> str:
    address = cli.inspect(pod)["status"]["podIP"]
    assert isinstance(address, str)
    return address


def fetch(cli: Cli, pod: str, address: str) -> str | None:
    """Return what a Pod gets from port 80 of an address."""
    result = cli.run("exec", pod, "-c", "c0", "--", "wget", "-q", "-O", "-", f"http://{address}/")
    return result.stdout if result.returncode == 0 else None


def test_pods_reach_each_other_and_the_host_reaches_them(cli: Cli) -> None:
    cli.create(cli.pod(SERVE, name="server"))
    cli.create(cli.pod("sleep 1000", name="client"))
    address = address_of(cli, "server")
    assert eventually(lambda: fetch(cli, "client", address)) == "hello from server\n"
    with socket.create_connection((address, 80), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"hello from server" in b"".join(iter(lambda: connection.recv(4096), b""))


def test_containers_of_a_pod_share_one_network(cli: Cli) -> None:
    uid = cli.create(cli.pod(SERVE, "sleep 1000"))
    got = eventually(
        lambda: (
            cli.run("exec", uid, "-c", "c1", "--", "wget", "-q", "-O", "-", "http://127.0.0.1/").stdout
            or None
        )
    )
    assert got == "hello from test\n"


def test_files_of_etc_name_the_pod(cli: Cli) -> None:
    uid = cli.create(cli.pod("sleep 1000", name="named", spec="hostname: other"))
    hosts = cli.ok("exec", uid, "--", "cat", "/etc/hosts")
    assert f"{address_of(cli, uid)}\tother\n" in hosts
    assert "127.0.0.1\tlocalhost\n" in hosts
    assert cli.ok("exec", uid, "--", "cat", "/etc/hostname") == "other\n"
    assert cli.ok("exec", uid, "--", "hostname") == "other\n"
    assert "127.0.0" not in cli.ok("exec", uid, "--", "cat", "/etc/resolv.conf")


def test_what_leaves_the_host_carries_the_hosts_address(cli: Cli) -> None:
    with outside_world():
        uid = cli.create(cli.pod("sleep 1000"))
        cli.ok("exec", uid, "--", "ping", "-c", "1", "-W", "2", OUTSIDE_ADDRESS)
        cli.ok("exec", uid, "--", "ping", "-c", "1", "-W", "2", HOST_ADDRESS)
        # The outside knows no way to a Pod's address, so an answer proves the masquerade.
        assert address_of(cli, uid) != HOST_ADDRESS


def test_a_packet_to_a_pod_that_has_gone_stays_here(cli: Cli) -> None:
    with outside_world():
        cli.create(cli.pod("sleep 1000", name="stays"))
        uid = cli.create(cli.pod("sleep 1000", name="goes"))
        address = address_of(cli, uid)
        cli.ok("pod", "rm", "-f", uid)
        route = json.loads(ip(f"-j route get {address}"))[0]
        assert route["dev"] != "uplink0"
        cli.ok("pod", "rm", "-f", "stays")


def test_addresses_are_freed(cli: Cli) -> None:
    cli.environment["PYRUN_SUBNET"] = "10.9.9.0/29"  # five Pods
    for _ in range(3):
        for i in range(2):
            cli.create(cli.pod("sleep 1000", name=f"p{i}"))
        cli.ok("pod", "rm", "-f", "p0", "p1")


def test_an_exhausted_subnet_is_said_and_leaves_nothing(cli: Cli) -> None:
    cli.environment["PYRUN_SUBNET"] = "10.9.9.0/30"  # one Pod
    cli.create(cli.pod("sleep 1000", name="first"))
    result = cli.run("pod", "create", "-f", "-", stdin=cli.pod("sleep 1000", name="second"))
    assert result.returncode == 1
    assert "10.9.9.0/30" in result.stderr
    assert "--subnet" in result.stderr
    assert [p["metadata"]["name"] for p in json.loads(cli.ok("ps", "-o", "json"))["items"]] == ["first"]


def test_a_clash_with_a_route_of_the_host_is_said(cli: Cli) -> None:
    ip("link add clash0 type veth peer name clash1")
    try:
        ip("addr add 10.137.5.1/24 dev clash0")
        ip("link set clash0 up")
        result = cli.run("pod", "create", "-f", "-", stdin=cli.pod("sleep 1000"))
        assert result.returncode == 1
        assert "10.137.5.1/24 of clash0" in result.stderr
        assert "--subnet" in result.stderr
        cli.environment["PYRUN_SUBNET"] = "10.140.0.0/16"
        cli.create(cli.pod("sleep 1000"))
        cli.ok("pod", "rm", "-f", "test")
    finally:
        ip("link delete clash0")


def test_an_impossible_subnet_is_bad_input(cli: Cli) -> None:
    for subnet in ("nonsense", "10.0.0.1/33", "10.0.0.1/8", "127.0.0.0/8", "10.0.0.0/31"):
        result = cli.run("--subnet", subnet, "pod", "create", "-f", "-", stdin=cli.pod("sleep 1000"))
        assert result.returncode == 2, subnet
        assert subnet in result.stderr
