"""rtnetlink, nftables and loopback as the kernel answers them."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.errors import Busy, Unsupported
from pyrun.kernel.operation import Results
from pyrun.kernel.syscalls import CLONE_NEWNET, unshare
from pyrun.network import lock, nftables, requests
from pyrun.network.loopback import LoopbackUp
from pyrun.network.nftables import NftError
from pyrun.network.rtnetlink import RouteSocket
from tests.netns import host_namespace, ip
from tests.privileged.network_pods import config_at

pytestmark = pytest.mark.requires("namespaces", "nftables")


@pytest.fixture
def netlink() -> Iterator[RouteSocket]:
    """A route socket in a network namespace that plays the host, in which the test runs."""
    with host_namespace(), RouteSocket() as opened:
        yield opened


def test_an_error_names_the_object_and_the_first_refusal_counts(netlink: RouteSocket) -> None:
    with pytest.raises(OSError, match="No such device") as caught:
        netlink.batch(requests.add_bridge("br0", "72:70:00:00:00:01"), requests.set_up("nope0"))
    assert (caught.value.errno, caught.value.filename) == (errno.ENODEV, "link nope0")
    assert netlink.link("br0") is not None, "what stood before it was done"


def test_an_error_carries_the_kernels_own_explanation(netlink: RouteSocket) -> None:
    with pytest.raises(OSError, match=r"Network is unreachable \(.+\)") as caught:
        netlink.batch(requests.add_default_route("192.0.2.1"))
    assert caught.value.errno == errno.ENETUNREACH


def test_tolerated_refusals(netlink: RouteSocket) -> None:
    for _ in range(2):
        netlink.batch(requests.add_bridge("br0", "72:70:00:00:00:01"))
    for _ in range(2):
        netlink.batch(requests.delete_link("br0"))
    assert netlink.link("br0") is None


def test_reading_what_the_kernel_has(netlink: RouteSocket) -> None:
    netlink.batch(requests.add_bridge("br0", "72:70:00:00:00:01"))
    made = netlink.link("br0")
    assert made is not None
    assert (made.name, made.kind, made.mac, made.up) == ("br0", "bridge", "72:70:00:00:00:01", False)
    netlink.batch(requests.add_address(made.index, "192.0.2.1", 24), requests.set_up("br0", 1300))
    after = {link.name: link for link in netlink.links()}["br0"]
    assert (after.mtu, after.up) == (1300, True)
    assert "192.0.2.1/24" in [str(address.interface) for address in netlink.addresses()]
    assert "192.0.2.0/24" in [str(route.network) for route in netlink.routes() if route.table == 254]
    assert "192.0.2.255" in ip("addr show br0")


def test_a_large_dump_is_read_whole(netlink: RouteSocket) -> None:
    ip("link add many0 type bridge")
    ip("link set many0 up")
    lines = "".join(f"route add 10.{n // 250}.{n % 250}.0/24 dev many0\n" for n in range(1500))
    path = Path(f"/proc/self/fd/{os.memfd_create('routes')}")
    path.write_text(lines)
    ip(f"-batch {path}", int(path.name))
    os.close(int(path.name))
    assert len([route for route in netlink.routes() if route.network.prefixlen == 24]) == 1500


def test_loopback_up(netlink: RouteSocket) -> None:
    unshare(CLONE_NEWNET)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.socket() as client, pytest.raises(OSError, match="unreachable"):
            client.connect(server.getsockname())
        LoopbackUp().apply(Results())
        LoopbackUp().apply(Results())
        with socket.socket() as client:
            client.connect(server.getsockname())


def test_nft_errors_are_nfts_own_words(netlink: RouteSocket) -> None:
    with pytest.raises(NftError, match="nftables: syntax error") as caught:
        nftables.run("add nonsense")
    assert "add nonsense" in caught.value.text
    with pytest.raises(NftError) as missing:
        nftables.run("list table ip nope")
    assert missing.value.is_missing


def test_an_nft_transaction_is_all_or_nothing(netlink: RouteSocket) -> None:
    with pytest.raises(NftError):
        nftables.run("add table ip one\nadd rule ip one nochain accept")
    assert nftables.run("list tables") == ""


def test_without_the_library_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "LIBRARY", "libnftables-absent.so.1")
    with pytest.raises(Unsupported, match="needs libnftables-absent") as caught:
        nftables.run("list tables")
    assert "libnftables1" in (caught.value.hint or "")


def test_the_lock_waits_and_then_says_who_to_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_at(tmp_path)
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    with lock.network_lock(config):
        with pytest.raises(Busy, match="was held by others"), lock.network_lock(config):
            pass
        with open(config.lock_file, encoding="ascii") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with lock.network_lock(config):
        pass
