"""The life of a Pod: names and ids, stop, kill, pause, rm, locks, many at once, interruption and crash."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyrun.runtime.pods import PodDirectory
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import (
    box,
    init_of,
    manifest,
    output,
    pause_of,
    pods,
    processes_below,
    run_pod,
    state_of,
    status_of,
    wait_for_end,
    wait_for_output,
)
from tests.leaks import assert_nothing_left, snapshot

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 1000"


def trapping(*words: str) -> str:
    """Return a script that says which of these signals it gets and goes on; `QUIT` it ends with 5."""
    traps = "; ".join(f"trap 'echo got {word}' {word}" for word in words)
    return f"trap 'echo bye; exit 5' QUIT; {traps}; echo ready; while true; do sleep 0.02; done"


# Names and ids


def test_create_prints_name_and_id(cli: Cli) -> None:
    printed = cli.ok("pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP)))
    name, uid = printed.split()
    assert name == "test"
    assert re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", uid)


def test_a_name_is_taken_once_and_the_refused_pod_leaves_nothing(cli: Cli) -> None:
    run_pod(cli, box(SLEEP))
    before = snapshot(cli.layout)
    result = cli.run("pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP)))
    assert result.returncode == 1
    assert 'a Pod named "test" exists already; choose another name' in result.stderr
    assert_nothing_left(before, cli.layout)


def test_a_name_is_free_again_after_removal(cli: Cli) -> None:
    for _ in range(2):
        run_pod(cli, box(SLEEP))
        cli.ok("pod", "rm", "-f", "test")


def test_generate_name(cli: Cli) -> None:
    text = manifest(cli, box(SLEEP)).replace('"name": "test"', '"generateName": "many-"')
    names = [cli.ok("pod", "create", "-f", "-", stdin=text).split()[0] for _ in range(2)]
    assert all(re.fullmatch(r"many-[a-z0-9]{5}", name) for name in names)
    assert names[0] != names[1]
    cli.ok("pod", "rm", "-f", *names)


def test_a_namespace_is_a_part_of_the_name(cli: Cli) -> None:
    other = manifest(cli, box(SLEEP)).replace('"name": "test"', '"name": "test", "namespace": "other"')
    here = run_pod(cli, box(SLEEP))
    there = cli.create(other)
    assert cli.ok("pod", "rm", "-f", "other/test").split() == [there]
    assert cli.ok("pod", "rm", "-f", "test").split() == [here]


def test_the_default_namespace_wins_for_a_bare_name(cli: Cli) -> None:
    cli.create(manifest(cli, box(SLEEP)).replace('"name": "test"', '"name": "test", "namespace": "other"'))
    here = run_pod(cli, box(SLEEP))
    assert cli.ok("pod", "rm", "-f", "test").split() == [here]
    assert [pod["metadata"]["namespace"] for pod in pods(cli)] == ["other"]


def test_a_pod_is_found_by_a_unique_beginning_of_its_id(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    assert cli.ok("pod", "kill", uid[:4]).split() == [uid]
    assert cli.ok("pod", "rm", "-f", uid).split() == [uid]


def test_a_beginning_of_several_ids_is_refused(cli: Cli) -> None:
    run_pod(cli, box(SLEEP))
    os.mkdir(f"{cli.layout.pods}/aaaa-1")
    os.mkdir(f"{cli.layout.pods}/aaaa-2")
    try:
        result = cli.run("pod", "stop", "aaaa")
    finally:
        os.rmdir(f"{cli.layout.pods}/aaaa-1")
        os.rmdir(f"{cli.layout.pods}/aaaa-2")
    assert result.returncode == 2
    assert '"aaaa" is the beginning of 2 ids' in result.stderr


@pytest.mark.parametrize("command", [("rm",), ("stop",), ("kill",), ("pause",), ("unpause",)])
def test_an_unknown_name(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli.run("pod", *command, "nobody")
    assert result.returncode == 1
    assert result.stderr == 'pyrun: no Pod is named "nobody" or has an id that begins so; see pyrun pod ls\n'


def test_rm_force_of_an_unknown_name_is_no_error(cli: Cli) -> None:
    assert cli.ok("pod", "rm", "-f", "nobody") == ""


# Listing


def test_ls_in_columns(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP), box("exit 3", "c1"))
    wait_for_end(cli, uid, "c1")
    header, row = cli.ok("pod", "ls").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "IP", "AGE", "ID"]
    address = status_of(cli)["podIP"]
    assert row.split()[:4] == ["test", "1/2", "Error", address]  # as kubectl says it
    assert row.split()[5] == uid[:8]
    assert cli.ok("ps", "-q") == f"{uid}\n"


def test_labels_annotations_and_ports_are_kept(cli: Cli) -> None:
    container = box(SLEEP, ports=[{"containerPort": 80, "name": "http"}])
    text = manifest(cli, container, annotations={"example.org/note": "kept"})
    cli.create(text.replace('"name": "test"', '"name": "test", "labels": {"app": "web"}'))
    listed = pods(cli)[0]
    assert listed["metadata"]["labels"] == {"app": "web"}
    assert listed["metadata"]["annotations"]["example.org/note"] == "kept"
    assert listed["spec"]["containers"][0]["ports"] == [
        {"name": "http", "containerPort": 80, "protocol": "TCP"}
    ]


@pytest.mark.parametrize(
    ("scripts", "phase"),
    [
        ((SLEEP, "true"), "Running"),
        (("true", "true"), "Succeeded"),
        (("true", "false"), "Failed"),
    ],
)
def test_phase(cli: Cli, scripts: tuple[str, ...], phase: str) -> None:
    uid = run_pod(cli, *(box(script, f"c{i}") for i, script in enumerate(scripts)))
    for i, script in enumerate(scripts):
        if script != SLEEP:
            wait_for_end(cli, uid, f"c{i}")
    assert status_of(cli)["phase"] == phase


def test_wait_exit_gives_the_exit_code(cli: Cli) -> None:
    result = cli.run(
        "pod", "create", "--wait=exit", "-f", "-", stdin=manifest(cli, box("exit 7"), box("", "c1"))
    )
    assert result.returncode == 7


def test_wait_exit_gives_up_after_the_timeout_and_the_pod_goes_on(cli: Cli) -> None:
    text = manifest(cli, box(SLEEP))
    result = cli.run("pod", "create", "--wait=exit", "--timeout=0.1", "-f", "-", stdin=text)
    assert result.returncode == 1
    assert 'container "c0"' in result.stderr
    assert "still runs after 0.1 s" in result.stderr
    assert "running" in state_of(cli)


def test_explain_prints_each_operation_with_its_time(cli: Cli) -> None:
    result = cli.run("pod", "create", "--explain", "-f", "-", stdin=manifest(cli, box(SLEEP)))
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    assert all(re.match(r" *([0-9]+\.[0-9]{2} ms)?  ", line) for line in lines)
    uid = result.stdout.split()[1]
    journals = [PodDirectory(cli.layout, uid).sandbox_journal()]
    journals.append(PodDirectory(cli.layout, uid).container_journal(("c0", 0)))
    for journal in journals:
        for entry in journal.read():
            assert entry.operation is None or any(entry.operation.describe() in line for line in lines)
    assert any('sethostname("test")' in line for line in lines)


# Stop


def test_stop_sends_sigterm_and_waits(cli: Cli) -> None:
    script = "trap 'echo stopping; exit 4' TERM; echo ready; while true; do sleep 0.02; done"
    uid = run_pod(cli, box(script))
    wait_for_output(cli, uid, "ready")
    cli.ok("pod", "stop", "test")
    assert output(cli, uid).endswith("stopping\n")
    assert state_of(cli)["terminated"]["exitCode"] == 4


def test_stop_signal_of_the_manifest(cli: Cli) -> None:
    uid = run_pod(cli, box(trapping("TERM"), lifecycle={"stopSignal": "SIGQUIT"}))
    wait_for_output(cli, uid, "ready")
    cli.ok("pod", "stop", "test")
    assert output(cli, uid) == "ready\nbye\n"
    assert state_of(cli)["terminated"]["exitCode"] == 5


@pytest.mark.parametrize(("argument", "in_manifest"), [("-t1", 30), (None, 1)])
def test_after_the_grace_period_the_container_is_killed(
    cli: Cli, argument: str | None, in_manifest: int
) -> None:
    uid = run_pod(cli, box(trapping("TERM")), terminationGracePeriodSeconds=in_manifest)
    wait_for_output(cli, uid, "ready")
    began = time.monotonic()
    cli.ok("pod", "stop", "test", *([argument] if argument else []))
    assert 1 <= time.monotonic() - began < 10 * SLOW
    assert output(cli, uid) == "ready\ngot TERM\n"
    ended = state_of(cli)["terminated"]
    assert (ended["exitCode"], ended["signal"]) == (137, 9)


def test_the_grace_period_is_one_for_all_containers(cli: Cli) -> None:
    containers = [box(trapping("TERM"), f"c{i}") for i in range(3)]
    uid = run_pod(cli, *containers)
    for i in range(3):
        wait_for_output(cli, uid, "ready", f"c{i}")
    began = time.monotonic()
    cli.ok("pod", "stop", "-t5", "test")
    assert 5 <= time.monotonic() - began < 14 * SLOW, "one after the other would take 15"
    assert all("got TERM" in output(cli, uid, f"c{i}") for i in range(3))


def test_no_grace_means_no_signal(cli: Cli) -> None:
    uid = run_pod(cli, box(trapping("TERM")))
    wait_for_output(cli, uid, "ready")
    cli.ok("pod", "stop", "-t0", "test")
    assert output(cli, uid) == "ready\n"
    assert state_of(cli)["terminated"]["exitCode"] == 137


def test_stop_ends_every_process_and_keeps_records_logs_and_address(cli: Cli) -> None:
    uid = run_pod(cli, box("echo before; sleep 1000 & exec sleep 1000"), shareProcessNamespace=True)
    wait_for_output(cli, uid, "before")
    address = status_of(cli)["podIP"]
    cli.ok("pod", "stop", "-t0", "test")
    group = cli.inspect(uid)["cgroup"]
    assert processes_below(group) == []
    assert not pause_of(cli, uid).alive()
    assert status_of(cli)["podIP"] == address
    assert output(cli, uid) == "before\n"


def test_stop_of_a_stopped_pod_is_no_error(cli: Cli) -> None:
    run_pod(cli, box("true"))
    cli.ok("pod", "stop", "-t0", "test")
    before = state_of(cli)
    cli.ok("pod", "stop", "test")
    assert state_of(cli) == before


def test_stop_of_a_paused_pod(cli: Cli) -> None:
    """A frozen process takes no signal: stop thaws it first."""
    uid = run_pod(cli, box("trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.02; done"))
    wait_for_output(cli, uid, "ready")
    cli.ok("pod", "pause", "test")
    cli.ok("pod", "stop", "test")
    assert output(cli, uid).endswith("bye\n")


# Kill, pause


def test_kill_sends_a_signal_to_the_main_process(cli: Cli) -> None:
    uid = run_pod(cli, box(trapping("HUP")), box(trapping("HUP"), "c1"))
    for name in ("c0", "c1"):
        wait_for_output(cli, uid, "ready", name)
    cli.ok("pod", "kill", "-s", "HUP", "test")
    for name in ("c0", "c1"):
        wait_for_output(cli, uid, "got HUP", name)


@pytest.mark.parametrize("spelling", ["USR1", "SIGUSR1", "usr1", "10"])
def test_kill_takes_names_and_numbers_and_one_container(cli: Cli, spelling: str) -> None:
    uid = run_pod(cli, box(trapping("USR1")), box(trapping("USR1"), "c1"))
    for name in ("c0", "c1"):
        wait_for_output(cli, uid, "ready", name)
    cli.ok("pod", "kill", "-s", spelling, "-c", "c1", "test")
    wait_for_output(cli, uid, "got USR1", "c1")
    assert output(cli, uid) == "ready\n"


def test_kill_is_kill_by_default(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    cli.ok("pod", "kill", "test")
    wait_for_end(cli, uid)
    assert state_of(cli)["terminated"]["signal"] == 9


def test_kill_of_what_has_ended(cli: Cli) -> None:
    uid = run_pod(cli, box("true"))
    wait_for_end(cli, uid)
    result = cli.run("pod", "kill", "test")
    assert result.returncode == 1
    assert "no container of Pod test runs" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("-s", "NOSUCH"), 2, '"NOSUCH" is not a signal'),
        (("-s", "99"), 2, '"99" is not a signal'),
        (("-c", "nobody"), 1, 'Pod test has no container "nobody"; it has c0'),
    ],
)
def test_kill_with_wrong_arguments(cli: Cli, arguments: tuple[str, ...], code: int, reason: str) -> None:
    run_pod(cli, box(SLEEP))
    result = cli.run("pod", "kill", *arguments, "test")
    assert result.returncode == code
    assert reason in result.stderr


@pytest.mark.guest
def test_pause_freezes_and_unpause_thaws(cli: Cli) -> None:
    uid = run_pod(cli, box("while true; do echo tick; sleep 0.01; done"), box(SLEEP, "c1"))
    wait_for_output(cli, uid, "tick")
    cli.ok("pod", "pause", "test")
    frozen = len(eventually(lambda: text if (text := output(cli, uid)) == output(cli, uid) else None))
    assert [s["state"]["waiting"]["reason"] for s in status_of(cli)["containerStatuses"]] == ["Paused"] * 2
    time.sleep(0.1)
    assert len(output(cli, uid)) == frozen
    cli.ok("pod", "unpause", "test")
    eventually(lambda: len(output(cli, uid)) > frozen)
    assert "running" in state_of(cli)


def test_pause_of_a_pod_that_has_ended(cli: Cli) -> None:
    wait_for_end(cli, run_pod(cli, box("true")))
    result = cli.run("pod", "pause", "test")
    assert result.returncode == 1
    assert "no container of Pod test runs" in result.stderr


def test_unpause_of_a_pod_that_runs_is_no_error(cli: Cli) -> None:
    run_pod(cli, box(SLEEP))
    cli.ok("pod", "unpause", "test")


# Remove


def test_rm_refuses_a_pod_that_runs(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    result = cli.run("pod", "rm", "test")
    assert result.returncode == 1
    assert "Pod test has running containers: c0; stop it first (pyrun pod stop test)" in result.stderr
    assert init_of(cli, uid).alive()


def test_rm_of_a_pod_that_has_ended(cli: Cli) -> None:
    uid = run_pod(cli, box("true"))
    wait_for_end(cli, uid)
    assert cli.ok("pod", "rm", "test") == f"{uid}\n"


def test_rm_of_a_stopped_and_of_a_paused_pod(cli: Cli) -> None:
    run_pod(cli, box(SLEEP), name="stopped")
    run_pod(cli, box(SLEEP), name="paused")
    cli.ok("pod", "stop", "-t0", "stopped")
    cli.ok("pod", "pause", "paused")
    cli.ok("pod", "rm", "stopped")
    cli.ok("pod", "rm", "-f", "paused")


def test_rm_all(cli: Cli) -> None:
    uids = {run_pod(cli, box(SLEEP), name=f"p{i}") for i in range(3)}
    assert set(cli.ok("pod", "rm", "-f", "--all").split()) == uids
    assert pods(cli) == []


@pytest.mark.parametrize("arguments", [(), ("--all", "name")])
def test_rm_wants_names_or_all(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli.run("pod", "rm", *arguments)
    assert result.returncode == 2
    assert "give names of Pods, or --all" in result.stderr


def test_rm_kills_what_ignores_signals_and_forks(cli: Cli) -> None:
    script = "trap '' TERM INT HUP; while true; do (trap '' TERM; sleep 0.01) & sleep 0.005; done"
    run_pod(cli, box(script), shareProcessNamespace=True)
    began = time.monotonic()
    cli.ok("pod", "rm", "-f", "test")
    assert time.monotonic() - began < 25 * SLOW, "it waited for the grace period"


def test_rm_ends_every_process_by_itself(cli: Cli) -> None:
    """When the command returns, pause, init and monitors have ended: no second kill, no later one."""
    uid = run_pod(cli, box(SLEEP), box("sleep 1000 & exec sleep 1000", "c1"), shareProcessNamespace=True)
    group = cli.inspect(uid)["cgroup"]
    pidfds = [os.pidfd_open(pid) for pid in processes_below(group)]
    assert len(pidfds) == 6
    cli.ok("pod", "rm", "-f", "test")
    ready, _, _ = select.select(pidfds, [], [], 0)
    for fd in pidfds:
        os.close(fd)
    assert len(ready) == 6


# Locks


@contextmanager
def lock_of(path: str) -> Iterator[None]:
    """Hold a lock file of the instance, as another command would."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def start(cli: Cli, *arguments: str, stdin: str = "") -> subprocess.Popen[str]:
    """Start a command without waiting for it."""
    process = subprocess.Popen(
        [*cli.command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cli.environment,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    process.stdin = None
    return process


def test_a_second_command_on_one_pod_waits(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    with lock_of(PodDirectory(cli.layout, uid).lock_path):
        second = start(cli, "pod", "stop", "-t0", "test")
        time.sleep(0.5)
        assert second.poll() is None
        assert init_of(cli, uid).alive()
    _, errors = second.communicate(timeout=20 * SLOW)
    assert second.returncode == 0, errors
    assert not init_of(cli, uid).alive()


def test_a_command_whose_pod_goes_while_it_waits_says_so(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    commands = [start(cli, "pod", "rm", "-f", "test") for _ in range(3)]
    results = [(c.communicate(timeout=20 * SLOW)[1], c.returncode) for c in commands]
    assert not Path(cli.layout.pod_state(uid)).exists()
    assert any(code == 0 for _, code in results)
    for text, code in results:
        assert (code, text) == (0, "") or (code == 1 and ("is gone" in text or "no Pod is named" in text))


def test_twenty_at_once(cli: Cli) -> None:
    """All are made, each with its own address, and all go again and leave nothing (see the fixture)."""
    processes = [
        start(cli, "pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP), name=f"p{i}"))
        for i in range(20)
    ]
    errors = [p.communicate(timeout=120 * SLOW)[1] for p in processes]
    assert [p.returncode for p in processes] == [0] * 20, errors
    listed = pods(cli)
    assert all(pod["status"]["phase"] == "Running" for pod in listed)
    assert len({pod["status"]["podIP"] for pod in listed}) == 20
    removals = [start(cli, "pod", "rm", "-f", f"p{i}") for i in range(20)]
    errors = [p.communicate(timeout=120 * SLOW)[1] for p in removals]
    assert [p.returncode for p in removals] == [0] * 20, errors


def test_no_lock_of_the_instance_is_held_while_a_pod_is_launched(cli: Cli, tmp_path: Path) -> None:
    """One Pod's creation stands still in its launch; another one is made meanwhile."""
    run_pod(cli, box(SLEEP), name="first")
    with stopped_creation(cli, manifest(cli, box(SLEEP), name="slow"), "SpawnPause") as slow:
        run_pod(cli, box(SLEEP), name="quick")
        os.kill(slow.pid, signal.SIGCONT)
        _, errors = slow.communicate(timeout=20 * SLOW)
        assert slow.returncode == 0, errors


@contextmanager
def stopped_creation(cli: Cli, text: str, operation: str) -> Iterator[subprocess.Popen[str]]:
    """Give a `pod create` that was stopped (SIGSTOP) at or soon after the journal names this operation."""
    process = start(cli, "pod", "create", "-f", "-", stdin=text)
    try:
        known = set(os.listdir(cli.layout.pods)) if Path(cli.layout.pods).exists() else set()
        eventually(lambda: _journalled(cli, known, operation))
        os.kill(process.pid, signal.SIGSTOP)
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            process.communicate(timeout=20 * SLOW)


def _journalled(cli: Cli, known: set[str], operation: str) -> bool:
    return any(
        f'"{operation}"' in journal.read_text()
        for journal in Path(cli.layout.pods).glob("*/journal")
        if journal.parent.name not in known
    )


# Interruption and crash


@contextmanager
def held_network(cli: Cli) -> Iterator[None]:
    """Hold the lock of the network, so that a creation stands still at `EnsureNetwork`."""
    directory = Path(cli.layout.state) / "network"
    directory.mkdir(parents=True, exist_ok=True)
    with lock_of(f"{directory}/lock"):
        yield


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGINT, "interrupted; what was half made has been undone"),
        (signal.SIGTERM, "terminated by SIGTERM; what was half made has been undone"),
    ],
)
def test_an_interrupted_creation_leaves_nothing(cli: Cli, number: signal.Signals, sentence: str) -> None:
    with held_network(cli):
        process = start(cli, "pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP)))
        eventually(lambda: _journalled(cli, set(), "EnsureNetwork"))
        process.send_signal(number)
        time.sleep(0.1)
    _, errors = process.communicate(timeout=20 * SLOW)
    assert process.returncode == 130
    assert errors.lstrip("\n") == f"pyrun: {sentence}\n"  # a line of its own after the terminal's ^C
    assert os.listdir(cli.layout.pods) == []


@pytest.mark.parametrize("command", ["create", "rm"])
def test_the_next_command_undoes_what_a_crash_left(cli: Cli, command: str) -> None:
    with held_network(cli):
        process = start(cli, "pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP)))
        eventually(lambda: _journalled(cli, set(), "EnsureNetwork"))
        process.kill()
        process.communicate()
    assert len(os.listdir(cli.layout.pods)) == 1
    assert pods(cli) == []
    if command == "create":
        run_pod(cli, box(SLEEP))  # of the same name
        assert len(os.listdir(cli.layout.pods)) == 1
    else:
        cli.ok("pod", "rm", "--all")
        assert os.listdir(cli.layout.pods) == []


def test_files_of_pods_whose_records_a_reboot_took_are_collected(cli: Cli) -> None:
    orphan = Path(cli.layout.pod_root("0d2c8f6e-0000-4000-8000-000000000000"))
    (orphan / "volumes/v").mkdir(parents=True)
    (orphan / "volumes/v/file").write_text("x")
    run_pod(cli, box(SLEEP))
    assert not orphan.exists()


def test_a_pod_of_another_boot_is_dead_and_can_be_removed(cli: Cli) -> None:
    """The records lie in a directory that survived the reboot: the pids in them mean nothing any more."""
    uid = run_pod(cli, box(SLEEP))
    for path in Path(cli.layout.pod_state(uid)).rglob("*.json"):
        path.write_text(re.sub(r'"boot_id":"[^"]*"', '"boot_id":"another"', path.read_text()))
    assert state_of(cli)["terminated"]["reason"] == "MonitorLost"
    cli.ok("pod", "rm", "test")


# Several Pods in one file


def documents(*texts: str) -> str:
    return "\n---\n".join(texts)


def test_several_documents_make_several_pods(cli: Cli) -> None:
    text = documents(manifest(cli, box(SLEEP), name="one"), manifest(cli, box(SLEEP), name="two"))
    printed = cli.ok("pod", "create", "-f", "-", stdin=text)
    assert [line.split()[0] for line in printed.splitlines()] == ["one", "two"]


def test_when_the_second_pod_of_a_file_fails_the_first_is_removed(cli: Cli) -> None:
    broken: dict[str, Any] = {**box(""), "command": ["no-such-program"]}
    text = documents(manifest(cli, box(SLEEP), name="one"), manifest(cli, broken, name="two"))
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 127
    assert result.stdout == ""
    assert os.listdir(cli.layout.pods) == []


def test_instances_do_not_see_each_other(cli: Cli, module_cli: Cli) -> None:
    run_pod(cli, box(SLEEP), name="mine")
    run_pod(module_cli, box(SLEEP), name="mine")
    assert [pod["metadata"]["name"] for pod in pods(cli)] == ["mine"]
    cli.ok("pod", "rm", "-f", "--all")
    assert [pod["metadata"]["name"] for pod in pods(module_cli)] == ["mine"]
    module_cli.ok("pod", "rm", "-f", "mine")
