"""hosts, hostname and resolv.conf: the text of Kubernetes, and the operation that writes it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from pyrun.kernel.operation import Results
from pyrun.network import etc_files
from pyrun.network.etc_files import (
    NO_RESOLVER,
    WriteEtcFiles,
    host_network_hosts,
    pod_hosts,
    pod_resolv_conf,
)


def test_hosts_of_a_pod_is_the_text_of_kubernetes_with_our_own_comment() -> None:
    assert pod_hosts("10.137.0.5", "web") == (
        "# pyrun-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "fe00::0\tip6-mcastprefix\n"
        "fe00::1\tip6-allnodes\n"
        "fe00::2\tip6-allrouters\n"
        "10.137.0.5\tweb\n"
    )


def test_hosts_names_the_full_name_first() -> None:
    line = pod_hosts("10.137.0.5", "web", "web.sub.ns.svc.cluster.local").splitlines()[-1]
    assert line == "10.137.0.5\tweb.sub.ns.svc.cluster.local\tweb"


def test_hosts_on_the_hosts_network_is_the_hosts_own_file() -> None:
    text = host_network_hosts("127.0.0.1 localhost node\n")
    assert text == "# pyrun-managed hosts file (host network).\n127.0.0.1 localhost node\n"


STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n"


@pytest.mark.parametrize(
    ("host", "upstream", "expected"),
    [
        ("nameserver 192.0.2.53\n", "", "nameserver 192.0.2.53\n"),
        (
            "# comment\n; more\ndomain a.org\nsearch b.org c.org\nnameserver 192.0.2.1 #\noptions ndots:2\n",
            "",
            "search b.org c.org\nnameserver 192.0.2.1\noptions ndots:2\n",
        ),
        ("search a.org\ndomain b.org\nnameserver 192.0.2.1\n", "", "search b.org\nnameserver 192.0.2.1\n"),
        ("search .\nnameserver 192.0.2.1\n", "", "nameserver 192.0.2.1\n"),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", "nameserver 192.0.2.9\n", "nameserver 192.0.2.1\n"),
        (
            STUB,
            "nameserver 192.0.2.7\nsearch other.org\n",
            "search example.org\nnameserver 192.0.2.7\noptions edns0 trust-ad\n",
        ),
        (
            "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6)),
            "",
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
        ),
        ("nameserver fe80::1%eth0\nnameserver 192.0.2.1\n", "", "nameserver 192.0.2.1\n"),
        ("nameserver 0.0.0.0\n", "nameserver ::1\n", NO_RESOLVER.format("0.0.0.0")),
        ("nameserver\nnameserver 1.2.3\nnameserver 300.1.1.1\n", "", NO_RESOLVER.format("1.2.3, 300.1.1.1")),
        ("", "", NO_RESOLVER.format("none")),
        ("options a\noptions b a\nnameserver 192.0.2.1\n", "", "nameserver 192.0.2.1\noptions a b\n"),
    ],
)
def test_resolv_conf_keeps_what_a_pod_can_use(host: str, upstream: str, expected: str) -> None:
    assert pod_resolv_conf(host, upstream) == expected


@pytest.fixture
def host_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of a made-up host."""
    (tmp_path / "hosts").write_text("192.0.2.10 node\n")
    (tmp_path / "resolv.conf").write_text(STUB)
    (tmp_path / "upstream").write_text("nameserver 192.0.2.7\n")
    monkeypatch.setattr(etc_files, "HOST_HOSTS", str(tmp_path / "hosts"))
    monkeypatch.setattr(etc_files, "HOST_RESOLV_CONF", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(etc_files, "UPSTREAM_RESOLV_CONF", str(tmp_path / "upstream"))
    return tmp_path


def test_write_and_undo(host_files: Path) -> None:
    directory = host_files / "pod"
    operation = WriteEtcFiles(directory=str(directory), hostname="web")
    operation.undo()  # never applied
    results = Results()
    results.put("address", "10.137.0.5")
    old = os.umask(0o077)
    try:
        operation.apply(results)
    finally:
        os.umask(old)
    assert (directory / "hosts").read_text().endswith("10.137.0.5\tweb\n")
    assert (directory / "hostname").read_text() == "web\n"
    assert "nameserver 192.0.2.7\n" in (directory / "resolv.conf").read_text()
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o644}
    (directory / "hosts").unlink()  # half undone
    operation.undo()
    operation.undo()
    assert not directory.exists()


def test_undo_leaves_what_others_put_into_the_directory(host_files: Path) -> None:
    directory = host_files / "pod"
    directory.mkdir()
    (directory / "theirs").touch()
    operation = WriteEtcFiles(directory=str(directory), hostname="web", host_network=True)
    operation.apply(Results())
    operation.undo()
    assert [path.name for path in directory.iterdir()] == ["theirs"]


def test_on_the_hosts_network_the_files_are_copies(host_files: Path) -> None:
    operation = WriteEtcFiles(directory=str(host_files / "pod"), hostname="node", host_network=True)
    operation.apply(Results())
    assert (host_files / "pod/hosts").read_text().endswith("192.0.2.10 node\n")
    assert (host_files / "pod/resolv.conf").read_text() == STUB


def test_a_missing_resolv_conf_of_the_host_is_no_error(host_files: Path) -> None:
    (host_files / "resolv.conf").unlink()
    (host_files / "upstream").unlink()
    results = Results()
    results.put("address", "10.137.0.5")
    WriteEtcFiles(directory=str(host_files / "pod"), hostname="web").apply(results)
    assert (host_files / "pod/resolv.conf").read_text() == NO_RESOLVER.format("none")


def test_it_survives_the_journal() -> None:
    operation = WriteEtcFiles(directory="/run/pyrun/pods/1/etc", hostname="web")
    line = msgspec.json.encode(operation)
    assert msgspec.json.decode(line, type=WriteEtcFiles) == operation
    assert operation.describe() == (
        'write /run/pyrun/pods/1/etc/{hosts,hostname,resolv.conf}: "<address> web", the resolvers of the host'
    )
