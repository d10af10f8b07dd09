"""A Pod whose pause process has died gets a new sandbox; what outlives a sandbox stays as it is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pyrun.kernel.proc import has_ended
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.sandboxes import rebuild_sandbox
from pyrun.runtime.stop import request_stop
from pyrun.spec.pod import EmptyDir, Volume, VolumeMount
from pyrun.state.records import SandboxRecord
from tests.e2e.conftest import SLOW, Cli
from tests.e2e.observe import wait_for_output
from tests.e2e.test_attempts import start
from tests.e2e.verbs import Failed, box, call, facts_of, latest, make, wait_until_over, when
from tests.leaks import assert_nothing_left, snapshot

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")


def sandbox_of(pod: PodDirectory) -> SandboxRecord:
    sandbox = pod.sandbox()
    assert sandbox is not None
    return sandbox


def kill_pause(pod: PodDirectory) -> None:
    pause = sandbox_of(pod).pause
    pidfd = pause.open()
    assert pidfd is not None
    os.kill(pause.pid, signal.SIGKILL)
    assert has_ended(pidfd, 10 * SLOW)
    os.close(pidfd)


def rebuild(cli: Cli, pod: PodDirectory) -> None:
    facts = facts_of(cli)
    call(lambda: rebuild_sandbox(pod, facts))


def test_containers_with_a_pid_namespace_of_their_own_run_on_until_the_sandbox_is_rebuilt(cli: Cli) -> None:
    pod = make(cli, box("a"))
    kill_pause(pod)
    seen = observe(pod)
    assert not seen.sandbox_alive
    assert latest(pod, "a").ended is None
    rebuild(cli, pod)
    ended = latest(pod, "a").ended
    assert ended is not None and (ended.exit_code, ended.signal) == (137, 9)


def test_a_new_sandbox_has_the_same_pod_around_it(cli: Cli) -> None:
    before = snapshot(cli.layout)
    mount = (VolumeMount(name="v", mount_path="/v"),)
    script = "cat /v/count; echo x >> /v/count; echo ready; exec sleep 1000"
    pod = make(
        cli,
        box("a", script, volume_mounts=mount),
        volumes=(Volume(name="v", source=EmptyDir()),),
        share_process_namespace=True,
    )
    wait_for_output(cli, pod.uid, "ready", "a")
    old = sandbox_of(pod)
    kill_pause(pod)
    wait_until_over(pod, "a")  # they share its PID namespace
    rebuild(cli, pod)
    new = sandbox_of(pod)
    assert new.pause != old.pause and new.pause.alive()
    assert (new.attempt, new.uid, new.facts) == (1, old.uid, old.facts)
    seen = observe(pod)
    assert seen.sandbox_alive and seen.sandbox_attempt == 1 and seen.sandbox_ns > old.created_ns
    start(cli, pod, "a", 1)
    log = Path(cli.layout.logs(pod.uid, "a")) / "1.log"
    when(pod, lambda _: log.exists() and "ready" in log.read_text())
    assert log.read_text().splitlines()[0].endswith(" x")
    assert (log.parent / "0.log").exists()
    assert cli.ok("exec", "test", "--", "cat", "/etc/hostname") == "test\n"
    assert f"{new.address}/" in cli.ok("exec", "test", "--", "ip", "addr", "show", "eth0")
    cli.ok("pod", "rm", "-f", "test")
    assert_nothing_left(before, cli.layout)


def test_a_sandbox_that_lives_is_left_alone(cli: Cli) -> None:
    pod = make(cli, box("a"))
    before = sandbox_of(pod)
    rebuild(cli, pod)
    assert sandbox_of(pod) == before
    assert latest(pod, "a").ended is None


def test_init_containers_are_to_run_again(cli: Cli) -> None:
    pod = make(cli, box("a"), init=(box("i", "exit 0"),))
    kill_pause(pod)
    rebuild(cli, pod)
    assert not observe(pod).initialized


def test_nothing_starts_in_a_dead_sandbox(cli: Cli) -> None:
    pod = make(cli, box("a", "exit 1"))
    wait_until_over(pod, "a")
    kill_pause(pod)
    with pytest.raises(Failed, match="Conflict: the sandbox of Pod test is gone"):
        start(cli, pod, "a", 1)


def test_a_pod_that_is_being_stopped_gets_none(cli: Cli) -> None:
    pod = make(cli, box("a"))
    kill_pause(pod)
    request_stop(pod, 0, "Killing")
    with pytest.raises(Failed, match="Conflict: Pod test is being stopped"):
        rebuild(cli, pod)


def test_a_rebuild_that_was_killed_in_the_middle_is_begun_again(cli: Cli) -> None:
    before = snapshot(cli.layout)
    pod = make(cli, box("a"))
    facts = facts_of(cli)
    kill_pause(pod)

    def half() -> None:
        from pyrun.runtime import making

        def stop_here(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        making.write_record = stop_here
        rebuild_sandbox(pod, facts)

    with pytest.raises(Failed, match="killed"):
        call(half)
    assert not observe(pod).sandbox_alive
    rebuild(cli, pod)
    assert observe(pod).sandbox_alive
    start(cli, pod, "a", 1)
    assert latest(pod, "a").ended is None
    cli.ok("pod", "rm", "-f", "test")
    assert_nothing_left(before, cli.layout)
