"""What goes wrong around the supervisor: its store, its disks, the commands beside it, and itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrun.runtime.pods import PodDirectory, is_locked, pod_directories
from pyrun.state.locks import acquire
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, pause_of, processes_below
from tests.e2e.running import spawn
from tests.e2e.supervision import (
    QUICK,
    condition,
    container_of,
    kill,
    manifest,
    pod_of,
    pods_of,
    reasons,
    replica_set,
    restarts,
    supervising,
    until_container,
    until_pod,
)
from tests.e2e.test_replicaset import apply, ready, the_set, uids

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 100000"
STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"
CRASHING = {"command": ["false"]}
NO_GRACE = {"terminationGracePeriodSeconds": 0}
AT_ONCE = {"pyrun.io/backoff-initial": "0", "pyrun.io/backoff-max": "0"}


def said(cli: Cli) -> list[str]:
    """Return what the supervisors have said, without the times."""
    lines = (cli.directory / "supervisor.out").read_text().splitlines()
    return [line.partition(" pyrun: ")[2] for line in lines if " pyrun: " in line]


def times_said(cli: Cli, words: str) -> int:
    return sum(words in line for line in said(cli))


def kill_container(cli: Cli, uid: str) -> None:
    """Kill the main process of a Pod's container, whatever its attempt is."""
    pod = PodDirectory(cli.layout, uid)
    key = pod.latest("c0")
    record = pod.container(key) if key else None
    assert record is not None
    kill(record.init.pid)


def turn_of(cli: Cli, count: int = 5) -> None:
    """Let the supervisor do a number of things for a Pod made for that; a clock without seconds."""
    cli.create(manifest(cli, box("", **CRASHING), name="clock", annotations=QUICK))
    until_container(cli, lambda s: s["restartCount"] >= count, name="clock", timeout=40)
    cli.ok("pod", "rm", "-f", "clock")


