"""What the guest of tests/vm gives to the rest of the tests: controllers that work, pressure, systemd.

By raw files, without pyrun: when one of these fails, it is the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.cgroups import group
from pyrun.cgroups.files import unified_mount
from tests.e2e.conftest import eventually
from tests.probes import CONTROLLERS

controlled = pytest.mark.requires("cgroup_controllers")


@pytest.fixture
def leaf() -> Iterator[Path]:
    """A group below the root that has the controllers."""
    path = Path(unified_mount()) / f"pyrun-test-machine-{os.getpid()}"
    path.mkdir()
    yield path
    group.remove(str(path))


def start(leaf: Path, code: str) -> subprocess.Popen[str]:
    """Start Python code in a group."""
    enter = f"open({str(leaf / 'cgroup.procs')!r}, 'w').write('0')\n"
    return subprocess.Popen(
        [sys.executable, "-c", enter + code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def counters(path: Path) -> dict[str, int]:
    """Return a file of lines `key number`."""
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


@controlled
def test_children_of_a_group_can_have_the_controllers(leaf: Path) -> None:
    for name in CONTROLLERS:
        (leaf / "cgroup.subtree_control").write_text(f"+{name}")
    (leaf / "child").mkdir()
    assert set(CONTROLLERS) <= set((leaf / "child/cgroup.controllers").read_text().split())
    assert (leaf / "child/memory.max").read_text() == "max\n"


@controlled
def test_more_memory_than_memory_max_is_a_kill(leaf: Path) -> None:
    (leaf / "memory.max").write_text(str(64 << 20))
    process = start(leaf, "b'x' * (256 << 20)")
    assert process.wait() == -signal.SIGKILL
    assert counters(leaf / "memory.events")["oom_kill"] >= 1


@controlled
def test_cpu_max_throttles(leaf: Path) -> None:
    (leaf / "cpu.max").write_text("10000 100000")
    process = start(leaf, "while True: pass")
    try:
        statistics = eventually(
            lambda: found if (found := counters(leaf / "cpu.stat"))["nr_throttled"] >= 10 else None, 20
        )
    finally:
        process.kill()
        process.wait()
    # A tenth of each period, and of the first and the last perhaps less.
    assert statistics["usage_usec"] < statistics["nr_periods"] * 100_000 / 2


@controlled
def test_a_fork_beyond_pids_max_fails(leaf: Path) -> None:
    (leaf / "pids.max").write_text("1")
    process = start(
        leaf,
        "import os\ntry: os.fork()\nexcept BlockingIOError: print('EAGAIN')\n",
    )
    assert process.communicate()[0] == "EAGAIN\n"
    assert counters(leaf / "pids.events")["max"] >= 1


@controlled
def test_io_max_takes_a_device(leaf: Path, tmp_path: Path) -> None:
    device = os.stat(tmp_path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    (leaf / "io.max").write_text(f"{name} wbps=1048576")
    assert name in (leaf / "io.max").read_text()


@controlled
@pytest.mark.requires("pressure")
def test_a_throttled_group_is_under_pressure(leaf: Path) -> None:
    (leaf / "cpu.max").write_text("10000 100000")
    process = start(leaf, "while True: pass")
    try:
        eventually(lambda: "total=0\n" not in (leaf / "cpu.pressure").read_text().splitlines(True)[0], 20)
    finally:
        process.kill()
        process.wait()


@pytest.mark.requires("systemd")
def test_systemd_runs_a_scope_with_controllers() -> None:
    line = "cat /proc/self/cgroup; cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cgroup.controllers"
    command = ["systemd-run", "--scope", "--quiet", "-p", "Delegate=yes", "sh", "-c", line]
    path, controllers = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert path.endswith(".scope")
    assert set(CONTROLLERS) <= set(controllers.split())
