"""What is killed goes by itself: one kill is enough, and nobody has to kill again.

PID 1 of a PID namespace leaves its cgroup first, and then waits in the kernel until every process of its
namespace has been reaped. So the cgroup of pause says `populated 0` while pause is still there. These tests
wait for the pidfds, send nothing after the first kill, and look at what pause waits for meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyrun.cgroups import group
from pyrun.kernel.proc import has_ended
from pyrun.kernel.syscalls import pidfd_open
from tests.e2e.conftest import SLOW, Cli

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

PATIENCE = 5.0 * SLOW
"""Seconds; the host's PID 1 reaps what has lost its parent, some only every second or two."""

LEAVES = {
    "the whole Pod": ("",),
    "containers and pause": ("ctr-c0", "ctr-c1", "pause"),
    "the monitors, then the containers and pause": ("monitors", "ctr-c0", "ctr-c1", "pause"),
}


@contextmanager
def watched(cli: Cli, pod: str) -> Iterator[dict[str, int]]:
    """Give the pidfds of all processes of a Pod, by what they are."""
    seen = cli.inspect(pod)
    pids = {"pause": seen["pause"]["pid"]}
    for container in seen["containers"]:
        pids[container["name"]] = container["init"]["pid"]
        pids[f"monitor of {container['name']}"] = container["monitor"]["pid"]
    pidfds = {name: pidfd_open(pid) for name, pid in pids.items()}
    try:
        yield pidfds
    finally:
        for fd in pidfds.values():
            os.close(fd)


@pytest.mark.parametrize("shared", [True, False], ids=["shared PID namespace", "own PID namespaces"])
@pytest.mark.parametrize("killed", LEAVES)
def test_one_kill_is_enough(cli: Cli, shared: bool, killed: str) -> None:
    uid = cli.create(
        cli.pod("sleep 1000", "sleep 1000", spec=f"shareProcessNamespace: {str(shared).lower()}")
    )
    cgroup = cli.inspect(uid)["cgroup"]
    with watched(cli, uid) as pidfds:
        for leaf in LEAVES[killed]:
            group.kill(f"{cgroup}/{leaf}")
        late = [name for name, pidfd in pidfds.items() if not has_ended(pidfd, PATIENCE)]
    assert late == []
    assert group.wait_until_empty(cgroup, 0)


def test_pause_waits_in_the_kernel_until_its_namespace_is_reaped(cli: Cli) -> None:
    uid = cli.create(cli.pod("sleep 1000", spec="shareProcessNamespace: true"))
    seen = cli.inspect(uid)
    pause = seen["pause"]["pid"]
    with watched(cli, uid) as pidfds:
        # A frozen monitor cannot reap its child, so pause has something to wait for.
        group.freeze(f"{seen['cgroup']}/monitors")
        group.kill(f"{seen['cgroup']}/ctr-c0")
        group.kill(f"{seen['cgroup']}/pause")
        assert group.wait_until_empty(f"{seen['cgroup']}/pause")
        assert not has_ended(pidfds["pause"], 0.2)
        assert "zap_pid_ns_processes" in Path(f"/proc/{pause}/stack").read_text()
        group.thaw(f"{seen['cgroup']}/monitors")
        assert all(has_ended(pidfd, PATIENCE) for pidfd in pidfds.values())


NEGLIGENT = """
import json, os, signal, subprocess, sys
import prctl
prctl.set_child_subreaper(1)  # orphans come here, and nobody reaps them
command, manifest = sys.argv[1:-1], sys.argv[-1]
subprocess.run([*command, "pod", "create", "-f", "-"], input=manifest, text=True, check=True)
seen = json.loads(subprocess.run([*command, "pod", "inspect", "test"], stdout=-1, check=True).stdout)
os.kill(seen["containers"][0]["monitor"]["pid"], signal.SIGKILL)
removal = subprocess.run([*command, "pod", "rm", "-f", "test"], stderr=-1, text=True)
listed = subprocess.run([*command, "ps", "-q"], stdout=-1, text=True, check=True).stdout
print(json.dumps([removal.returncode, removal.stderr, listed]))
"""


def test_an_orphan_that_nobody_reaps_is_said_and_does_not_keep_the_pod(cli: Cli) -> None:
    manifest = cli.pod("sleep 1000", spec="shareProcessNamespace: true")
    result = subprocess.run(
        [sys.executable, "-c", NEGLIGENT, *cli.command, manifest],
        capture_output=True,
        text=True,
        timeout=60 * SLOW,
        env=cli.environment,
        check=True,
    )
    code, errors, listed = json.loads(result.stdout.splitlines()[-1])
    assert code == 1
    assert "the Pod is removed" in errors
    assert "does not reap orphans" in errors
    assert listed == ""
