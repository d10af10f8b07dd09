"""Whoever starts, closes or restarts containers may be killed at any moment; the next one who does it succeeds.

The verb runs in a fork that kills itself at one chosen moment: before or after an operation, or when one of the
steps of a child is reported. Then it is called again, and then the Pod is removed and the host is as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pyrun.kernel.operation import Results
from pyrun.lifecycle.observation import AttemptState
from pyrun.runtime import attempts, sandboxes
from pyrun.runtime.attempts import start_attempt
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory
from tests.e2e.conftest import Cli
from tests.e2e.test_kill_everywhere import IN_COMMAND, Executioner
from tests.e2e.test_rebuild import kill_pause, rebuild
from tests.e2e.verbs import Failed, box, call, facts_of, latest, make, wait_until_over
from tests.leaks import assert_nothing_left, snapshot

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")


def watched(verb: Callable[[], None], moment: int, report: Path) -> None:
    """Call a verb in a fork whose operations are seen by an executioner."""

    def body() -> None:
        fd = os.open(report, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        results = partial(Results, Executioner(IN_COMMAND, moment, fd))
        attempts.Results = sandboxes.Results = results  # type: ignore[misc, assignment]
        verb()

    call(body)


def moments(report: Path) -> list[int]:
    """Return the moments of an undisturbed run."""
    return [int(line) for line in report.read_text().split()]


def test_a_start_that_is_killed_at_any_moment_is_carried_on(cli: Cli, tmp_path: Path) -> None:
    before = snapshot(cli.layout)
    facts = facts_of(cli)
    report = tmp_path / "moments"
    pod = make(cli, box("a", "test -e /go || exit 1; exec sleep 1000"), share_process_namespace=True)
    wait_until_over(pod, "a")
    watched(lambda: start_attempt(pod, "a", 1, 1, facts), -1, report)
    seen = moments(report)
    assert len(seen) > 20
    number = 1
    for moment in seen:
        wait_until_over(pod, "a")
        number += 1
        start = partial(start_attempt, pod, "a", number, 1, facts)
        with pytest.raises(Failed, match="killed"):
            watched(start, moment, report)
        try:
            call(start)
            left = {number - 1, number}
        except Failed as failed:  # it had been started, and has come to its end meanwhile
            assert "is over" in str(failed), f"moment {moment}"
            left = {number - 2, number - 1, number}  # at most: the next one prunes
        assert (latest(pod, "a").attempt, latest(pod, "a").crashes) == (number, 1), f"moment {moment}"
        assert observe(pod).container("a").failure is None
        assert {number - 1, number} <= {key[1] for key in pod.attempts()} <= left
    cli.ok("pod", "rm", "-f", "test")
    assert_nothing_left(before, cli.layout)


def test_a_rebuild_that_is_killed_at_any_moment_is_begun_again(cli: Cli, tmp_path: Path) -> None:
    before = snapshot(cli.layout)
    report = tmp_path / "moments"
    pod, facts = make(cli, box("a")), facts_of(cli)
    kill_pause(pod)
    watched(lambda: sandboxes.rebuild_sandbox(pod, facts), -1, report)
    seen = moments(report)
    assert len(seen) > 15
    for moment in seen:
        kill_pause(pod)
        with pytest.raises(Failed, match="killed"):
            watched(lambda: sandboxes.rebuild_sandbox(pod, facts), moment, report)
        rebuild(cli, pod)
        assert observe(pod).sandbox_alive, f"moment {moment}"
    assert sandbox_attempt(pod) >= len(seen)
    call(lambda: start_attempt(pod, "a", 1, 0, facts))
    assert latest(pod, "a").state is AttemptState.RUNNING
    cli.ok("pod", "rm", "-f", "test")
    assert_nothing_left(before, cli.layout)


def sandbox_attempt(pod: PodDirectory) -> int:
    return observe(pod).sandbox_attempt


@pytest.mark.parametrize("late", ["before", "after"])
def test_a_half_started_pod_is_removed_whole(cli: Cli, tmp_path: Path, late: str) -> None:
    before = snapshot(cli.layout)
    facts, report = facts_of(cli), tmp_path / "moments"
    pod = make(cli, box("a", "exit 1"))
    wait_until_over(pod, "a")
    watched(lambda: start_attempt(pod, "a", 1, 1, facts), -1, report)
    wait_until_over(pod, "a")
    seen = moments(report)
    moment = seen[2] if late == "before" else seen[-2]
    with pytest.raises(Failed, match="killed"):
        watched(lambda: start_attempt(pod, "a", 2, 1, facts), moment, report)
    cli.ok("pod", "inspect", "test")
    cli.ok("pod", "rm", "-f", "test")
    assert_nothing_left(before, cli.layout)
