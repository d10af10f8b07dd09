"""The supervisor as a process: one of an instance, killed at any moment, and it adopts what it finds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from pyrun.controllers.running import supervisor
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, log_lines, monitor_of, pause_of
from tests.e2e.supervision import (
    QUICK,
    condition,
    container_of,
    is_still,
    kill,
    manifest,
    pod_of,
    reasons,
    restarts,
    supervising,
    until_container,
    until_pod,
)

pytestmark = pytest.mark.requires("pods")

SLEEP = "exec sleep 100000"


def test_a_container_that_ends_is_started_again(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(manifest(cli, box("echo once; exit 3"), annotations=QUICK))
        status = until_container(cli, lambda s: s if s["restartCount"] >= 2 else None)
        assert status["lastState"]["terminated"]["exitCode"] == 3
        assert Path(cli.layout.logs(uid, "c0")).is_dir()


def test_pod_create_starts_a_supervisor_when_one_is_needed_and_says_so(cli: Cli) -> None:
    text = manifest(cli, box("exit 1"), annotations=QUICK)
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 0, result.stderr
    lines = [line for line in (result.stdout + result.stderr).splitlines() if "supervisor" in line]
    assert len(lines) == 1
    identity = eventually(lambda: supervisor(cli.layout))
    assert str(identity.pid) in lines[0]
    until_container(cli, lambda s: s["restartCount"] >= 1)
    again = cli.run("pod", "create", "-f", "-", stdin=text.replace('"test"', '"other"'))
    assert again.returncode == 0
    assert "supervisor" not in again.stdout + again.stderr


@pytest.mark.parametrize("arguments", [("--no-supervise",), ()])
def test_no_supervisor_is_started_when_none_is_wanted_or_needed(cli: Cli, arguments: tuple[str, ...]) -> None:
    policy = "Always" if arguments else "Never"
    cli.create(manifest(cli, box(SLEEP), restartPolicy=policy), *arguments)
    assert supervisor(cli.layout) is None


def test_two_at_once_are_impossible(cli: Cli) -> None:
    with supervising(cli) as first:
        result = cli.run("supervise")
        assert result.returncode == 1
        assert f"process {first.pid}" in result.stderr
        assert cli.run("supervise", "--detach").returncode in (0, 1)
        found = supervisor(cli.layout)
        assert found is not None and found.pid == first.pid


def test_it_ends_when_the_state_is_removed(cli: Cli) -> None:
    with supervising(cli) as process:
        shutil.rmtree(cli.state)
        assert process.wait(20) == 0


def test_stopping_it_leaves_pods_alone(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(manifest(cli, box(SLEEP)))
        pause, monitor = pause_of(cli, uid), monitor_of(cli, uid, "c0")
    assert pause.alive() and monitor.alive()
    assert container_of(cli)["restartCount"] == 0


def test_killed_it_loses_nothing(cli: Cli) -> None:
    """Exits, their backoff and log lines that came while no supervisor ran are there for the next one."""
    script = "echo begin; sleep 0.5; echo end; exit 7"
    with supervising(cli) as first:
        uid = cli.create(manifest(cli, box(script), box(SLEEP, "c1"), annotations=QUICK))
        other = monitor_of(cli, uid, "c1")
        first.send_signal(signal.SIGKILL)
        first.wait()
        eventually(lambda: "terminated" in container_of(cli)["state"] or None)
        assert [line["text"] for line in log_lines(cli, uid)] == ["begin", "end"]
    with supervising(cli):
        status = until_container(cli, lambda s: s if s["restartCount"] >= 1 else None)
        assert status["lastState"]["terminated"]["exitCode"] == 7
        assert other.alive()
        assert container_of(cli, "c1")["restartCount"] == 0
    assert "Exited" in reasons(cli)


def test_a_termination_goes_on_to_the_same_deadline(cli: Cli) -> None:
    """The command and the supervisor are killed in the middle; the next supervisor keeps the deadline."""
    stubborn = "trap '' TERM; while :; do sleep 0.1; done"
    with supervising(cli):
        uid = cli.create(manifest(cli, box(stubborn), restartPolicy="Always"))
    path = Path(cli.layout.pod_state(uid)) / "stop.json"
    with subprocess.Popen([*cli.command, "pod", "stop", "-t", "6", "test"], env=cli.environment) as stopping:
        eventually(path.exists)
        stopping.kill()
    before = path.read_bytes()
    with supervising(cli):
        eventually(lambda: not pause_of(cli, uid).alive(), 30)
    assert json.loads(path.read_bytes())["deadline_ns"] == json.loads(before)["deadline_ns"]
    assert container_of(cli)["state"]["terminated"]["signal"] == 9


def test_a_pause_that_dies_is_made_anew_in_the_same_pod(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(manifest(cli, box(SLEEP), annotations=QUICK))
        first = pause_of(cli, uid)
        kill(first.pid)
        eventually(lambda: (now := pause_of(cli, uid)) != first and now.alive(), 20)
        until_container(cli, restarts(1))
        assert pod_of(cli)["metadata"]["uid"] == uid
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        assert "SandboxChanged" in reasons(cli)


def test_a_killed_monitor_is_reported_and_its_container_restarted(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(manifest(cli, box(SLEEP), annotations=QUICK))
        kill(monitor_of(cli, uid, "c0").pid)
        status = until_container(cli, restarts(1))
        ended = status["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (255, "MonitorLost")


def test_never_means_never(cli: Cli) -> None:
    with supervising(cli):
        cli.create(manifest(cli, box("exit 4"), box("sleep 0.3", "c1"), restartPolicy="Never"))
        until_pod(cli, lambda pod: pod["status"]["phase"] == "Failed")
        cli.create(manifest(cli, box("sleep 0.1"), name="second", restartPolicy="OnFailure"))
        until_pod(cli, lambda pod: pod["status"]["phase"] == "Succeeded", "second")
        assert container_of(cli)["restartCount"] == 0
        assert container_of(cli, name="second")["restartCount"] == 0


def test_a_pod_that_is_stopped_stays_stopped(cli: Cli) -> None:
    with supervising(cli):
        cli.create(manifest(cli, box(SLEEP), annotations=QUICK))
        cli.ok("pod", "stop", "-t", "0", "test")
        until_container(cli, lambda s: "terminated" in s["state"] or None)
        cli.create(manifest(cli, box("exit 1"), name="other", annotations=QUICK))
        until_container(cli, lambda s: s["restartCount"] >= 1, name="other")
        assert container_of(cli)["restartCount"] == 0


def test_it_sleeps_when_there_is_nothing_to_do(cli: Cli) -> None:
    """Idle means no wake-ups at all: the voluntary context switches of a second are none."""
    with supervising(cli) as process:
        cli.create(manifest(cli, box(SLEEP)))
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        eventually(lambda: is_still(process.pid), 20)


def test_a_broken_record_stops_nothing(cli: Cli) -> None:
    """What cannot be read is told and left alone; the other Pods go on."""
    with supervising(cli):
        uid = cli.create(manifest(cli, box(SLEEP)))
        pause = pause_of(cli, uid)
        path = Path(cli.layout.pod_state(uid)) / "sandbox.json"
        good = path.read_bytes()
        path.write_bytes(b"{")
        os.utime(path.parent)
        cli.create(manifest(cli, box("exit 1"), name="other", annotations=QUICK))
        until_container(cli, lambda s: s["restartCount"] >= 1, name="other")
        assert pause.alive()
        listed = cli.run("get", "pods", "-o", "name")
        assert set(listed.stdout.split()) == {"pod/test", "pod/other"}
        assert listed.stderr.count("sandbox.json") == 1
        path.write_bytes(good)


def test_a_crash_while_a_pod_is_made_is_undone_by_the_supervisor(cli: Cli) -> None:
    with supervising(cli):
        cli.create(manifest(cli, box(SLEEP), name="first"))
        half = Path(cli.layout.pod_state("11111111-2222-3333-4444-555555555555"))
        half.mkdir()
        eventually(lambda: not half.exists(), 20)
