"""The network's part of `pyrun check`: it tries in a namespace of its own, reads, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.network import nftables, probe
from pyrun.network.probe import Finding, dropping_chains
from tests.netns import host_namespace, ip
from tests.privileged.network_pods import config_at, connected_pod, traces

pytestmark = pytest.mark.requires("namespaces", "nftables")


@pytest.fixture
def host() -> Iterator[int]:
    """A network namespace that plays the host, in which the test runs."""
    with host_namespace() as namespace:
        yield namespace


def test_a_good_host(host: int, tmp_path: Path) -> None:
    before = traces()
    findings = probe.probe(config_at(tmp_path))
    assert [finding.name for finding in findings if not finding.ok] == []
    assert len(findings) == 5
    assert traces() == before
    assert list(tmp_path.iterdir()) == []


def test_it_is_good_while_pods_run(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    with connected_pod(config):
        assert all(finding.ok for finding in probe.probe(config))


def found(findings: tuple[Finding, ...], name: str) -> Finding:
    return next(finding for finding in findings if name in finding.name)


def test_a_clash_is_found(host: int, tmp_path: Path) -> None:
    ip("route add blackhole 10.137.5.0/24")
    finding = found(probe.probe(config_at(tmp_path)), "Pod subnet")
    assert not finding.ok
    assert "10.137.5.0/24" in finding.detail
    assert "10.138.0.0/16" in finding.remedy


def test_a_firewall_that_drops_is_named_until_it_lets_pods_through(host: int, tmp_path: Path) -> None:
    nftables.run(
        "add table ip filter\n"
        "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }\n"
        "add table inet other\n"
        "add chain inet other forward { type filter hook forward priority 0; policy accept; }"
    )
    config = config_at(tmp_path)
    finding = found(probe.probe(config), "firewalls")
    assert not finding.ok
    assert "ip filter FORWARD" in finding.detail
    assert "other" not in finding.detail
    nftables.run(
        finding.remedy.removeprefix("let the Pods through: ").replace("nft ", "").replace("; ", "\n")
    )
    assert found(probe.probe(config), "firewalls").ok


def test_chains_of_ipv6_do_not_count() -> None:
    chain = "\tchain f {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"
    assert dropping_chains("table ip6 x {\n" + chain) == []
    assert dropping_chains("table inet x {\n" + chain) == ["inet x f"]


def test_without_rights_the_remedy_is_root(host: int, tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setresuid(65534, 65534, 65534)
            findings = probe.probe(config_at(tmp_path))
            links = found(findings, "bridge")
            status = 0 if not links.ok and "root" in links.remedy else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_trial_that_dies_is_a_finding(host: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_try_links", lambda config: os._exit(9))
    assert not found(probe.probe(config_at(tmp_path)), "bridge").ok