def processor_time(pid: int) -> int:
    """Return the ticks of processor time that a process and the children it has waited for have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def assert_it_rests(pid: int) -> None:
    """Fail when a process uses more than a third of a processor while two seconds pass."""
    before = processor_time(pid)
    time.sleep(2)
    assert processor_time(pid) - before < 2 * os.sysconf("SC_CLK_TCK") / 3


# The store


@contextlib.contextmanager
def spoiled(cli: Cli) -> Iterator[None]:
    """Overwrite all of the store, in place, for the block."""
    paths = [Path(cli.layout.store), Path(f"{cli.layout.store}-wal")]
    good = {path: path.read_bytes() for path in paths if path.exists()}
    for path, data in good.items():
        with path.open("r+b") as file:
            file.write(b"\xa5" * len(data))
    try:
        yield
    finally:
        for path, data in good.items():
            with path.open("r+b") as file:
                file.write(data)
                file.truncate(len(data))


def test_a_corrupt_store_is_told_once_and_stops_nothing(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, replica_set(cli, 2))
        before = uids(ready(cli, 2))
        cli.create(manifest(cli, box("", **CRASHING), name="bare", annotations=QUICK))
    with spoiled(cli):
        with supervising(cli):
            kill_container(cli, min(before))
            eventually(
                lambda: any(
                    p["status"]["containerStatuses"][0]["restartCount"] for p in pods_of(cli, "-l", "app=web")
                )
            )
            turn_of(cli)
            assert uids(pods_of(cli, "-l", "app=web")) == before
            assert times_said(cli, "is damaged") == 1, said(cli)
        text = Path(cli.layout.store).read_bytes()
        assert set(text) == {0xA5}, "it was written to"
    with supervising(cli):
        cli.ok("scale", "rs", "web", "--replicas", "3")
        assert before < uids(ready(cli, 3))


def test_a_store_that_breaks_and_is_mended_below_a_supervisor(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, replica_set(cli, 2))
        before = uids(ready(cli, 2))
        with spoiled(cli):
            kill_container(cli, min(before))
            turn_of(cli)
            assert cli.run("scale", "rs", "web", "--replicas", "3").returncode == 1
            assert uids(pods_of(cli)) == before
        cli.ok("pod", "rm", "-f", min(before))
        cli.ok("scale", "rs", "web", "--replicas", "3")
        assert min(before) not in uids(ready(cli, 3))
        assert len(said(cli)) <= 1, said(cli)


def change_row(cli: Cli, name: str, change: Callable[[bytes], bytes | dict[str, Any]]) -> bytes:
    """Change an object in the store as nobody should, and return what it was."""
    with contextlib.closing(sqlite3.connect(cli.layout.store)) as connection, connection:
        (before,) = connection.execute("SELECT body FROM objects WHERE name = ?", (name,)).fetchone()
        after = change(bytes(before))
        data = after if isinstance(after, bytes) else json.dumps(json.loads(before) | after).encode()
        connection.execute("UPDATE objects SET body = ? WHERE name = ?", (data, name))
    Path(f"{cli.layout.store}-changed").write_text("!")
    return bytes(before)


UNREADABLE: dict[str, Callable[[bytes], bytes | dict[str, Any]]] = {
    "no object": lambda _: b"{",
    "a spec that is none": lambda _: {"spec": 7},
    "a spec with nonsense": lambda _: {"spec": {"containers": "x", "replicas": -1}},
    "a strange phase": lambda _: {"status": {"phase": "Weird"}},
    "a status that is none": lambda _: {"status": [1]},
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("kind", ["Pod", "ReplicaSet"])
def test_what_cannot_be_read_is_not_made_and_ends_nobody(cli: Cli, kind: str, name: str) -> None:
    pod = manifest(cli, box(SLEEP), name="web", annotations=QUICK)
    apply(cli, pod if kind == "Pod" else replica_set(cli, 1), "--no-supervise")
    good = change_row(cli, "web", UNREADABLE[name])
    with supervising(cli) as process:
        turn_of(cli, 3)
        assert process.poll() is None
        if "status" not in name and "phase" not in name:
            assert pods_of(cli) == []
        change_row(cli, "web", lambda _: good)
        eventually(lambda: len(found := pods_of(cli)) == 1 and condition(found[0], "Ready"), 30)
        assert len(said(cli)) <= 1, said(cli)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_set_that_cannot_be_read_keeps_its_pods(cli: Cli, name: str) -> None:
    with supervising(cli) as process:
        apply(cli, replica_set(cli, 1))
        before = uids(ready(cli, 1))
        good = change_row(cli, "web", UNREADABLE[name])
        kill_container(cli, *before)
        eventually(lambda: pods_of(cli)[0]["status"]["containerStatuses"][0]["restartCount"] == 1)
        turn_of(cli, 3)
        assert process.poll() is None
        assert uids(pods_of(cli)) == before
        change_row(cli, "web", lambda _: good)
        cli.ok("scale", "rs", "web", "--replicas", "2")
        ready(cli, 2)
        assert len(said(cli)) <= 1, said(cli)


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a small file system, in the mount namespace of the tests, for the block."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@contextlib.contextmanager
def filled(path: Path) -> Iterator[None]:
    """Leave no byte free on a file system, for the block."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_below_the_store(cli: Cli) -> None:
    with small_disk(Path(cli.layout.store).parent, "1m") as disk, supervising(cli) as process:
        apply(cli, replica_set(cli, 2))
        apply(cli, manifest(cli, box(SLEEP), name="bare", annotations=QUICK, **NO_GRACE))
        first = uids(ready(cli, 2))
        eventually(lambda: the_set(cli)["status"].get("readyReplicas") == 2)
        with filled(disk):
            assert cli.run("scale", "rs", "web", "--replicas", "3").returncode == 1
            for uid in uids(pods_of(cli)):
                kill_container(cli, uid)
            turn_of(cli)
            cli.ok("pod", "rm", "-f", min(first))
            eventually(lambda: len(second := uids(pods_of(cli, "-l", "app=web"))) == 2 and second != first)
            ready(cli, 2)
            assert_it_rests(process.pid)
            assert times_said(cli, "no space left") == 1, said(cli)
        cli.ok("scale", "rs", "web", "--replicas", "3")
        ready(cli, 3)
        eventually(lambda: the_set(cli)["status"].get("readyReplicas") == 3)
        assert times_said(cli, "no space left") == 1, said(cli)
        cli.ok("delete", "rs", "web", "--wait")
        cli.ok("delete", "pod", "bare", "--wait")


