"""exec checks of real Pods: results, timeouts, what is killed, and that nothing of a worker hangs on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyrun.kernel import syscalls
from pyrun.kernel.proc import has_ended
from pyrun.runtime.probing.begin import begin_check, begin_hook, run_hook
from pyrun.runtime.probing.check import Check, Outcome, ProbeTarget, Verdict
from pyrun.spec.probe import ExecAction
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, init_of, manifest, processes_below
from tests.privileged.probing_kit import check, facts_of, target_in

pytestmark = [pytest.mark.requires("pods", "busybox", "nftables"), pytest.mark.usefixtures("unharmed")]

ENV = [
    {"name": "WHO", "value": "world"},
    {"name": "NESTED", "value": "$(WHO)!"},
]
DAEMON = "setsid sleep 100000 >/dev/null 2>&1 </dev/null & echo started"


@pytest.fixture(scope="module")
def pod(module_cli: Cli) -> tuple[Cli, ProbeTarget]:
    """A Pod whose one container sleeps, as another user in another directory."""
    context = {"runAsUser": 33, "runAsGroup": 44}
    container = box("exec sleep 100000", env=ENV, workingDir="/var", securityContext=context)
    uid = module_cli.create(manifest(module_cli, container))
    return module_cli, target_in(module_cli, uid)


def sh(script: str) -> ExecAction:
    return ExecAction(command=("sh", "-c", script))


def groups_in(target: ProbeTarget) -> list[str]:
    """Return the groups below the container's leaf."""
    return [name for name in os.listdir(target.leaf) if os.path.isdir(f"{target.leaf}/{name}")]


def begun(cli: Cli, target: ProbeTarget, script: str) -> Check:
    """Begin a check whose program writes to /tmp/begun first, and wait until it has."""
    mark = f"begun-{os.urandom(4).hex()}"
    started = begin_check(sh(f"echo > /tmp/{mark}; {script}"), target, facts_of(cli))
    assert not isinstance(started, Outcome), started
    root = Path(f"/proc/{init_of(cli, target.pod.uid).pid}/root/tmp")
    eventually((root / mark).exists)
    return started


