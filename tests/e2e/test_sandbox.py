"""The sandbox: pause, the namespaces it holds, and what the containers of a Pod share through it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import prctl
import pytest

from pyrun.kernel.proc import has_ended
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import (
    answers,
    box,
    cgroup_of,
    in_root,
    init_of,
    mounts_of,
    namespace,
    output,
    pause_of,
    pods,
    probe,
    run_pod,
    status_field,
    status_of,
    wait_for_output,
)
from tests.leaks import mount_table

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

MEMORY_VOLUME = {"name": "memory", "emptyDir": {"medium": "Memory"}}

LOOK = probe(
    hostname="hostname",
    nodename="uname -n",
    loopback="ip -o link show lo",
    ping="ping -c 1 -W 1 127.0.0.1 | grep received",
    shm_mount="grep ' /dev/shm ' /proc/self/mountinfo",
)


class Pair:
    """A Pod of two containers, with every default."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.mounts_before = mount_table()
        self.uid = run_pod(
            cli,
            box(f"echo from-c0 > /dev/shm/note; {LOOK}; exec sleep 1000"),
            box(
                f"until [ -s /dev/shm/note ]; do sleep 0.02; done; cat /dev/shm/note; {LOOK}; exec sleep 1000",
                name="c1",
                volumeMounts=[{"name": "memory", "mountPath": "/memory"}],
            ),
            name="pair",
            volumes=[MEMORY_VOLUME],
        )
        self.mounts_during = mount_table()
        self.pause = pause_of(cli, self.uid)
        self.c0 = init_of(cli, self.uid, "c0")
        self.c1 = init_of(cli, self.uid, "c1")


@pytest.fixture(scope="module")
def pair(module_cli: Cli) -> Iterator[Pair]:
    """The Pod that the tests only look at."""
    yield Pair(module_cli)
    module_cli.ok("pod", "rm", "-f", "pair")


@pytest.mark.parametrize("kind", ["uts", "ipc", "net", "time"])
def test_containers_share_with_pause_and_not_with_the_host(pair: Pair, kind: str) -> None:
    shared = namespace(pair.pause, kind)
    assert namespace(pair.c0, kind) == shared
    assert namespace(pair.c1, kind) == shared
    assert namespace("self", kind) != shared


@pytest.mark.parametrize("kind", ["mnt", "cgroup", "pid"])
def test_each_container_has_its_own(pair: Pair, kind: str) -> None:
    everyone = [namespace(who, kind) for who in (pair.c0, pair.c1, pair.pause, "self")]
    # pause needs no cgroup namespace: nothing in it reads /proc/self/cgroup.
    distinct = 3 if kind == "cgroup" else 4
    assert len(set(everyone)) == distinct
    assert len(set(everyone[:2])) == 2


def test_the_program_is_pid_1_of_its_own_namespace(pair: Pair) -> None:
    assert status_field(pair.c0, "NSpid").split()[-1] == "1"


def test_hostname_is_the_name_of_the_pod(pair: Pair) -> None:
    seen = answers(pair.cli, pair.uid)
    assert (seen["hostname"], seen["nodename"]) == ("pair", "pair")


def test_hostname_as_the_manifest_says(cli: Cli) -> None:
    uid = run_pod(cli, box("hostname; cat /etc/hostname"), hostname="chosen")
    assert wait_for_output(cli, uid, "chosen\nchosen\n")


def test_a_long_name_is_cut_for_the_hostname(cli: Cli) -> None:
    name = f"{'a' * 62}-{'b' * 20}"
    uid = run_pod(cli, box("hostname"), name=name)
    assert wait_for_output(cli, uid, "\n") == "a" * 62 + "\n"


def test_loopback_is_up_inside(pair: Pair) -> None:
    seen = answers(pair.cli, pair.uid)
    assert "LOOPBACK,UP" in seen["loopback"]
    assert "1 packets received" in seen["ping"]


def test_dev_shm_is_shared(pair: Pair) -> None:
    wait_for_output(pair.cli, pair.uid, "== end", "c1")
    assert output(pair.cli, pair.uid, "c1").startswith("from-c0\n")


