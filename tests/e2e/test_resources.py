"""Limits that a host cannot give are refused or told; where Pods lie in the tree; what others do to their cgroups.

A lack is made by hiding the list of controllers from one command, in a mount namespace of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyrun.cgroups import files, group
from pyrun.cgroups.delegation import Owner, find_place
from pyrun.security.oom import score_floor
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import (
    box,
    cgroup_of,
    init_of,
    manifest,
    monitor_of,
    pause_of,
    pods,
    run_pod,
    status_of,
    wait_for_output,
)
from tests.e2e.supervision import pod_of, reasons, supervising, until_pod

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 1000"
MEMORY = {"limits": {"memory": "64Mi"}}
REQUEST = {"requests": {"cpu": "100m", "memory": "16Mi"}}


class Poor:
    """The command line on a host whose unified hierarchy has no controllers."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self._nothing = cli.directory / "nothing"
        self._nothing.write_text("")

    @property
    def command(self) -> list[str]:
        place = find_place()
        # Of the scope that systemd may make for somebody else meanwhile, what the root has not is not used either.
        hidden = files.unified_mount() if place.owner is Owner.SYSTEMD else place.parent
        line = 'mount --bind "$0" "$1" && shift && exec "$@"'
        prefix = ["unshare", "--mount", "sh", "-c", line, str(self._nothing), f"{hidden}/cgroup.controllers"]
        return [*prefix, *self._cli.command]

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments],
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=60 * SLOW,
            env=self._cli.environment,
            check=False,
        )

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """Run a supervisor on this host for the block."""
        supervisor = Cli(self._cli.directory, self._cli.rootfs)
        supervisor.environment = self._cli.environment
        poor = self.command

        class Supervisor(Cli):
            command = property(lambda self: poor)  # type: ignore[assignment]

        supervisor.__class__ = Supervisor
        with supervising(supervisor):
            yield


@pytest.fixture
def poor(cli: Cli) -> Poor:
    """The instance of `cli` on a host without controllers."""
    return Poor(cli)


def nothing_made(cli: Cli) -> bool:
    return not any((cli.state / "pods").glob("*")) and not any((cli.root / "pods").glob("*"))


def applied(status: Any) -> Any:
    """The condition that tells of limits left out, None when there is none."""
    return next((c for c in status["conditions"] if c["type"] == "pyrun.io/ResourcesApplied"), None)


# Refused


@pytest.mark.parametrize(
    ("option", "value", "file"),
    [
        ("-m", "64m", "memory.max 67108864 (controller memory)"),
        ("--cpus", "0.5", "cpu.max 50000 100000 (controller cpu)"),
        ("--pids-limit", "10", "pids.max 10 (controller pids)"),
    ],
)
def test_run_refuses_a_limit_it_cannot_keep(cli: Cli, poor: Poor, option: str, value: str, file: str) -> None:
    result = poor.run("run", "--rootfs", option, value, str(cli.rootfs), "true")
    assert result.returncode == 125
    assert f'container "main": {file}' in result.stderr
    assert "--best-effort" in result.stderr and result.stderr.count("\n") == 1
    assert nothing_made(cli)


