"""Attempts of containers: started, closed, pruned; what a failure and a crash between two steps leave."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pyrun.cgroups import group
from pyrun.lifecycle.observation import AttemptState, HookState, Stop
from pyrun.runtime.attempts import close_attempt, leaf_of, mark_initialized, restart_all, start_attempt
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory, pod_lock
from pyrun.spec.pod import Container, EnvVar, OwnerReference
from pyrun.spec.probe import ExecAction, Lifecycle, Probe
from pyrun.state.records import ProbeRecord, write_record
from tests.e2e.conftest import Cli, eventually
from tests.e2e.verbs import SLEEP, Failed, box, call, facts_of, latest, make, pod_of, wait_until_over, when

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")


def start(cli: Cli, pod: PodDirectory, name: str, attempt: int, crashes: int = 0) -> None:
    facts = facts_of(cli)
    call(lambda: start_attempt(pod, name, attempt, crashes, facts))


def close(pod: PodDirectory, name: str, attempt: int) -> None:
    def under_the_lock() -> None:
        with pod_lock(pod):
            close_attempt(pod, (name, attempt))

    call(under_the_lock)


# What is observed


def test_a_running_container_is_observed(cli: Cli) -> None:
    pod = make(cli, box("a"))
    seen = observe(pod)
    assert (seen.uid, seen.sandbox_alive, seen.sandbox_attempt, seen.initialized) == (pod.uid, True, 0, True)
    assert seen.created_ns > 0 and seen.address.startswith("10.")
    attempt = latest(pod, "a")
    assert (attempt.attempt, attempt.state, attempt.started, attempt.ready) == (
        0,
        AttemptState.RUNNING,
        True,
        True,
    )
    assert attempt.started_ns > seen.created_ns
    assert seen.container("a").previous is None


def test_an_end_is_observed_with_its_time(cli: Cli) -> None:
    pod = make(cli, box("a", "exit 3"))
    attempt = wait_until_over(pod, "a")
    assert attempt.state is AttemptState.STOPPED
    assert attempt.ended is not None
    assert (attempt.ended.exit_code, attempt.ended.signal, attempt.ended.lost) == (3, 0, False)
    assert attempt.ended.finished_ns >= attempt.started_ns
    assert not attempt.started and not attempt.ready


def test_the_end_of_a_container_whose_monitor_was_killed_has_one_time(cli: Cli) -> None:
    pod = make(cli, box("a"))
    record = pod.container(("a", 0))
    assert record is not None
    os.kill(record.monitor.pid, signal.SIGKILL)
    first = wait_until_over(pod, "a").ended
    assert first is not None and (first.exit_code, first.lost) == (255, True)
    assert latest(pod, "a").ended == first


@pytest.mark.parametrize(
    ("probe", "found", "expected"),
    [
        ("startup_probe", None, (False, False)),
        ("startup_probe", ProbeRecord(started=True), (True, True)),
        ("readiness_probe", None, (True, False)),
        ("readiness_probe", ProbeRecord(ready=True), (True, True)),
        ("liveness_probe", None, (True, True)),
    ],
)
def test_without_a_verdict_a_probe_has_not_passed(
    cli: Cli, probe: str, found: ProbeRecord | None, expected: tuple[bool, bool]
) -> None:
    pod = make(cli, box("a", **{probe: Probe(action=ExecAction(command=("true",)))}))
    if found is not None:
        write_record(f"{pod.container_directory(('a', 0))}/probes.json", found)
    attempt = latest(pod, "a")
    assert (attempt.started, attempt.ready) == expected


def test_a_paused_container_is_observed(cli: Cli) -> None:
    pod = make(cli, box("a"))
    cli.ok("pod", "pause", "test")
    assert latest(pod, "a").paused
    cli.ok("pod", "unpause", "test")
    assert not latest(pod, "a").paused


# The next attempt


def test_the_next_attempt_runs_after_the_one_before_is_closed(cli: Cli) -> None:
    pod = make(cli, box("a", "touch /mine; exit 3"))
    wait_until_over(pod, "a")
    start(cli, pod, "a", 1, crashes=1)
    seen = when(pod, lambda seen: seen.container("a").latest.ended is not None)
    container = seen.container("a")
    assert container.latest is not None and container.previous is not None
    assert (container.latest.attempt, container.latest.crashes) == (1, 1)
    assert container.previous.ended is not None and container.previous.ended.exit_code == 3
    assert not os.path.exists(cli.layout.container_root(pod.uid, "a", 0))
    assert not os.path.exists(f"{pod.container_directory(('a', 0))}/journal")
    assert Path(f"{cli.layout.logs(pod.uid, 'a')}/0.log").exists()


def test_a_writable_layer_is_new_for_every_attempt(cli: Cli) -> None:
    pod = make(cli, box("a", "test -e /mine && exit 9; touch /mine; exit 3"))
    wait_until_over(pod, "a")
    start(cli, pod, "a", 1)
    ended = wait_until_over(pod, "a").ended
    assert ended is not None and ended.exit_code == 3


def test_attempts_before_the_previous_one_are_pruned_with_their_logs(cli: Cli) -> None:
    pod = make(cli, box("a", "echo text; exit 1"))
    for attempt in range(1, 4):
        wait_until_over(pod, "a")
        Path(f"{cli.layout.logs(pod.uid, 'a')}/{attempt - 1}.log.1").touch()
        start(cli, pod, "a", attempt)
    assert pod.attempts() == (("a", 2), ("a", 3))
    wait_until_over(pod, "a")
    assert sorted(os.listdir(cli.layout.logs(pod.uid, "a"))) == ["2.log", "2.log.1", "3.log"]


def test_an_attempt_that_runs_is_started_once(cli: Cli) -> None:
    pod = make(cli, box("a"))
    before = pod.container(("a", 0))
    start(cli, pod, "a", 0)
    assert pod.container(("a", 0)) == before
    with pytest.raises(Failed, match='Conflict: attempt 0 of container "a" is not over'):
        start(cli, pod, "a", 1)
    assert latest(pod, "a").state is AttemptState.RUNNING


def test_an_attempt_that_is_over_is_not_started_again(cli: Cli) -> None:
    pod = make(cli, box("a", "exit 0"))
    wait_until_over(pod, "a")
    with pytest.raises(Failed, match='Conflict: attempt 0 of container "a" is over'):
        start(cli, pod, "a", 0)


def test_nothing_is_started_in_a_pod_that_is_stopped(cli: Cli) -> None:
    pod = make(cli, box("a", "exit 1"))
    wait_until_over(pod, "a")
    write_record(pod.stop_path, Stop(asked_ns=1, deadline_ns=2, grace_seconds=0, reason="Killing"))
    with pytest.raises(Failed, match=r"Conflict: Pod test is being stopped"):
        start(cli, pod, "a", 1)
    assert pod.attempts() == (("a", 0),)


# What a crash leaves


def test_an_attempt_left_half_made_is_made_again(cli: Cli) -> None:
    pod = make(cli, box("a", "exit 1"))
    wait_until_over(pod, "a")
    close(pod, "a", 0)  # and here the one who did it was killed, or a moment later:
    os.makedirs(pod.container_directory(("a", 1)))
    assert latest(pod, "a").attempt == 0
    start(cli, pod, "a", 1)
    assert latest(pod, "a").attempt == 1


def test_a_start_whose_record_was_lost_is_found_to_have_happened(cli: Cli) -> None:
    import msgspec

    pod = make(cli, box("a"))
    record = pod.container(("a", 0))
    assert record is not None
    lost = msgspec.structs.replace(record, started_at="", started_ns=0)
    write_record(f"{pod.container_directory(('a', 0))}/container.json", lost)
    assert latest(pod, "a").state is AttemptState.CREATED
    start(cli, pod, "a", 0)
    attempt = latest(pod, "a")
    assert attempt.state is AttemptState.RUNNING and attempt.started_ns > 0
    assert record.init.alive()


def test_closing_twice_keeps_what_is_known(cli: Cli) -> None:
    pod = make(cli, box("a", "echo last words > /dev/termination-log; exit 2"))
    wait_until_over(pod, "a")
    for _ in range(2):
        close(pod, "a", 0)
        ended = latest(pod, "a").ended
        assert ended is not None and (ended.exit_code, ended.message) == (2, "last words\n")


def test_an_init_container_is_started_by_hand_and_gets_the_postStart_hook_announced(cli: Cli) -> None:
    hook = Lifecycle(post_start=ExecAction(command=("true",)))
    pod = make(cli, box("app", lifecycle=hook), init=(box("first", "exit 0"),))
    seen = observe(pod)
    assert pod.complete and not seen.initialized and seen.sandbox_alive
    assert seen.container("first").latest is None and seen.container("app").latest is None
    start(cli, pod, "first", 0)
    wait_until_over(pod, "first")
    call(lambda: mark_initialized(pod))
    start(cli, pod, "app", 0)
    assert observe(pod).initialized
    attempt = latest(pod, "app")
    assert (attempt.post_start, attempt.started, attempt.ready) == (HookState.PENDING, False, False)


# Failures


@pytest.mark.parametrize(
    ("container", "reason", "words"),
    [
        (box("b"), "ErrImageNeverPull", "imagePullPolicy is Never"),
        (box("b", image="BAD NAME"), "InvalidImageName", "BAD NAME"),
    ],
)
def test_an_image_that_is_not_there(cli: Cli, container: Container, reason: str, words: str) -> None:
    import msgspec

    pod = make(cli, box("a"))
    record = pod.record()
    assert record is not None  # a Pod whose image was there when it was made, and is not any more
    spec = msgspec.structs.replace(record.pod.spec, containers=(*record.pod.spec.containers, container))
    changed = msgspec.structs.replace(record, pod=msgspec.structs.replace(record.pod, spec=spec))
    write_record(f"{pod.path}/pod.json", changed)
    for count in (1, 2):
        with pytest.raises(Failed, match=words):
            start(cli, pod, "b", 0)
        failure = observe(pod).container("b").failure
        assert failure is not None
        assert (failure.reason, failure.count) == (reason, count)
        assert words in failure.message and failure.at_ns > 0


def test_a_program_that_cannot_be_executed_leaves_no_attempt(cli: Cli) -> None:
    pod = make(
        cli,
        box("app"),
        init=(box("i", command=("/no",)),),
    )
    with pytest.raises(Failed, match="ProgramNotFound"):
        start(cli, pod, "i", 0)
    seen = observe(pod).container("i")
    assert seen.latest is None and seen.failure is not None
    assert (seen.failure.reason, seen.failure.count) == ("RunContainerError", 1)
    assert not os.path.exists(leaf_of(pod, "i"))
    assert os.listdir(cli.layout.logs(pod.uid, "i")) == []
    assert not os.path.exists(cli.layout.container_root(pod.uid, "i", 0))


def test_a_missing_root_is_an_error_of_the_configuration_and_success_clears_it(cli: Cli) -> None:
    pod = make(cli, box("app"), init=(box("i", SLEEP),))
    hidden = cli.rootfs.with_name("hidden")
    cli.rootfs.rename(hidden)
    try:
        with pytest.raises(Failed, match="is not a directory"):
            start(cli, pod, "i", 0)
    finally:
        hidden.rename(cli.rootfs)
    failure = observe(pod).container("i").failure
    assert failure is not None and failure.reason == "CreateContainerConfigError"
    start(cli, pod, "i", 0)
    assert observe(pod).container("i").failure is None


# All at once, and what is left behind


def test_restarting_all_closes_all_and_keeps_the_sandbox(cli: Cli) -> None:
    pod = make(cli, box("a"), box("b", "exit 7"))
    wait_until_over(pod, "b")
    before = pod.sandbox()
    call(lambda: restart_all(pod))
    seen = observe(pod)
    assert seen.restarting and not seen.initialized and seen.sandbox_alive
    assert [c.latest.ended.exit_code for c in seen.containers if c.latest and c.latest.ended] == [137, 7]
    after = pod.sandbox()
    assert before is not None and after is not None and after.pause == before.pause
    for name in ("a", "b"):
        start(cli, pod, name, 1)
    call(lambda: mark_initialized(pod))
    seen = observe(pod)
    assert seen.initialized and not seen.restarting


def test_an_end_is_observed_only_when_nothing_of_the_container_is_left(cli: Cli) -> None:
    script = "(trap '' TERM HUP; while true; do sleep 0.01; done) & (setsid sleep 1000) & exit 4"
    for _ in range(5):
        pod = make(cli, box("a", script), share_process_namespace=True)
        leaf = leaf_of(pod, "a")
        wait_until_over(pod, "a")
        assert not group.is_populated(leaf)
        cli.ok("pod", "rm", "-f", "test")


def test_an_exit_record_waits_for_the_last_process_of_the_leaf(cli: Cli) -> None:
    """The record itself is late enough, so that whoever watches for it need not look again."""
    for _ in range(10):
        pod = make(
            cli,
            box("a", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; exit 4"),
            share_process_namespace=True,
        )
        exit_record = Path(pod.container_directory(("a", 0))) / "exit.json"
        leaf = leaf_of(pod, "a")
        eventually(exit_record.exists)
        assert not group.is_populated(leaf)
        cli.ok("pod", "rm", "-f", "test")


def test_a_container_is_told_of_its_pod_in_every_attempt(cli: Cli) -> None:
    fields = ("metadata.uid", "status.podIP", "metadata.name")
    env = tuple(EnvVar(name=f"F{i}", field_path=path) for i, path in enumerate(fields))
    pod = make(cli, box("a", "echo told $F0 $F1 $F2; exit 1", env=env))
    sandbox = pod.sandbox()
    assert sandbox is not None
    wait_until_over(pod, "a")
    start(cli, pod, "a", 1)
    wait_until_over(pod, "a")
    for attempt in range(2):
        log = (Path(cli.layout.logs(pod.uid, "a")) / f"{attempt}.log").read_text()
        assert f"told {pod.uid} {sandbox.address} test\n" in log


def test_a_pod_may_be_given_its_uid_and_its_owner(cli: Cli) -> None:
    import msgspec

    from pyrun.runtime.create import create_pod

    facts, pod = facts_of(cli), pod_of(cli, box("a"))
    owner = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web", uid="u", controller=True)
    metadata = msgspec.structs.replace(pod.metadata, owner_references=(owner,))
    owned = msgspec.structs.replace(pod, metadata=metadata)
    uid = "11111111-2222-3333-4444-555555555555"
    call(lambda: create_pod(owned, facts, uid=uid).uid)
    record = PodDirectory(cli.layout, uid).record()
    assert record is not None
    assert (record.uid, record.pod.metadata.owner_references) == (uid, (owner,))
