"""The termination of a Pod and the stop of one container: order, one deadline, and whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pyrun.lifecycle.observation import Stop
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.stop import request_container_stop, request_stop
from pyrun.runtime.terminate import HookFailure, close_sandbox, stop_attempt, terminate_pod
from pyrun.spec.pod import RestartPolicy
from pyrun.spec.probe import ExecAction, Lifecycle, SleepAction
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import wait_for_output
from tests.e2e.test_attempts import start
from tests.e2e.verbs import (
    STUBBORN,
    Failed,
    box,
    call,
    facts_of,
    fork,
    latest,
    make,
    outcome_of,
    wait_until_over,
    when,
)
from tests.leaks import assert_nothing_left, snapshot

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

FOREVER = ExecAction(command=("sh", "-c", "sleep 1000 & sleep 1000"))
WELL = "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.02; done"


def told(command: str) -> Lifecycle:
    """Return a preStop hook that runs a line of shell."""
    return Lifecycle(pre_stop=ExecAction(command=("sh", "-c", command)))


def terminate(cli: Cli, pod: PodDirectory, grace: int, *, remove: bool = False) -> tuple[HookFailure, ...]:
    facts = facts_of(cli)

    def both() -> tuple[HookFailure, ...]:
        request_stop(pod, grace, "Killing", "a test", remove=remove)
        return terminate_pod(pod, facts)

    return call(both)


def stop_of(pod: PodDirectory) -> Stop:
    stop = pod.stop()
    assert stop is not None
    return stop


def exit_of(pod: PodDirectory, name: str) -> tuple[int, int]:
    ended = latest(pod, name).ended
    assert ended is not None, f"{name} has not ended"
    return ended.exit_code, ended.signal


def finished(pod: PodDirectory, name: str) -> int:
    ended = latest(pod, name).ended
    assert ended is not None, f"{name} has not ended"
    return ended.finished_ns


# One Pod to its end


def test_a_pod_that_listens_ends_well_and_keeps_its_records(cli: Cli) -> None:
    pod = make(cli, box("c0", WELL))
    wait_for_output(cli, pod.uid, "ready")
    assert terminate(cli, pod, 60) == ()
    assert exit_of(pod, "c0") == (0, 0)
    seen = observe(pod)
    assert not seen.sandbox_alive
    assert seen.stop is not None and seen.stop.signalled == ("c0",)
    assert seen.stop.deadline_ns == seen.stop.asked_ns + 60 * 10**9
    wait_for_output(cli, pod.uid, "bye")


def test_a_container_that_takes_no_notice_is_killed_at_the_deadline(cli: Cli) -> None:
    pod = make(cli, box("c0", STUBBORN))
    wait_for_output(cli, pod.uid, "ready")
    terminate(cli, pod, 1)
    assert exit_of(pod, "c0") == (137, 9)
    assert finished(pod, "c0") >= stop_of(pod).deadline_ns


def test_the_grace_is_the_pods_own_when_none_is_given(cli: Cli) -> None:
    pod = make(cli, box("c0"), termination_grace_period_seconds=77)
    request_stop(pod, None, "Killing")
    stop = stop_of(pod)
    assert (stop.grace_seconds, stop.deadline_ns - stop.asked_ns) == (77, 77 * 10**9)


def test_a_frozen_pod_is_thawed_to_be_stopped(cli: Cli) -> None:
    pod = make(cli, box("c0", WELL))
    wait_for_output(cli, pod.uid, "ready")
    cli.ok("pod", "pause", "test")
    terminate(cli, pod, 60)
    assert exit_of(pod, "c0") == (0, 0)


def test_a_stop_with_removal_leaves_nothing(cli: Cli) -> None:
    before = snapshot(cli.layout)
    pod = make(cli, box("c0", WELL), share_process_namespace=True)
    wait_for_output(cli, pod.uid, "ready")
    terminate(cli, pod, 60, remove=True)
    assert not os.path.exists(pod.path)
    assert_nothing_left(before, cli.layout)


def test_terminating_what_was_not_asked_for_is_refused(cli: Cli) -> None:
    pod, facts = make(cli, box("c0")), facts_of(cli)
    with pytest.raises(Failed, match=r"Conflict: the termination of Pod .* was not asked for"):
        call(lambda: terminate_pod(pod, facts))


# preStop


def test_pre_stop_comes_before_the_signal(cli: Cli) -> None:
    script = "trap 'cat /told; exit 0' TERM; echo ready; while true; do sleep 0.02; done"
    pod = make(cli, box("c0", script, lifecycle=told("echo was told > /told")))
    wait_for_output(cli, pod.uid, "ready")
    assert terminate(cli, pod, 60) == ()
    wait_for_output(cli, pod.uid, "was told")
    assert stop_of(pod).pre_stopped == ("c0",)


def test_a_pre_stop_that_fails_is_reported_and_stops_nothing(cli: Cli) -> None:
    pod = make(cli, box("c0", WELL, lifecycle=told("echo no; exit 3")))
    wait_for_output(cli, pod.uid, "ready")
    (failure,) = terminate(cli, pod, 60)
    assert (failure.container, failure.attempt) == ("c0", 0)
    assert "exit code 3" in failure.message and "no" in failure.message
    assert exit_of(pod, "c0") == (0, 0)


def test_a_pre_stop_that_never_ends_is_ended_with_its_children_and_the_container_has_two_seconds(
    cli: Cli,
) -> None:
    pod = make(cli, box("c0", WELL, lifecycle=Lifecycle(pre_stop=FOREVER)))
    wait_for_output(cli, pod.uid, "ready")
    (failure,) = terminate(cli, pod, 1)
    assert "timed out" in failure.message
    assert exit_of(pod, "c0") == (0, 0)
    stop = stop_of(pod)
    assert finished(pod, "c0") >= stop.deadline_ns
    assert stop.kill_ns - stop.deadline_ns == 2 * 10**9


def test_pre_stops_run_at_the_same_time(cli: Cli) -> None:
    meet = "echo x > /shared/{0}; until test -e /shared/{1}; do sleep 0.02; done"
    from pyrun.spec.pod import EmptyDir, Volume, VolumeMount

    mount = (VolumeMount(name="v", mount_path="/shared"),)
    pod = make(
        cli,
        box("a", WELL, volume_mounts=mount, lifecycle=told(meet.format("a", "b"))),
        box("b", WELL, volume_mounts=mount, lifecycle=told(meet.format("b", "a"))),
        volumes=(Volume(name="v", source=EmptyDir()),),
    )
    for name in ("a", "b"):
        wait_for_output(cli, pod.uid, "ready", name)
    assert terminate(cli, pod, 60) == ()


def test_grace_zero_runs_no_pre_stop_and_sends_no_signal(cli: Cli) -> None:
    pod = make(cli, box("c0", WELL, lifecycle=told("echo told > /dev/termination-log")))
    wait_for_output(cli, pod.uid, "ready")
    terminate(cli, pod, 0)
    assert exit_of(pod, "c0") == (137, 9)
    ended = latest(pod, "c0").ended
    assert ended is not None and ended.message == ""


def test_a_sleep_is_a_pre_stop_too(cli: Cli) -> None:
    pod = make(cli, box("c0", WELL, lifecycle=Lifecycle(pre_stop=SleepAction(seconds=1))))
    wait_for_output(cli, pod.uid, "ready")
    assert terminate(cli, pod, 60) == ()
    assert finished(pod, "c0") >= stop_of(pod).asked_ns + 10**9


# Order


def test_sidecars_go_last_and_in_reverse_order(cli: Cli) -> None:
    sidecars = tuple(box(name, WELL, restart_policy=RestartPolicy.ALWAYS) for name in ("one", "two"))
    pod = make(cli, box("app", WELL), init=sidecars)
    for name in ("one", "two", "app"):
        start(cli, pod, name, 0)
        wait_for_output(cli, pod.uid, "ready", name)
    terminate(cli, pod, 60)
    assert finished(pod, "app") < finished(pod, "two") < finished(pod, "one")
    assert stop_of(pod).signalled == ("app", "two", "one")


def test_a_pod_that_is_over_has_its_sidecars_closed_in_reverse_order(cli: Cli) -> None:
    sidecars = tuple(box(name, WELL, restart_policy=RestartPolicy.ALWAYS) for name in ("one", "two"))
    pod = make(cli, box("app", "exit 0"), init=sidecars, restart_policy=RestartPolicy.NEVER)
    for name in ("one", "two", "app"):
        start(cli, pod, name, 0)
    for name in ("one", "two"):
        wait_for_output(cli, pod.uid, "ready", name)
    wait_until_over(pod, "app")
    facts = facts_of(cli)
    assert call(lambda: close_sandbox(pod, facts)) == ()
    assert finished(pod, "two") < finished(pod, "one")
    assert exit_of(pod, "one") == exit_of(pod, "two") == (0, 0)
    assert pod.stop() is None and observe(pod).sandbox_alive


def test_in_a_shared_pid_namespace_nothing_is_left_when_the_end_is_reported(cli: Cli) -> None:
    orphan = "(trap '' TERM HUP; while true; do sleep 0.02; done) & " + WELL
    pod = make(cli, box("c0", orphan), box("c1"), share_process_namespace=True)
    wait_for_output(cli, pod.uid, "ready")
    sandbox = pod.sandbox()
    assert sandbox is not None
    group = Path(f"{sandbox.facts.cgroup}/ctr-c0")
    assert len((group / "cgroup.procs").read_text().split()) >= 2
    request_container_stop(pod, ("c0", 0), 60, "Unhealthy")
    facts = facts_of(cli)
    call(lambda: stop_attempt(pod, ("c0", 0), facts))
    assert exit_of(pod, "c0") == (0, 0)
    assert (group / "cgroup.procs").read_text() == ""
    assert latest(pod, "c1").ended is None


# Whoever does it may be killed, and others may ask for more


def begin(cli: Cli, pod: PodDirectory) -> tuple[int, int]:
    """Begin to carry out a termination in a fork."""
    facts = facts_of(cli)
    return fork(lambda: terminate_pod(pod, facts))


def test_a_termination_goes_on_to_the_same_deadline_when_it_was_killed(cli: Cli) -> None:
    pod = make(cli, box("c0", STUBBORN, lifecycle=told("true")))
    wait_for_output(cli, pod.uid, "ready")
    request_stop(pod, 4, "Killing")
    asked = stop_of(pod)
    pid, reader = begin(cli, pod)
    eventually(lambda: stop_of(pod).signalled == ("c0",))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Failed, match="killed"):
        outcome_of(pid, reader)
    assert latest(pod, "c0").ended is None
    between = stop_of(pod)
    assert (between.deadline_ns, between.pre_stopped) == (asked.deadline_ns, ("c0",))
    assert outcome_of(*begin(cli, pod)) == ()
    assert stop_of(pod).deadline_ns == asked.deadline_ns
    assert exit_of(pod, "c0") == (137, 9)
    assert finished(pod, "c0") >= asked.deadline_ns


def test_a_pre_stop_whose_runner_was_killed_is_run_again(cli: Cli) -> None:
    once = "echo run >> /runs; test $(wc -l < /runs) -gt 1 || sleep 1000"
    script = "trap 'cat /runs; exit 0' TERM; echo ready; while true; do sleep 0.02; done"
    pod = make(cli, box("c0", script, lifecycle=told(once)))
    wait_for_output(cli, pod.uid, "ready")
    request_stop(pod, 60, "Killing")
    pid, reader = begin(cli, pod)
    runs = Path(cli.layout.container_root(pod.uid, "c0", 0)) / "upper" / "runs"
    eventually(lambda: runs.exists() and runs.read_text() == "run\n")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Failed, match="killed"):
        outcome_of(pid, reader)
    assert stop_of(pod).pre_stopped == ()
    assert outcome_of(*begin(cli, pod)) == ()
    wait_for_output(cli, pod.uid, "run\nrun\n")


def test_a_second_request_makes_the_deadline_only_earlier(cli: Cli) -> None:
    pod = make(cli, box("c0"))
    first = request_stop(pod, 30, "Killing", "first")
    later = request_stop(pod, 300, "Other", "second")
    assert later == first
    sooner = request_stop(pod, 5, "Other", "third", remove=True)
    assert sooner.deadline_ns < first.deadline_ns
    assert (sooner.reason, sooner.message, sooner.grace_seconds, sooner.remove) == (
        "Killing",
        "first",
        5,
        True,
    )
    assert request_stop(pod, 3, "Killing").remove


def test_a_shorter_grace_is_noticed_by_who_waits_for_the_longer_one(cli: Cli) -> None:
    pod = make(cli, box("c0", STUBBORN))
    wait_for_output(cli, pod.uid, "ready")
    request_stop(pod, 1000, "Killing")
    pid, reader = begin(cli, pod)
    eventually(lambda: stop_of(pod).signalled == ("c0",))
    began = time.monotonic()
    cli.ok("pod", "stop", "--time=0", "test")
    outcome_of(pid, reader)
    assert time.monotonic() - began < 300 * SLOW
    assert exit_of(pod, "c0") == (137, 9)


def test_a_pod_that_is_being_stopped_is_removed_by_force(cli: Cli) -> None:
    before = snapshot(cli.layout)
    pod = make(cli, box("c0", STUBBORN, lifecycle=Lifecycle(pre_stop=FOREVER)))
    wait_for_output(cli, pod.uid, "ready")
    request_stop(pod, 1000, "Killing")
    pid, reader = begin(cli, pod)
    leaf = Path(str(pod.sandbox().facts.cgroup)) / "ctr-c0"  # type: ignore[union-attr]
    eventually(lambda: any(entry.name.startswith("exec-") for entry in leaf.iterdir()))
    cli.run("pod", "rm", "--force", "test")
    outcome_of(pid, reader)
    assert not os.path.exists(pod.path)
    assert_nothing_left(before, cli.layout)


# One container


def test_the_stop_of_a_container_leaves_the_others(cli: Cli) -> None:
    pod, facts = make(cli, box("a", WELL), box("b")), facts_of(cli)
    wait_for_output(cli, pod.uid, "ready", "a")
    request_container_stop(pod, ("a", 0), 60, "Unhealthy", "Container a failed liveness probe")
    assert latest(pod, "a").stop is not None
    call(lambda: stop_attempt(pod, ("a", 0), facts))
    assert exit_of(pod, "a") == (0, 0)
    assert latest(pod, "b").ended is None
    start(cli, pod, "a", 1)
    assert latest(pod, "a").stop is None


def test_the_pods_lock_is_free_while_a_container_is_being_stopped(cli: Cli) -> None:
    pod, facts = make(cli, box("a", STUBBORN), box("b", "exit 1")), facts_of(cli)
    wait_for_output(cli, pod.uid, "ready", "a")
    wait_until_over(pod, "b")
    request_container_stop(pod, ("a", 0), 1000, "Unhealthy")
    pid, reader = fork(lambda: stop_attempt(pod, ("a", 0), facts))
    when(pod, lambda seen: seen.container("a").latest.stop.signalled == ("a",))
    start(cli, pod, "b", 1)
    request_container_stop(pod, ("a", 0), 0, "Unhealthy")
    outcome_of(pid, reader)
    assert exit_of(pod, "a") == (137, 9)


def test_the_stop_of_a_container_gives_way_to_the_termination_of_its_pod(cli: Cli) -> None:
    pod, facts = make(cli, box("a", STUBBORN)), facts_of(cli)
    wait_for_output(cli, pod.uid, "ready", "a")
    request_container_stop(pod, ("a", 0), 1000, "Unhealthy")
    pid, reader = fork(lambda: stop_attempt(pod, ("a", 0), facts))
    when(pod, lambda seen: seen.container("a").latest.stop.signalled == ("a",))
    stop = request_stop(pod, 1, "Killing")
    assert stop.signalled == ("a",)
    outcome_of(pid, reader)
    assert latest(pod, "a").ended is None
    call(lambda: terminate_pod(pod, facts))
    assert exit_of(pod, "a") == (137, 9)


def test_many_who_ask_at_the_same_time_lose_nothing(cli: Cli) -> None:
    pod = make(cli, box("c0"))
    graces = list(range(20, 120, 5))
    threads = [threading.Thread(target=request_stop, args=(pod, grace, "Killing")) for grace in graces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stop_of(pod).grace_seconds == min(graces)


def test_a_pod_of_another_boot_is_removed(cli: Cli) -> None:
    before = snapshot(cli.layout)
    pod = make(cli, box("c0"), box("c1"))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for record in Path(pod.path).rglob("*.json"):
        record.write_text(record.read_text().replace(boot, "00000000-0000-0000-0000-000000000000"))
    assert not observe(pod).sandbox_alive
    cli.ok("pod", "rm", "test")
    assert_nothing_left(before, cli.layout)
