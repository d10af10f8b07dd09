"""Hooks of a container: postStart with its record, and one hook of each kind with its deadline."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pyrun.lifecycle.observation import HookState
from pyrun.runtime.attempts import leaf_of
from pyrun.runtime.hooks import HookResult, run_hook, run_post_start
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.stop import request_stop
from pyrun.runtime.terminate import HookFailure, run_post_starts, terminate_pod
from pyrun.spec.probe import ExecAction, HookAction, HttpGetAction, Lifecycle, SleepAction
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import wait_for_output
from tests.e2e.verbs import SLEEP, box, call, facts_of, fork, latest, make, outcome_of, wait_until_over

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

FAR = 60 * 10**9
SERVER = "mkdir /www; echo hello > /www/ok; httpd -p 8080 -h /www; echo ready; exec sleep 1000"


def shell(line: str) -> ExecAction:
    return ExecAction(command=("sh", "-c", line))


def run(cli: Cli, pod: PodDirectory, action: HookAction, nanoseconds: int = FAR) -> HookResult:
    """Run a hook of container c0."""
    facts = facts_of(cli)
    return call(lambda: run_hook(pod, ("c0", 0), action, facts, time.monotonic_ns() + nanoseconds))


def with_hook(cli: Cli, action: HookAction, script: str = SLEEP) -> PodDirectory:
    """Create a Pod whose container c0 has a postStart hook."""
    return make(cli, box("c0", script, lifecycle=Lifecycle(post_start=action)))


def post_start(cli: Cli, pod: PodDirectory) -> HookResult:
    facts = facts_of(cli)
    return call(lambda: run_post_start(pod, ("c0", 0), facts))


# Kinds


def test_a_program(cli: Cli) -> None:
    pod = make(cli, box("c0"))
    assert run(cli, pod, shell("echo done")) == HookResult(True, "done")
    failed = run(cli, pod, shell("echo no; exit 3"))
    assert not failed.ok and "exit code 3: no" in failed.message
    missing = run(cli, pod, ExecAction(command=("/nothing",)))
    assert not missing.ok and "/nothing" in missing.message


def test_a_request(cli: Cli) -> None:
    pod = make(cli, box("c0", SERVER))
    wait_for_output(cli, pod.uid, "ready")
    assert run(cli, pod, HttpGetAction(port=8080, path="/ok")).ok
    failed = run(cli, pod, HttpGetAction(port=8080, path="/none"))
    assert not failed.ok and "404" in failed.message
    assert not run(cli, pod, HttpGetAction(port=8081)).ok


def test_a_sleep(cli: Cli) -> None:
    pod = make(cli, box("c0"))
    began = time.monotonic()
    assert run(cli, pod, SleepAction(seconds=1)).ok
    assert time.monotonic() - began >= 1
    assert run(cli, pod, SleepAction(seconds=0)).ok
    assert run(cli, pod, SleepAction(seconds=1000), 10**8) == HookResult(False, "the sleep was cut short")


def test_at_the_deadline_a_program_is_ended_with_its_children(cli: Cli) -> None:
    pod = make(cli, box("c0"))
    result = run(cli, pod, shell("(setsid sleep 1000) & sleep 1000"), 10**9)
    assert not result.ok and "timed out" in result.message
    leaf = Path(leaf_of(pod, "c0"))
    assert [entry for entry in leaf.iterdir() if entry.is_dir()] == []
    assert len((leaf / "cgroup.procs").read_text().split()) == 1


def test_what_a_program_leaves_running_lives_on_when_it_ends_in_time(cli: Cli) -> None:
    pod = make(cli, box("c0"))
    assert run(cli, pod, shell("sleep 1000 > /dev/null 2>&1 &")).ok
    groups = [entry for entry in Path(leaf_of(pod, "c0")).iterdir() if entry.is_dir()]
    assert [len((group / "cgroup.procs").read_text().split()) for group in groups] == [1]


# postStart


def test_a_container_is_not_ready_before_its_post_start_is_done(cli: Cli) -> None:
    pod = with_hook(cli, shell("echo hooked > /proc/1/fd/1"))
    before = latest(pod, "c0")
    assert (before.post_start, before.started, before.ready) == (HookState.PENDING, False, False)
    assert cli.inspect("test")["status"]["phase"] == "Pending"
    assert post_start(cli, pod).ok
    after = latest(pod, "c0")
    assert (after.post_start, after.started, after.ready) == (HookState.DONE, True, True)
    assert cli.inspect("test")["status"]["phase"] == "Running"


def test_a_post_start_is_run_once(cli: Cli) -> None:
    pod = with_hook(cli, shell("echo x >> /runs"))
    assert post_start(cli, pod).ok
    assert post_start(cli, pod).ok
    runs = Path(cli.layout.container_root(pod.uid, "c0", 0)) / "upper" / "runs"
    assert runs.read_text() == "x\n"


def test_a_post_start_that_fails_is_recorded(cli: Cli) -> None:
    pod = with_hook(cli, shell("echo because; exit 2"))
    for _ in range(2):
        result = post_start(cli, pod)
        assert not result.ok and "because" in result.message
    attempt = latest(pod, "c0")
    assert attempt.post_start is HookState.FAILED
    assert "because" in attempt.post_start_message
    assert attempt.ended is None and not attempt.ready


@pytest.mark.parametrize("hook", [shell("sleep 1000"), SleepAction(seconds=1000)], ids=["exec", "sleep"])
def test_a_post_start_that_never_ends_ends_with_its_container(cli: Cli, hook: HookAction) -> None:
    pod = with_hook(cli, hook)
    facts = facts_of(cli)
    pid, reader = fork(lambda: run_post_start(pod, ("c0", 0), facts))
    cli.ok("pod", "kill", "test")
    assert not outcome_of(pid, reader).ok
    wait_until_over(pod, "c0")


def test_a_post_start_that_never_ends_does_not_hold_up_the_termination(cli: Cli) -> None:
    pod = with_hook(cli, shell("sleep 1000"), "trap 'exit 0' TERM; while true; do sleep 0.02; done")
    facts = facts_of(cli)
    pid, reader = fork(lambda: run_post_start(pod, ("c0", 0), facts))
    leaf = Path(leaf_of(pod, "c0"))
    eventually(lambda: any(entry.is_dir() for entry in leaf.iterdir()))
    request_stop(pod, 60, "Killing")
    assert call(lambda: terminate_pod(pod, facts)) == ()
    assert not outcome_of(pid, reader).ok
    ended = latest(pod, "c0").ended
    assert ended is not None and ended.exit_code == 0


def test_who_makes_a_pod_may_run_its_hooks_and_a_failure_stops_the_container(cli: Cli) -> None:
    pod = make(
        cli,
        box("good", lifecycle=Lifecycle(post_start=shell("true"))),
        box("bad", lifecycle=Lifecycle(post_start=shell("echo because; exit 2"))),
        box("plain"),
        termination_grace_period_seconds=0,
    )
    facts = facts_of(cli)
    (failure,) = call(lambda: run_post_starts(pod, facts))
    assert isinstance(failure, HookFailure)
    assert (failure.container, failure.attempt) == ("bad", 0) and "because" in failure.message
    seen = observe(pod)
    assert [c.name for c in seen.containers if c.latest is not None and c.latest.ended is None] == [
        "good",
        "plain",
    ]
    stop = latest(pod, "bad").stop
    assert stop is not None and stop.reason == "FailedPostStartHook"