def test_dev_shm_is_a_tmpfs_of_64_mib_without_devices_and_programs(pair: Pair) -> None:
    line = answers(pair.cli, pair.uid, "c1")["shm_mount"]
    assert " - tmpfs " in line
    assert "size=65536k" in line
    assert {"nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))


def test_nothing_of_the_pod_is_in_the_mount_table_of_the_host(pair: Pair) -> None:
    assert pair.mounts_during == pair.mounts_before


def test_the_root_of_pause_holds_mount_points_only(pair: Pair) -> None:
    found = sorted(str(p.relative_to(in_root(pair.pause, "/"))) for p in in_root(pair.pause, "/").rglob("*"))
    assert found == ["dev", "dev/shm", "dev/shm/note", "volumes", "volumes/memory"]


def test_pause_sees_no_mount_of_the_host(pair: Pair) -> None:
    assert {point: kind for point, (kind, _) in mounts_of(pair.pause).items()} == {
        "/": "tmpfs",
        "/dev/shm": "tmpfs",
        "/volumes/memory": "tmpfs",
    }


def test_the_root_of_pause_is_read_only(pair: Pair) -> None:
    with pytest.raises(OSError) as caught:
        in_root(pair.pause, "/new").mkdir()
    assert caught.value.errno == errno.EROFS


def test_pause_is_executed_from_memory(pair: Pair) -> None:
    assert os.readlink(f"/proc/{pair.pause.pid}/exe").startswith("/memfd:pause")
    assert Path(f"/proc/{pair.pause.pid}/comm").read_text() == "pause\n"


def test_pause_and_containers_have_a_leaf_each_in_the_group_of_the_pod(pair: Pair) -> None:
    group = f"/{pair.cli.layout.name}/besteffort/{pair.uid}"
    assert pair.cli.inspect(pair.uid)["cgroup"].endswith(group)
    assert cgroup_of(pair.pause).endswith(f"{group}/pause")
    assert cgroup_of(pair.c0).endswith(f"{group}/ctr-c0")
    assert cgroup_of(pair.c1).endswith(f"{group}/ctr-c1")


def test_shared_pid_namespace(cli: Cli) -> None:
    """pause is PID 1, and a container finds the processes of another one by name."""
    uid = run_pod(
        cli,
        box("exec sleep 1234"),
        box("until ps | grep '[s]leep 1234'; do sleep 0.02; done; cat /proc/1/comm; exec sleep 1000", "c1"),
        shareProcessNamespace=True,
    )
    pause = pause_of(cli, uid)
    for container in ("c0", "c1"):
        assert namespace(init_of(cli, uid, container), "pid") == namespace(pause, "pid")
    assert status_field(pause, "NSpid").split()[-1] == "1"
    found = wait_for_output(cli, uid, "pause", "c1").splitlines()
    assert found[0].split()[0] == status_field(init_of(cli, uid), "NSpid").split()[-1]


def test_pause_reaps_orphans_of_a_shared_pid_namespace(cli: Cli) -> None:
    storm = "for i in $(seq 200); do (true & exec true) & done; wait; echo done; exec sleep 1000"
    uid = run_pod(cli, box(storm), shareProcessNamespace=True)
    wait_for_output(cli, uid, "done")
    pause = pause_of(cli, uid)

    def children() -> list[str]:
        return Path(f"/proc/{pause.pid}/task/{pause.pid}/children").read_text().split()

    eventually(lambda: not children(), 5)


def reap_adopted_children() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pause_ends_with_0_on(cli: Cli, number: signal.Signals) -> None:
    prctl.set_child_subreaper(1)  # so that this process becomes the parent of pause
    try:
        uid = run_pod(cli, box("exec sleep 1000"))
        pause = pause_of(cli, uid)
        pidfd = pause.open()
        assert pidfd is not None
        os.kill(pause.pid, number)
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        assert ended is not None
        assert (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)
        cli.ok("pod", "rm", "-f", "test")
    finally:
        prctl.set_child_subreaper(0)
        reap_adopted_children()


def test_the_end_of_pause_is_seen_and_leaves_containers_with_their_own_pid_namespace(cli: Cli) -> None:
    uid = run_pod(cli, box("exec sleep 1000"))
    pause = pause_of(cli, uid)
    os.kill(pause.pid, signal.SIGKILL)
    eventually(lambda: not pause.alive())
    ready = next(c for c in status_of(cli)["conditions"] if c["type"] == "PodReadyToStartContainers")
    assert (ready["status"], ready["reason"]) == ("False", "SandboxStopped")
    assert init_of(cli, uid).alive()


def test_host_network(cli: Cli) -> None:
    uid = run_pod(cli, box("cat /etc/hostname; exec sleep 1000"), hostNetwork=True)
    for process in (pause_of(cli, uid), init_of(cli, uid)):
        assert namespace(process, "net") == namespace("self", "net")
        assert namespace(process, "uts") == namespace("self", "uts")
        assert namespace(process, "ipc") != namespace("self", "ipc")
    assert "podIP" not in status_of(cli)
    assert wait_for_output(cli, uid, "\n") == os.uname().nodename + "\n"


def test_host_pid(cli: Cli) -> None:
    uid = run_pod(cli, box("readlink /proc/self; exec sleep 1000"), hostPID=True)
    init = init_of(cli, uid)
    assert namespace(init, "pid") == namespace("self", "pid")
    assert namespace(pause_of(cli, uid), "pid") == namespace("self", "pid")
    assert status_field(init, "NSpid") == str(init.pid)


def test_host_ipc(cli: Cli) -> None:
    name = f"pyrun-test-{os.getpid()}"
    uid = run_pod(cli, box(f"echo seen > /dev/shm/{name}; exec sleep 1000"), hostIPC=True)
    try:
        assert namespace(init_of(cli, uid), "ipc") == namespace("self", "ipc")
        assert (
            eventually(lambda: (path := Path(f"/dev/shm/{name}")).exists() and path.read_text()) == "seen\n"
        )
    finally:
        Path(f"/dev/shm/{name}").unlink(missing_ok=True)


def test_clock_offsets(cli: Cli) -> None:
    """CLOCK_BOOTTIME is what /proc/uptime shows, shifted by the time namespace of its reader."""
    uid = run_pod(
        cli,
        box("cut -d. -f1 /proc/uptime; date +%s; exec sleep 1000"),
        box("cut -d. -f1 /proc/uptime; exec sleep 1000", "c1"),
        annotations={
            "pyrun.io/time-offset-boottime": "24h",
            "pyrun.io/time-offset-monotonic": "1h30m",
        },
    )
    uptime, now = (int(line) for line in wait_for_output(cli, uid, "\n").splitlines()[:2])
    host = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= host + 86400 - uptime < 30
    assert abs(now - time.time()) < 30
    assert abs(int(wait_for_output(cli, uid, "\n", "c1")) - uptime) < 10
    offsets = Path(f"/proc/{init_of(cli, uid).pid}/timens_offsets").read_text().split()
    assert offsets == ["monotonic", "5400", "0", "boottime", "86400", "0"]


def test_a_container_without_a_time_offset_has_the_clock_of_the_host(pair: Pair) -> None:
    offsets = Path(f"/proc/{pair.c0.pid}/timens_offsets").read_text().split()
    assert offsets == ["monotonic", "0", "0", "boottime", "0", "0"]


def test_pods_do_not_share(pair: Pair, module_cli: Cli) -> None:
    other = run_pod(module_cli, box("exec sleep 1000"), name="other")
    try:
        process = init_of(module_cli, other)
        for kind in ("uts", "ipc", "net", "time", "mnt", "pid", "cgroup"):
            assert namespace(process, kind) != namespace(pair.c0, kind)
        assert len({pod["status"]["podIP"] for pod in pods(module_cli)}) == 2
        assert not in_root(process, "/dev/shm/note").exists()
    finally:
        module_cli.ok("pod", "rm", "-f", "other")


def test_pause_holds_no_descriptor(pair: Pair) -> None:
    assert os.listdir(f"/proc/{pair.pause.pid}/fd") == []


def test_the_mount_table_of_the_host_is_the_same_after_removal(cli: Cli) -> None:
    before = mount_table()
    uid = run_pod(
        cli,
        box("exec sleep 1000", volumeMounts=[{"name": "memory", "mountPath": "/memory"}]),
        volumes=[MEMORY_VOLUME],
    )
    pidfd = pause_of(cli, uid).open()
    assert pidfd is not None
    assert mount_table() == before
    cli.ok("pod", "rm", "-f", "test")
    assert has_ended(pidfd)
    os.close(pidfd)
    assert mount_table() == before