def test_a_full_disk_below_the_state(cli: Cli) -> None:
    """Nothing can be recorded: what runs runs on, nothing is torn, nobody spins; with space again all goes on."""
    with small_disk(cli.state, "4m") as disk:
        with supervising(cli) as process:
            uid = cli.create(manifest(cli, box(SLEEP), annotations=QUICK))
            pause = pause_of(cli, uid)
            cli.create(
                manifest(cli, box("", **CRASHING), box("exit 0", "c1"), name="crash", annotations=AT_ONCE)
            )
            until_container(cli, lambda s: s["restartCount"] >= 3, name="crash")
            with filled(disk):
                kill_container(cli, uid)
                assert_it_rests(process.pid)
                assert process.poll() is None
                assert pause.alive()
                assert len(said(cli)) <= 6, said(cli)
            until_container(cli, restarts(1), timeout=60)
            count = container_of(cli, name="crash")["restartCount"]
            until_container(cli, lambda s: s["restartCount"] > count + 2, name="crash", timeout=60)
        cli.ok("pod", "rm", "-f", "test", "crash")


# The supervisor itself


def killed_again_and_again(cli: Cli, delays: tuple[float, ...], begin: Callable[[int], object]) -> None:
    """Have a supervisor begin something and kill it, each time a little later."""
    for number, delay in enumerate(delays):
        with supervising(cli) as process:
            begin(number)
            time.sleep(delay)
            process.kill()
            process.wait()


DELAYS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3)


def alone(cli: Cli, uid: str, container: str = "c0") -> bool:
    """Whether exactly one process runs in the cgroup of a container."""
    return len(processes_below(f"{cli.inspect(uid)['cgroup']}/ctr-{container}")) == 1


def test_killed_while_it_makes_replicas(cli: Cli) -> None:
    apply(cli, replica_set(cli, 1), "--no-supervise")

    def scale(number: int) -> None:
        cli.ok("scale", "rs", "web", "--replicas", str(2 + number % 4))

    killed_again_and_again(cli, DELAYS, scale)
    with supervising(cli):
        cli.ok("scale", "rs", "web", "--replicas", "4")
        ready(cli, 4)
        eventually(lambda: len(pods_of(cli)) == len(pod_directories(cli.layout)) == 4)
        assert all(alone(cli, uid) for uid in uids(pods_of(cli)))
        cli.ok("delete", "rs", "web", "--wait")


def test_killed_while_it_rebuilds_a_sandbox(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box(SLEEP), annotations=QUICK), "--no-supervise")

    def end_pause(_: int) -> None:
        until_pod(cli, lambda pod: pause_of(cli, uid).alive())
        kill(pause_of(cli, uid).pid)

    killed_again_and_again(cli, DELAYS, end_pause)
    with supervising(cli):
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        assert alone(cli, uid)
        assert pod_of(cli)["metadata"]["uid"] == uid


def test_killed_while_it_restarts_containers(cli: Cli) -> None:
    """No number of an attempt is given twice, and no end is forgotten."""
    boxes = (box("", **CRASHING), box(SLEEP, "c1"))
    uid = cli.create(manifest(cli, *boxes, annotations=AT_ONCE), "--no-supervise")
    counts = [0]

    def more(_: int) -> None:
        until_container(cli, lambda s: s["restartCount"] > counts[-1])
        counts.append(container_of(cli)["restartCount"])

    killed_again_and_again(cli, DELAYS, more)
    assert counts == sorted(set(counts))
    with supervising(cli):
        more(0)
        assert alone(cli, uid, "c1")
        assert container_of(cli, "c1")["restartCount"] == 0


def test_the_end_of_the_terminal_is_nothing_to_it(cli: Cli) -> None:
    with supervising(cli) as process:
        process.send_signal(signal.SIGHUP)
        uid = cli.create(manifest(cli, box("", **CRASHING), annotations=AT_ONCE))
        for _ in range(5):
            process.send_signal(signal.SIGHUP)
            count = container_of(cli)["restartCount"]
            until_container(cli, lambda s, count=count: s["restartCount"] > count)  # type: ignore[misc]
        assert process.poll() is None
        cli.ok("pod", "rm", "-f", uid)


