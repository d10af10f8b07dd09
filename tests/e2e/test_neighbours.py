"""Who takes too much hurts itself only: a container beside it and a Pod beside it do their work all the while.

What needs a controller runs where there is one, in the guest of tests/vm; the rest runs anywhere, and there too.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from pyrun.cgroups import cpu, io, memory, pids
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, manifest, output, run_pod, state_of, wait_for_output
from tests.e2e.supervision import supervising, until_pod
from tests.e2e.test_oom import EAT

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

WORK = "i=0; while :; do i=$((i+1)); [ $((i % 200)) -ne 0 ] || echo $i; done"
"""Says now and then how far it has come."""
SLOWLY = 512 << 10
"""Bytes a second that one who writes without pause may write."""
WRITER = "while :; do dd if=/dev/zero of=/tmp/f bs=64k count=16 conv=fsync 2>/dev/null; echo round; done"


def disk_of(cli: Cli) -> str:
    """The disk under the writable layers of containers, as io.max names it."""
    device = os.stat(cli.directory).st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def beside(cli: Cli, culprit: dict[str, Any], *more: dict[str, Any], **fields: Any) -> tuple[str, str]:
    """Make a Pod of the one who takes too much (c0) and one who works (c1), and a Pod `other` of one who works (c0)."""
    other = run_pod(cli, box(WORK), name="other")
    uid = cli.create(manifest(cli, culprit, box(WORK, "c1"), *more, **fields))
    return uid, other


def go_on(cli: Cli, *who: tuple[str, str]) -> None:
    """Wait until all of these (a Pod's uid, a container) have come farther than they are now."""
    before = {one: _progress(cli, *one) for one in who}
    for one in who:
        eventually(lambda one=one: _progress(cli, *one) > before[one], 60)  # type: ignore[misc]


def _progress(cli: Cli, uid: str, container: str) -> int:
    return max((int(line) for line in output(cli, uid, container).split() if line.isdecimal()), default=0)


@pytest.mark.requires("cgroup_controllers")
def test_of_one_that_eats_memory(cli: Cli) -> None:
    """A child does it, again and again, and is killed each time; nobody else is."""
    limits = {"limits": {"memory": "32Mi"}}
    single = {"single-process-oom-kill.pyrun.io/c0": "true"}
    culprit = box(f"while :; do ({EAT}); echo killed; done", resources=limits)
    uid, other = beside(cli, culprit, annotations=single)
    group = cli.inspect(uid)["cgroup"]

    def killed(leaf: str) -> int:
        found = memory.events(f"{group}/{leaf}")
        assert found is not None
        return found.oom_kill

    for count in (1, 2):
        eventually(lambda count=count: killed("ctr-c0") >= count, 90)  # type: ignore[misc]
        go_on(cli, (uid, "c1"), (other, "c0"))
    assert "running" in state_of(cli) and "running" in state_of(cli, "c1")
    assert killed("ctr-c1") == 0
    used = memory.use(f"{group}/ctr-c0")
    assert used is not None and (used.peak or 0) <= 32 << 20


@pytest.mark.requires("cgroup_controllers")
def test_of_one_that_forks_without_end(cli: Cli) -> None:
    # A shell would end when it cannot fork; this one takes no notice.
    bomb = """exec awk 'BEGIN { while (1) system("sleep 1000 &") }'"""
    uid, other = beside(cli, box(bomb), annotations={"pids-limit.pyrun.io/c0": "20"})
    leaf = f"{cli.inspect(uid)['cgroup']}/ctr-c0"
    for _ in range(2):
        refused = (pids.use(leaf) or pids.PidsUse(current=0)).refused
        eventually(lambda: (held := pids.use(leaf)) is not None and held.refused > refused, 60)  # noqa: B023
        go_on(cli, (uid, "c1"), (other, "c0"))
    held = pids.use(leaf)
    assert held is not None and held.limit == 20 and held.current <= 20


@pytest.mark.requires("cgroup_controllers")
def test_of_one_that_writes_without_pause(cli: Cli) -> None:
    """By io.stat it writes no faster than io.max lets it; what neighbours do needs no disk."""
    annotations = {"io-max.pyrun.io/c0": f"{disk_of(cli)} wbps={SLOWLY}"}
    uid, other = beside(cli, box(WRITER), annotations=annotations)
    leaf = f"{cli.inspect(uid)['cgroup']}/ctr-c0"

    def written() -> int:
        found = io.use(leaf)
        return 0 if found is None else found.written_bytes

    eventually(lambda: written() > 0, 60)
    began, before = time.monotonic(), written()
    go_on(cli, (uid, "c1"), (other, "c0"))
    eventually(lambda: written() - before >= 12 * SLOWLY, 60)
    # It would be twelve seconds, but for bursts; without a limit it is one, or two where all is emulated.
    assert time.monotonic() - began >= 6
    go_on(cli, (uid, "c1"), (other, "c0"))


@pytest.mark.requires("cgroup_controllers")
def test_of_one_that_takes_all_of_the_processors(cli: Cli) -> None:
    spin = "while :; do :; done"
    culprit = box(f"({spin}) & ({spin}) & {spin}", resources={"limits": {"cpu": "200m"}})
    uid, other = beside(cli, culprit)
    leaf = f"{cli.inspect(uid)['cgroup']}/ctr-c0"
    eventually(lambda: (used := cpu.use(leaf)) is not None and used.throttled_periods > 5, 60)
    go_on(cli, (uid, "c1"), (other, "c0"))


@pytest.mark.guest
def test_of_one_that_fills_a_volume_in_memory(cli: Cli) -> None:
    """The volume is as large as its sizeLimit and not larger: who writes more is told that it is full."""
    volume = {"name": "cache", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}
    mount = {"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}
    fill = "while :; do cat /dev/zero > /cache/f || echo full; done"
    uid, other = beside(cli, box(fill, **mount), volumes=[volume])
    wait_for_output(cli, uid, "full", timeout=60)
    go_on(cli, (uid, "c1"), (other, "c0"))
    assert "running" in state_of(cli) and "running" in state_of(cli, "c1")


@pytest.mark.guest
def test_of_one_that_fills_a_volume_on_disk(cli: Cli) -> None:
    """The kubelet's answer is to evict the Pod as a whole; until then, and beside it, all goes on."""
    cli.environment["PYRUN_STORAGE_PERIOD"] = "0.2"
    volume = {"name": "cache", "emptyDir": {"sizeLimit": "4Mi"}}
    mount = {"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}
    fill = (
        "until [ -e /go ]; do sleep 0.1; done; dd if=/dev/zero of=/cache/f bs=64k count=128; exec sleep 1000"
    )
    with supervising(cli):
        uid, other = beside(cli, box(fill, **mount), volumes=[volume])
        go_on(cli, (uid, "c1"), (other, "c0"))
        cli.ok("exec", "test", "-c", "c0", "--", "touch", "/go")
        status = until_pod(
            cli, lambda pod: pod["status"] if pod["status"]["phase"] == "Failed" else None, timeout=60
        )
        assert status["reason"] == "Evicted" and '"cache" exceeds the limit "4Mi"' in status["message"]
        go_on(cli, (other, "c0"))
        assert "running" in state_of(cli, name="other")


@pytest.mark.guest
def test_of_one_that_floods_its_log(cli: Cli) -> None:
    """Its log begins anew at 10 MiB, and the oldest part goes; so the disk has a bound too."""
    line = "x" * 500
    uid, other = beside(cli, box(f"exec yes {line}"))
    logs = Path(cli.layout.logs(uid, "c0"))
    eventually(lambda: (logs / "0.log.1").exists() or None, 120)
    go_on(cli, (uid, "c1"), (other, "c0"))
    assert sum(path.stat().st_size for path in logs.iterdir()) <= 6 * (10 << 20)
    assert "running" in state_of(cli)