def test_create_refuses_all_pods_of_a_manifest_before_any_effect(cli: Cli, poor: Poor) -> None:
    result = poor.run("pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP, resources=MEMORY)))
    assert result.returncode == 1
    assert 'this host cannot give Pod "test" its limits: ' in result.stderr
    assert 'container "c0": memory.max 67108864' in result.stderr
    assert nothing_made(cli)


def test_requests_alone_are_not_refused(cli: Cli, poor: Poor) -> None:
    result = poor.run("pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP, resources=REQUEST)))
    assert (result.returncode, result.stderr) == (0, "")
    assert applied(status_of(cli)) is None


def test_an_applied_pod_waits_and_says_why(cli: Cli, poor: Poor) -> None:
    with poor.supervised():
        cli.ok("apply", "-f", "-", stdin=manifest(cli, box(SLEEP, resources=MEMORY)))
        told = until_pod(cli, lambda pod: pod["status"].get("message"))
        assert "memory.max 67108864 (controller memory)" in told
        assert pod_of(cli)["status"]["phase"] == "Pending"
        condition = applied(pod_of(cli)["status"])
        assert (condition["status"], condition["reason"]) == ("False", "ControllersMissing")
        assert condition["message"] == told and condition["lastTransitionTime"]
        scheduled = next(c for c in pod_of(cli)["status"]["conditions"] if c["type"] == "PodScheduled")
        assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
        eventually(lambda: "FailedCreate" in reasons(cli))
        cli.ok("delete", "pod", "test")


# Taking what there is


@pytest.mark.parametrize("switch", ["option", "annotation"])
def test_best_effort_runs_and_tells(cli: Cli, poor: Poor, switch: str) -> None:
    annotations = {"pyrun.io/best-effort": "true"} if switch == "annotation" else {}
    text = manifest(cli, box(SLEEP, resources=MEMORY), annotations=annotations)
    options = ("--best-effort",) if switch == "option" else ()
    result = poor.run("pod", "create", *options, "-f", "-", stdin=text)
    assert (result.returncode, result.stderr) == (0, "")
    told = applied(status_of(cli))
    assert (told["status"], told["reason"]) == ("False", "ControllersMissing")
    assert 'container "c0": memory.max 67108864 (controller memory)' in told["message"]
    assert "ControllersMissing" in cli.ok("describe", "pod", "test")


def test_run_with_best_effort(cli: Cli, poor: Poor) -> None:
    options = ("--rootfs", "-m", "64m", "--best-effort", str(cli.rootfs))
    assert poor.run("run", *options, "sh", "-c", "exit 7").returncode == 7
    assert applied(pods(cli)[0]["status"])["status"] == "False"


def test_apply_with_best_effort_marks_pods_and_templates(cli: Cli, poor: Poor) -> None:
    text = manifest(cli, box(SLEEP, resources=MEMORY), restartPolicy="Always")
    pod = json.loads(text)
    template = {"metadata": {**pod["metadata"], "labels": {"a": "b"}}, "spec": pod["spec"]}
    del template["metadata"]["name"]
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    replicas = json.dumps(
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "set"}, "spec": spec}
    )
    with poor.supervised():
        cli.ok("apply", "--best-effort", "-f", "-", stdin=f"{text}\n---\n{replicas}\n")
        eventually(lambda: len(made := pods(cli)) == 2 and all(applied(p["status"]) for p in made), 30)
        cli.ok("delete", "pod", "test")
        cli.ok("delete", "rs", "set")
        eventually(lambda: not pods(cli), 30)


@pytest.mark.parametrize("value", ["yes", ""])
def test_best_effort_is_true_or_false(cli: Cli, value: str) -> None:
    text = manifest(cli, box(SLEEP), annotations={"pyrun.io/best-effort": value})
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 2
    assert "metadata.annotations[pyrun.io/best-effort]" in result.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("-m", "0"), ("-m", "64q"), ("-m", "1e400"), ("--cpus", "0"), ("--cpus", "-1")]
)
def test_run_knows_what_a_limit_is(cli: Cli, option: str, value: str) -> None:
    result = cli.run("run", "--rootfs", option, value, str(cli.rootfs), "true")
    assert result.returncode == 125
    assert "Traceback" not in result.stderr and result.stderr.count("\n") == 1
    assert nothing_made(cli)


# Where Pods lie


@pytest.mark.guest
def test_pods_lie_in_the_tier_of_their_class_which_goes_with_the_last(cli: Cli) -> None:
    prefix = Path(cli.layout.cgroup_prefix(find_place().parent))
    first = run_pod(cli, box(SLEEP), name="first")
    second = run_pod(cli, box(SLEEP), name="second")
    third = run_pod(cli, box(SLEEP, resources=REQUEST), name="third")
    assert {p.name for p in prefix.iterdir() if p.is_dir()} == {"besteffort", "burstable"}
    assert Path(cli.inspect(first)["cgroup"]) == prefix / "besteffort" / first
    assert Path(cli.inspect(third)["cgroup"]) == prefix / "burstable" / third
    cli.ok("pod", "rm", "-f", "third")
    assert {p.name for p in prefix.iterdir() if p.is_dir()} == {"besteffort"}
    cli.ok("pod", "rm", "-f", "first")
    assert Path(cli.inspect(second)["cgroup"]).is_dir()
    cli.ok("pod", "rm", "-f", "second")
    assert not prefix.exists()


@pytest.mark.guest
def test_oom_scores_are_those_of_the_class_or_the_lowest_allowed(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP), box(SLEEP, "c1", resources=REQUEST))
    wanted = {
        pause_of(cli, uid): -998,
        monitor_of(cli, uid): -998,
        init_of(cli, uid): 999,  # the Pod is Burstable, this container asks for nothing
    }
    own = int(Path("/proc/self/oom_score_adj").read_text())
    for process, score in wanted.items():
        assert _score(process.pid) == max(score, score_floor())
    assert 3 <= _score(init_of(cli, uid, "c1").pid) <= 999
    assert int(cli.ok("exec", "test", "-c", "c0", "--", "cat", "/proc/self/oom_score_adj")) == 999
    assert int(Path("/proc/self/oom_score_adj").read_text()) == own, "finding the floor changes nothing"


