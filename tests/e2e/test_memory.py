"""What is left beside the user's programs once a Pod runs: static C, a few kilobytes, no Python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrun.process.programs import program_path
from tests.e2e.conftest import Cli

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

PODS = 20
LIMIT = 20 * 1000


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def test_pause_is_small_on_disk_and_in_memory(cli: Cli) -> None:
    size = os.stat(program_path("pause")).st_size
    if size > 100_000:
        pytest.skip(f"pause has {size} bytes: it was built without musl-gcc (Debian package musl-tools)")
    assert size < LIMIT
    documents = [cli.pod("sleep 1000", name=f"idle{i}") for i in range(PODS)]
    cli.create("---\n".join(documents))
    pids = [cli.inspect(f"idle{i}")["pause"]["pid"] for i in range(PODS)]
    assert sum(pss(pid) for pid in pids) / PODS < LIMIT


def test_nothing_of_python_stays_behind_a_pod(cli: Cli) -> None:
    uid = cli.create(cli.pod("sleep 1000", "sleep 1000"))
    seen = cli.inspect(uid)
    procs = Path(seen["cgroup"]).glob("**/cgroup.procs")
    pids = {int(line) for file in procs for line in file.read_text().split()}
    assert len(pids) == 5  # pause, two monitors, two programs
    programs = {os.readlink(f"/proc/{pid}/exe") for pid in pids}
    assert not [program for program in programs if "python" in program]