RESULTS = {
    "success": (sh("echo fine"), Verdict.SUCCESS, "fine"),
    "both streams": (sh("echo out; echo err >&2; exit 3"), Verdict.FAILURE, "exit code 3: "),
    "silent": (ExecAction(command=("false",)), Verdict.FAILURE, "exit code 1"),
    "a signal": (sh("kill -SEGV $$$$"), Verdict.FAILURE, "exit code 139"),
    "killed": (sh("kill -KILL $$$$"), Verdict.FAILURE, "exit code 137"),
    "no program": (ExecAction(command=("nonesuch",)), Verdict.FAILURE, 'program "nonesuch" was not found'),
    "no executable": (ExecAction(command=("/etc/passwd",)), Verdict.FAILURE, "is not executable"),
    "no shell": (ExecAction(command=("echo", "$HOME", "a;b", "*")), Verdict.SUCCESS, "$HOME a;b *"),
    "user": (sh("id -u; id -g; pwd"), Verdict.SUCCESS, "33\n44\n/var"),
    "environment": (sh("echo $WHO $NESTED"), Verdict.SUCCESS, "world world!"),
    "expanded": (
        ExecAction(command=("echo", "hello $(WHO)", "$$(WHO)", "$(NONE)")),
        Verdict.SUCCESS,
        "hello world $(WHO) $(NONE)",
    ),
    "as it is written": (ExecAction(command=("echo", "$(NESTED)")), Verdict.SUCCESS, "$(WHO)!"),
    "no input": (sh("cat; echo end"), Verdict.SUCCESS, "end"),
    "no descriptors": (sh("ls /proc/self/fd"), Verdict.SUCCESS, "0\n1\n2\n3"),
    "no signals": (sh("grep -E 'SigBlk|SigIgn' /proc/self/status"), Verdict.SUCCESS, "0000000000000000"),
    "binary": (sh(r"printf '\377\000x'"), Verdict.SUCCESS, "\ufffd\0x"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results(pod: tuple[Cli, ProbeTarget], name: str) -> None:
    cli, target = pod
    action, verdict, message = RESULTS[name]
    outcome = check(cli, target, action)
    assert outcome.verdict is verdict, outcome
    assert message in outcome.message
    assert groups_in(target) == []


def test_the_beginning_of_much_output_is_kept_and_the_program_not_held_up(
    pod: tuple[Cli, ProbeTarget],
) -> None:
    cli, target = pod
    outcome = check(cli, target, sh("yes | head -c 5000000; exit 1"))
    assert outcome == Outcome(Verdict.FAILURE, "exit code 1: " + ("y\n" * 5120).strip())


def test_a_timeout_kills_children_that_have_left_the_session(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    begun_check = begun(cli, target, f"{DAEMON}; setsid setsid sleep 100000 & exec sleep 100000")
    (group,) = groups_in(target)
    eventually(lambda: len(processes_below(f"{target.leaf}/{group}")) >= 3)
    held = [syscalls.pidfd_open(pid) for pid in processes_below(f"{target.leaf}/{group}")]
    outcome = begun_check.expire()
    begun_check.close()
    assert outcome.verdict is Verdict.FAILURE
    assert outcome.message.startswith("command timed out after ")
    assert outcome.message.endswith(": started")
    assert groups_in(target) == []
    assert all(has_ended(pidfd) for pidfd in held)
    for pidfd in held:
        os.close(pidfd)


def test_a_program_that_ignores_signals_is_killed_at_the_timeout(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    outcome = check(cli, target, sh("trap '' TERM INT HUP; while :; do sleep 1; done"), seconds=0.3)
    assert outcome.verdict is Verdict.FAILURE
    assert groups_in(target) == []


def test_a_check_that_is_given_up_at_once_leaves_nothing(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    for _ in range(5):
        started = begin_check(sh("exec sleep 100000"), target, facts_of(cli))
        assert not isinstance(started, Outcome)
        started.close()
        started.close()
        assert groups_in(target) == []


def test_what_a_check_leaves_running_is_killed_and_what_a_hook_leaves_lives_on(cli: Cli) -> None:
    target = target_in(cli, cli.create(manifest(cli, box("exec sleep 100000"))))
    assert check(cli, target, sh(DAEMON)) == Outcome(Verdict.SUCCESS, "started")
    assert groups_in(target) == []
    deadline = time.monotonic_ns() + int(20e9 * SLOW)
    assert run_hook(sh(DAEMON), target, facts_of(cli), deadline) == Outcome(Verdict.SUCCESS, "started")
    (group,) = groups_in(target)
    assert len(processes_below(f"{target.leaf}/{group}")) == 1
    hook = begin_hook(sh(f"{DAEMON}; exec sleep 100000"), target, facts_of(cli))
    assert not isinstance(hook, Outcome)
    hook.expire()
    hook.close()
    assert groups_in(target) == [group]


def test_several_at_once_do_not_wait_for_each_other(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    hanging = begun(cli, target, "exec sleep 100000")
    assert check(cli, target, sh("echo quick")) == Outcome(Verdict.SUCCESS, "quick")
    assert hanging.advance() is None
    hanging.close()


def worker_of(cli: Cli) -> int:
    """Return the one child of this process."""
    return int(Path(f"/proc/self/task/{os.getpid()}/children").read_text())


def test_a_worker_that_is_killed_takes_its_program_along(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    started = begun(cli, target, f"{DAEMON}; exec sleep 100000")
    os.kill(worker_of(cli), signal.SIGKILL)
    outcome = eventually(started.advance)
    started.close()
    assert outcome == Outcome(Verdict.UNKNOWN, "the process that ran the command was killed")
    assert groups_in(target) == []


ORPHANING = """
import os, sys, time
from pyrun.runtime.probing.begin import begin_check
from pyrun.spec.probe import ExecAction
from tests.privileged.probing_kit import facts_of, target_in
from tests.e2e.conftest import Cli
from pathlib import Path
cli = Cli(Path(sys.argv[1]), Path("/"))
started = begin_check(ExecAction(command=("sh", "-c", sys.argv[3])), target_in(cli, sys.argv[2]), facts_of(cli))
print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
time.sleep(100000)
"""


@contextmanager
def orphaned(cli: Cli, target: ProbeTarget) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Give a process that has begun a check, and the pid of its worker."""
    command = [sys.executable, "-c", ORPHANING, str(cli.directory), target.pod.uid]
    with subprocess.Popen(
        [*command, f"{DAEMON}; exec sleep 100000"], stdout=subprocess.PIPE, text=True, env=cli.environment
    ) as owner:
        assert owner.stdout is not None
        worker = int(owner.stdout.readline())
        eventually(
            lambda: len([p for g in groups_in(target) for p in processes_below(f"{target.leaf}/{g}")]) >= 2
        )
        try:
            yield owner, worker
        finally:
            owner.kill()


def test_a_worker_whose_owner_is_killed_ends_the_tree(cli: Cli) -> None:
    target = target_in(cli, cli.create(manifest(cli, box("exec sleep 100000"))))
    with orphaned(cli, target) as (owner, _):
        owner.kill()
        eventually(lambda: groups_in(target) == [])


def test_what_both_leave_when_they_are_killed_goes_with_the_container(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box("exec sleep 100000")))
    target = target_in(cli, uid)
    with orphaned(cli, target) as (owner, worker):
        os.kill(owner.pid, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        owner.kill()
        (group,) = groups_in(target)
        # The program itself has died with its worker; what it had started, nobody could end.
        eventually(lambda: len(processes_below(f"{target.leaf}/{group}")) == 1)
    cli.ok("pod", "rm", "-f", uid)
    assert not os.path.exists(target.leaf)


def test_a_paused_container_is_not_judged(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box("exec sleep 100000")))
    target = target_in(cli, uid)
    running = begun(cli, target, "exec sleep 100000")
    cli.ok("pod", "pause", uid)
    paused = Outcome(Verdict.UNKNOWN, 'container "c0" is paused')
    assert check(cli, target, ExecAction(command=("true",))) == paused
    assert running.expire() == paused
    running.close()
    assert groups_in(target) == []


def test_a_container_that_has_ended_or_never_was_is_not_judged(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box("exec sleep 100000"), restartPolicy="Never"))
    target = target_in(cli, uid)
    running = begun(cli, target, "exec sleep 100000")
    os.kill(init_of(cli, uid).pid, signal.SIGKILL)
    outcome = eventually(running.advance)
    running.close()
    assert outcome == Outcome(Verdict.UNKNOWN, 'container "c0" ended meanwhile')
    gone = Outcome(Verdict.UNKNOWN, 'container "c0" does not run')
    assert check(cli, target, ExecAction(command=("true",))) == gone
    cli.ok("pod", "rm", "-f", uid)
    assert check(cli, target, ExecAction(command=("true",))) == gone


def test_containers_that_share_their_processes(cli: Cli) -> None:
    uid = cli.create(
        manifest(cli, box("exec sleep 100000"), box("exec sleep 100000", "c1"), shareProcessNamespace=True)
    )
    target = target_in(cli, uid, "c1")
    assert check(cli, target, sh("hostname; cat /proc/1/comm")).message == "test\npause"
    assert check(cli, target, sh("exec sleep 100000"), seconds=0.3).verdict is Verdict.FAILURE
    assert groups_in(target) == []


def test_a_worker_has_left_the_terminal_and_the_files_of_the_caller(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    started = begun(cli, target, "exec sleep 100000")
    worker = worker_of(cli)
    assert os.getsid(worker) == worker
    links = {os.readlink(f"/proc/{worker}/fd/{fd}") for fd in range(3)}
    own = {os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)}
    everything = {os.readlink(path) for path in Path(f"/proc/{worker}/fd").iterdir()}
    started.close()
    assert links == {"/dev/null"}
    assert not own & everything


def test_handlers_of_the_caller_do_not_run_in_the_worker(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    ran = []
    old = signal.signal(signal.SIGTERM, lambda *_: ran.append(os.getpid()))
    try:
        started = begun(cli, target, "exec sleep 100000")
        os.kill(worker_of(cli), signal.SIGTERM)  # the default action: it dies
        outcome = eventually(started.advance)
        started.close()
    finally:
        signal.signal(signal.SIGTERM, old)
    assert outcome.verdict is Verdict.UNKNOWN
    assert ran == []
    assert groups_in(target) == []
