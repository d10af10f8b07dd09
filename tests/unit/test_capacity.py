"""What a host has, as requests are counted against it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrun.runtime import host
from pyrun.spec.layout import Layout


def test_the_disk_is_that_of_the_files_of_pods_even_before_they_are(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    for root in (tmp_path, tmp_path / "not" / "made"):
        found = host.read_capacity(Layout(root=str(root)))
        assert found.ephemeral_storage == disk.f_blocks * disk.f_frsize
        assert found.cpu_millis == os.sysconf("SC_NPROCESSORS_ONLN") * 1000
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert found.memory == int(meminfo["MemTotal"].split()[0]) * 1024


def test_a_relative_root_is_below_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert host.read_capacity(Layout(root="none")) == host.read_capacity(Layout(root=str(tmp_path)))


def test_huge_pages_are_those_in_the_pools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, count in (("hugepages-1048576kB", 1), ("hugepages-2048kB", 3), ("hugepages-64kB", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nr_hugepages").write_text(f"{count}\n")
    monkeypatch.setattr(host, "_HUGE_PAGES", str(tmp_path))
    assert host.read_capacity(Layout()).hugepages == ((2**21, 3 * 2**21), (2**30, 2**30))
    monkeypatch.setattr(host, "_HUGE_PAGES", str(tmp_path / "none"))
    assert host.read_capacity(Layout()).hugepages == ()