def _score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_the_plan_says_which_score_may_not_be_written(cli: Cli) -> None:
    explained = cli.run("pod", "create", "--explain", "-f", "-", stdin=manifest(cli, box(SLEEP)))
    assert explained.returncode == 0
    told = f'write "{max(-998, score_floor())}" to /proc/self/oom_score_adj'
    assert told in explained.stdout + explained.stderr


# What others do


def test_a_container_is_not_started_in_a_group_that_somebody_has_frozen(cli: Cli) -> None:
    again = {"pyrun.io/backoff-initial": "50ms", "pyrun.io/backoff-max": "50ms"}
    text = manifest(
        cli, box("sleep 1; exit 3"), box(SLEEP, "c1"), restartPolicy="OnFailure", annotations=again
    )
    uid = cli.create(text, "--no-supervise")
    pod_group = cli.inspect(uid)["cgroup"]
    leaf = f"{pod_group}/ctr-c0"
    eventually(lambda: not group.is_populated(leaf))
    group.freeze(pod_group)
    try:
        with supervising(cli):
            told = until_pod(cli, lambda pod: _waiting(pod, "frozen"))
            assert "is frozen" in told
            group.thaw(pod_group)
            until_pod(cli, lambda pod: not _waiting(pod, "frozen"))
    finally:
        group.thaw(pod_group)


def _waiting(pod: Any, word: str) -> str | None:
    for status in pod["status"].get("containerStatuses", ()):
        message: str = status["state"].get("waiting", {}).get("message", "")
        if word in message:
            return message
    return None


def test_a_group_that_somebody_has_removed_is_told_and_the_pod_can_go(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    pod_group = cli.inspect(uid)["cgroup"]
    away = f"{files.unified_mount()}/pyrun-test-{os.getpid()}-away"
    os.mkdir(away)
    try:
        for path, _, _ in os.walk(pod_group):
            for pid in files.processes(path):
                files.write(away, "cgroup.procs", str(pid))
        group.remove(pod_group)
        for command in (
            ("pod", "pause", "test"),
            ("pod", "unpause", "test"),
            ("exec", "test", "--", "true"),
            ("get", "pods"),
            ("pod", "inspect", "test"),
            ("describe", "pod", "test"),
        ):
            result = cli.run(*command)
            assert "Traceback" not in result.stderr, result.stderr
            assert result.returncode == 0 or pod_group in result.stderr, (command, result.stderr)
        group.kill(away)
        assert cli.run("pod", "rm", "-f", "test").returncode == 0
    finally:
        group.remove(away)


def test_a_pod_that_somebody_has_frozen_can_be_stopped(cli: Cli) -> None:
    uid = run_pod(cli, box("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
    wait_for_output(cli, uid, "ready")
    pod_group = cli.inspect(uid)["cgroup"]
    group.freeze(pod_group)
    result = cli.run("exec", "test", "--", "true")
    assert result.returncode != 0 and "frozen" in result.stderr and "Traceback" not in result.stderr
    cli.ok("pod", "stop", "-t", "1", "test")
    assert not group.is_populated(f"{pod_group}/ctr-c0")


# The one controller that hybrid hosts have too


@pytest.fixture
def huge(cli: Cli) -> str:
    """A page size that the hugetlb controller of this host knows, as a manifest spells it."""
    if "hugetlb" not in find_place().controllers:
        pytest.skip("no hugetlb controller")
    if not os.path.isdir("/sys/kernel/mm/hugepages/hugepages-2048kB"):
        pytest.skip("no pages of 2 MiB")
    return "2Mi"


def test_huge_pages_are_limited_for_the_container_and_the_pod(cli: Cli, huge: str) -> None:
    limits = {"limits": {f"hugepages-{huge}": "4Mi", "memory": "64Mi", "cpu": "1"}}
    text = manifest(cli, box(SLEEP, resources=limits))
    uid = cli.create(text, "--best-effort")
    pod_group = Path(cli.inspect(uid)["cgroup"])
    for path in (pod_group, pod_group / "ctr-c0"):
        assert (path / "hugetlb.2MB.max").read_text() == "4194304\n"
        assert (path / "hugetlb.2MB.rsvd.max").read_text() == "4194304\n"
    assert (pod_group / "pause/hugetlb.2MB.max").read_text() != "4194304\n"
    assert cgroup_of(init_of(cli, uid)).endswith(f"/{uid}/ctr-c0")