def test_it_ends_at_once_and_terminations_go_on(cli: Cli) -> None:
    """SIGTERM in the middle of a long termination: the worker outlives it, and takes no notice."""
    with supervising(cli) as process:
        stubborn = box(STUBBORN, lifecycle={"preStop": {"exec": {"command": ["sleep", "1"]}}})
        uid = cli.create(manifest(cli, stubborn, terminationGracePeriodSeconds=4))
        with spawn(cli, "delete", "pod", "test") as waiting:
            stop = eventually(lambda: PodDirectory(cli.layout, uid).stop())
            waiting.kill()
        eventually(lambda: is_locked(PodDirectory(cli.layout, uid)))
        process.terminate()
        process.wait(3 * SLOW)
        assert time.monotonic_ns() < stop.deadline_ns
        assert pause_of(cli, uid).alive()
        eventually(lambda: pod_of(cli) is None, 20)


# Commands beside it


def test_a_lock_that_stays_taken_holds_up_only_its_pod(cli: Cli) -> None:
    """A command that stops a Pod is itself stopped (SIGSTOP) in the middle."""
    with supervising(cli):
        uid = cli.create(manifest(cli, box(STUBBORN), terminationGracePeriodSeconds=1))
        with spawn(cli, "pod", "stop", "-t", "1", "test") as command:
            eventually(lambda: (stop := PodDirectory(cli.layout, uid).stop()) and bool(stop.signalled))
            command.send_signal(signal.SIGSTOP)
            turn_of(cli)
            apply(cli, replica_set(cli, 1))
            ready(cli, 1)
            assert pause_of(cli, uid).alive()
            command.send_signal(signal.SIGCONT)
            assert command.wait(20 * SLOW) == 0
        assert not pause_of(cli, uid).alive()
        cli.ok("delete", "rs", "web", "--wait")


def test_looking_for_the_lock_of_a_pod_that_is_gone_makes_none(cli: Cli) -> None:
    gone = PodDirectory(cli.layout, "11111111-2222-3333-4444-555555555555")
    os.makedirs(cli.layout.locks)
    assert not is_locked(gone)
    assert not os.path.exists(gone.lock_path)


def test_a_container_is_started_again_when_the_lock_is_free(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(manifest(cli, box(SLEEP), annotations=QUICK))
        fd = acquire(PodDirectory(cli.layout, uid).lock_path, 10)
        assert fd is not None
        try:
            kill_container(cli, uid)
            turn_of(cli)
            assert container_of(cli)["restartCount"] == 0
        finally:
            os.close(fd)
        until_container(cli, restarts(1))


def test_a_creation_that_is_interrupted_leaves_nothing_to_the_supervisor(cli: Cli) -> None:
    text = manifest(cli, box(SLEEP), box(SLEEP, "c1"), annotations=QUICK)
    with supervising(cli):
        outcomes = set()
        for delay in (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2):
            with spawn(cli, "pod", "create", "-f", "-") as command:
                assert command.stdin is not None and command.stderr is not None
                command.stdin.write(text.encode())
                command.stdin.close()
                eventually(lambda: bool(pod_directories(cli.layout)))
                time.sleep(delay)
                command.send_signal(signal.SIGINT)
                outcomes.add(command.wait(30 * SLOW))
                assert b"Traceback" not in command.stderr.read()
            if pod_of(cli) is not None:
                until_pod(cli, lambda pod: condition(pod, "Ready"))
                cli.ok("pod", "rm", "-f", "test")
            eventually(lambda: not pod_directories(cli.layout))
        assert 130 in outcomes and outcomes <= {0, 130, -2}, outcomes
        assert said(cli) == []


def test_removals_that_race_with_restarts(cli: Cli) -> None:
    with supervising(cli):
        for number in range(10):
            uid = cli.create(manifest(cli, box("", **CRASHING), box("exit 0", "c1"), annotations=AT_ONCE))
            until_container(cli, lambda s, number=number: s["restartCount"] >= number % 3)  # type: ignore[misc]
            result = cli.run("pod", "rm", "-f", uid)
            assert (result.returncode, result.stderr) == (0, "")
            eventually(lambda: not pod_directories(cli.layout))
        assert said(cli) == []
        assert "Failed" not in reasons(cli)
