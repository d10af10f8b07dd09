"""Resizing Pods that run: without a restart, or with one where the manifest says so; kept, waiting or refused.

What needs no controller are requests, restarts, records and conditions. What the kernel does is seen in the guest of
tests/vm.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyrun.cgroups import cpu, memory
from pyrun.runtime import resize as verb
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.linux import weight_of
from pyrun.spec.resources import ResourceList, ResourceRequirements
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import (
    box,
    init_of,
    manifest,
    output,
    run_pod,
    status_of,
    wait_for_end,
    wait_for_output,
)
from tests.e2e.supervision import (
    condition,
    container_of,
    pod_of,
    pods_of,
    reasons,
    replica_set,
    restarts,
    supervising,
    until_container,
    until_pod,
)
from tests.e2e.test_admission import asking, part
from tests.e2e.test_kill_everywhere import IN_COMMAND, Executioner, in_fork
from tests.e2e.test_resources import Poor, applied
from tests.e2e.test_supervise import is_still
from tests.e2e.verbs import facts_of

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")
in_kernel = pytest.mark.requires("cgroup_controllers")

SLEEP = "exec sleep 1000"
MI = 2**20


@pytest.fixture
def poor(cli: Cli) -> Poor:
    """The instance of `cli` on a host without controllers."""
    return Poor(cli)


def asks(cpu: str = "100m", memory: str = "16Mi") -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}}


def limited(cpu: str, memory: str) -> dict[str, Any]:
    return {"limits": {"cpu": cpu, "memory": memory}}


def restarted_for(*resources: str) -> list[dict[str, str]]:
    return [{"resourceName": name, "restartPolicy": "RestartContainer"} for name in resources]


def unwatched(cli: Cli, *containers: dict[str, Any], **fields: Any) -> str:
    """Create a Pod whose containers may be restarted, with nobody to do it; return its uid."""
    fields = {"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 5} | fields
    return cli.create(manifest(cli, *containers, **fields), "--no-supervise")


def quick(cli: Cli, *containers: dict[str, Any]) -> str:
    """The manifest of a Pod that goes at once when it is deleted."""
    return manifest(cli, *containers, terminationGracePeriodSeconds=0)


def find(pod: Any, kind: str) -> Any:
    """A condition of a Pod, None when it has none of this kind."""
    return next((one for one in pod["status"]["conditions"] if one["type"] == kind), None)


def requests_of(pod: Any, container: int = 0) -> Any:
    return pod["spec"]["containers"][container]["resources"]["requests"]


# Without a supervisor


def test_requests_change_and_the_process_goes_on(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP, resources=asks()), box(SLEEP, "c1"))
    process = init_of(cli, uid)
    said = cli.ok("pod", "resize", "test", "-c", "c0", "--requests", "cpu=200m,memory=8Mi", "--no-supervise")
    assert said == "test resized\n"
    assert process.alive() and init_of(cli, uid) == process
    pod, status = pod_of(cli), container_of(cli)
    assert requests_of(pod) == status["allocatedResources"] == {"cpu": "200m", "memory": "8Mi"}
    assert status["resources"]["requests"] == {"cpu": "200m", "memory": "8Mi"}
    assert status["restartCount"] == 0
    assert not find(pod, "PodResizePending") and not find(pod, "PodResizeInProgress")
    assert [one for one in reasons(cli) if one.startswith("Resize")] == ["ResizeStarted", "ResizeCompleted"]
    assert "cpu=200m, memory=8Mi" in cli.ok("describe", "pod", "test")
    assert cli.ok("pod", "resize", "test", "-c", "c0", "--requests", "cpu=200m") == "test unchanged\n"


def test_the_resources_of_a_manifest_are_taken(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP, resources=asks()), box(SLEEP, "c1", resources=asks()))
    process = init_of(cli, uid)
    text = manifest(cli, box("other", resources=asks("150m")), box("other", "c1", resources=asks("250m")))
    assert cli.ok("pod", "resize", "test", "-f", "-", stdin=text) == "test resized\n"
    assert [requests_of(pod_of(cli), i)["cpu"] for i in range(2)] == ["150m", "250m"]
    assert process.alive(), "nothing but the resources is taken"


REFUSED = (
    (("--requests", "cpu=200m"), ("--container: say which: the Pod has c0, c1",)),
    (
        ("-c", "no", "--requests", "cpu,disk=1,cpu=1,cpu=2"),
        (
            '--container: the Pod has no container "no"',
            '--requests: expected RESOURCE=AMOUNT such as cpu=500m, got "cpu"',
            '--requests: only cpu and memory can be resized, not "disk"',
            "--requests: cpu is given twice",
        ),
    ),
    (
        ("-c", "c0", "--requests", "cpu=1e400", "--limits", "memory=0"),
        ("spec.containers[0].resources.requests[cpu]", "spec.containers[0].resources.limits[memory]"),
    ),
    (("-c", "c0", "--limits", "cpu=50m"), ("spec.containers[0].resources.requests[cpu]: 100m is above",)),
    (("-c", "c0",), ("give --requests or --limits, or a manifest",)),
    (("--requests", "cpu=1", "-f", "-"), ("give --requests or --limits, or a manifest",)),
)  # fmt: skip


def test_what_cannot_be_is_refused_all_at_once_and_nothing_changes(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP, resources=asks()), box(SLEEP, "c1"))
    record = Path(PodDirectory(cli.layout, uid).path) / "pod.json"
    before = record.read_bytes()
    for options, words in REFUSED:
        result = cli.run("pod", "resize", "test", *options)
        assert result.returncode == 2, (options, result.stderr)
        assert all(word in result.stderr for word in words), (options, result.stderr)
    other = manifest(cli, box(SLEEP, resources={"requests": {"memory": "8Mi"}}), box(SLEEP, "new"))
    result = cli.run("pod", "resize", "test", "-f", "-", stdin=other)
    assert (result.returncode, "spec.containers[1].name" in result.stderr) == (2, True)
    other = manifest(
        cli,
        box(SLEEP, resources={"requests": {"memory": "8Mi", "ephemeral-storage": "1Gi"}}),
        box(SLEEP, "c1"),
    )
    result = cli.run("pod", "resize", "test", "-f", "-", stdin=other)
    assert result.returncode == 2
    assert "requests[cpu]: cannot be removed" in result.stderr
    assert "requests[ephemeral-storage]: cannot change" in result.stderr
    assert record.read_bytes() == before


def test_the_class_stays_and_a_stopped_pod_is_not_resized(cli: Cli) -> None:
    run_pod(cli, box(SLEEP))
    result = cli.run("pod", "resize", "test", "--requests", "cpu=100m")
    assert result.returncode == 2
    assert "QoS class of a Pod cannot change, and would from BestEffort to Burstable" in result.stderr
    run_pod(cli, box(SLEEP, resources=asks()), name="gone")
    cli.ok("pod", "stop", "-t", "0", "gone")
    result = cli.run("pod", "resize", "gone", "--requests", "cpu=200m")
    assert (result.returncode, "is being stopped" in result.stderr) == (1, True)
    assert cli.run("pod", "resize", "nobody", "--requests", "cpu=1").returncode == 1


TOLD = {
    "env": [{"name": "ASKED", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory"}}}],
    "resizePolicy": restarted_for("memory"),
}
SAYS = "trap 'echo bye; exit 0' TERM; echo asked $ASKED; while :; do sleep 0.05; done"


def test_a_container_restarts_for_a_resource_if_it_asks_for_that(cli: Cli) -> None:
    uid = unwatched(cli, box(SAYS, resources=asks(), **TOLD), box(SLEEP, "c1", resources=asks()))
    neighbour = init_of(cli, uid, "c1")
    wait_for_output(cli, uid, "asked")
    cli.ok("pod", "resize", "test", "-c", "c0", "--requests", "cpu=50m", "--no-supervise")
    assert container_of(cli)["restartCount"] == 0, "that is for memory only"
    said = cli.ok("pod", "resize", "test", "-c", "c0", "--requests", "memory=8Mi", "--no-supervise")
    assert said == "restarted container c0\ntest resized\n"
    status = container_of(cli)
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 0)
    assert "bye" in output(cli, uid), "it was asked to end"
    assert f"asked {8 * MI}" in eventually(lambda: cli.log("test"))
    record = PodDirectory(cli.layout, uid).container(("c0", 1))
    assert record is not None and record.crashes == 0
    assert neighbour.alive()
    assert "Killing" in reasons(cli)


# Admission


def test_what_does_not_fit_waits_and_is_given_when_something_is_freed(cli: Cli) -> None:
    with supervising(cli):
        run_pod(cli, asking(cli, 0.5), name="other", restartPolicy="Always")
        uid = run_pod(cli, asking(cli, 0.3), restartPolicy="Always")
        process = init_of(cli, uid)
        said = cli.ok("pod", "resize", "test", "--requests", f"cpu={part(cli, 0.6)}")
        assert said.startswith("pending: Deferred: this host has not enough left: cpu: ")
        pod = pod_of(cli)
        assert requests_of(pod)["cpu"] == part(cli, 0.6), "that is what is wished for"
        assert container_of(cli)["allocatedResources"]["cpu"] == part(cli, 0.3)
        told = find(pod, "PodResizePending")
        assert (told["status"], told["reason"]) == ("True", "Deferred")
        assert "Deferred" in cli.ok("describe", "pod", "test")
        assert (
            cli.run(
                "pod", "create", "-f", "-", stdin=manifest(cli, asking(cli, 0.1), name="third")
            ).returncode
            == 0
        )
        cli.ok("pod", "rm", "-f", "third")
        cli.ok("pod", "rm", "-f", "other")
        until_container(cli, lambda one: one["allocatedResources"]["cpu"] == part(cli, 0.6))
        until_pod(cli, lambda one: not find(one, "PodResizePending") and not find(one, "PodResizeInProgress"))
        assert process.alive()
        eventually(lambda: {"ResizeDeferred", "ResizeCompleted"} <= set(reasons(cli)))


def test_a_pending_resize_is_given_up_by_another_wish(cli: Cli) -> None:
    run_pod(cli, asking(cli, 0.5), name="other")
    run_pod(cli, asking(cli, 0.3))
    cli.ok("pod", "resize", "test", "--requests", f"cpu={part(cli, 0.6)}", "--no-supervise")
    assert find(pod_of(cli), "PodResizePending")
    assert cli.ok("pod", "resize", "test", "--requests", f"cpu={part(cli, 0.2)}") == "test resized\n"
    assert not find(pod_of(cli), "PodResizePending")
    assert (
        cli.run("pod", "create", "-f", "-", stdin=manifest(cli, asking(cli, 0.3), name="c")).returncode == 0
    )


def test_more_than_the_host_has_is_infeasible(cli: Cli) -> None:
    run_pod(cli, asking(cli, 0.5))
    said = cli.ok("pod", "resize", "test", "--requests", "cpu=100000")
    assert said.startswith("pending: Infeasible: this host does not have as much: cpu: 100000 requested")
    told = find(pod_of(cli), "PodResizePending")
    assert (told["reason"], container_of(cli)["allocatedResources"]["cpu"]) == ("Infeasible", part(cli, 0.5))
    assert "ResizeInfeasible" in reasons(cli)


# Hosts without controllers


def test_a_limit_the_host_cannot_give_is_refused_with_the_remedy(cli: Cli, poor: Poor) -> None:
    uid = run_pod(cli, box(SLEEP, resources=asks()))
    record = Path(PodDirectory(cli.layout, uid).path) / "pod.json"
    before = record.read_bytes()
    result = poor.run("pod", "resize", "test", "--limits", "memory=64Mi")
    assert result.returncode == 1
    assert 'container "c0": memory.max 67108864 (controller memory)' in result.stderr
    assert result.stderr.count("\n") == 1
    assert record.read_bytes() == before


def test_a_pod_that_takes_what_there_is_is_resized_and_says_what_it_lacks(cli: Cli, poor: Poor) -> None:
    text = manifest(cli, box(SLEEP, resources=limited("1", "64Mi")))
    assert poor.run("pod", "create", "--best-effort", "-f", "-", stdin=text).returncode == 0
    result = poor.run("pod", "resize", "test", "--limits", "memory=32Mi", "--requests", "memory=32Mi")
    assert (result.returncode, result.stdout) == (0, "test resized\n")
    assert "memory.max 33554432" in applied(status_of(cli))["message"]
    assert container_of(cli)["resources"]["limits"] == {"cpu": "1", "memory": "32Mi"}


def test_an_applied_limit_that_the_host_cannot_give_is_infeasible(cli: Cli, poor: Poor) -> None:
    with poor.supervised():
        cli.ok("apply", "-f", "-", stdin=quick(cli, box(SLEEP, resources=asks())))
        until_container(cli, restarts(0))
        more = asks() | {"limits": {"memory": "64Mi"}}
        cli.ok("apply", "-f", "-", stdin=quick(cli, box(SLEEP, resources=more)))
        told = until_pod(cli, lambda pod: find(pod, "PodResizePending"))
        assert (told["reason"], "controller memory" in told["message"]) == ("Infeasible", True)
        cli.ok("delete", "pod", "test")


# Under a supervisor


def test_the_supervisor_restarts_for_a_resource_and_that_is_no_crash(cli: Cli) -> None:
    with supervising(cli):
        uid = run_pod(cli, box(SAYS, resources=asks(), **TOLD), restartPolicy="Always")
        wait_for_output(cli, uid, "asked")
        assert "restarting container c0" in cli.ok("pod", "resize", "test", "--requests", "memory=8Mi")
        until_container(cli, restarts(1))
        until_pod(cli, lambda pod: not find(pod, "PodResizeInProgress"))
        record = PodDirectory(cli.layout, uid).container(("c0", 1))
        assert record is not None and record.crashes == 0
        eventually(lambda: "ResizeCompleted" in reasons(cli))
        assert container_of(cli)["resources"]["requests"]["memory"] == "8Mi"


def test_an_applied_change_of_resources_resizes_and_any_other_is_refused(cli: Cli) -> None:
    with supervising(cli):
        cli.ok("apply", "-f", "-", stdin=quick(cli, box(SLEEP, resources=asks())))
        pod = until_pod(cli, lambda one: one if condition(one, "Ready") else None)
        uid = pod["metadata"]["uid"]
        process = init_of(cli, uid)
        changed = cli.ok("apply", "-f", "-", stdin=quick(cli, box(SLEEP, resources=asks("150m", "24Mi"))))
        assert changed == "pod/test configured\n"
        until_container(cli, lambda one: one["resources"]["requests"] == {"cpu": "150m", "memory": "24Mi"})
        assert (pod_of(cli)["metadata"]["uid"], process.alive()) == (uid, True)
        bad = quick(cli, box("exec sleep 5", resources={"requests": {"cpu": "1"}}))
        result = cli.run("apply", "-f", "-", stdin=bad)
        assert result.returncode == 2
        assert "spec.containers[0].command[2]: cannot change" in result.stderr
        assert "spec.containers[0].resources.requests[memory]: cannot be removed" in result.stderr
        assert requests_of(pod_of(cli)) == {"cpu": "150m", "memory": "24Mi"}
        cli.ok("delete", "pod", "test")


def test_the_object_of_an_applied_pod_is_the_one_truth(cli: Cli) -> None:
    text = quick(cli, box(SLEEP, resources=asks()))
    with supervising(cli) as supervisor:
        cli.ok("apply", "-f", "-", stdin=text)
        pod = until_pod(cli, lambda one: one if condition(one, "Ready") else None)
        process = init_of(cli, pod["metadata"]["uid"])
        assert cli.ok("pod", "resize", "test", "--requests", "cpu=200m") == "test resized\n"
        eventually(lambda: is_still(supervisor.pid), 30)
        wanted = {"cpu": "200m", "memory": "16Mi"}
        assert requests_of(pod_of(cli)) == wanted, "no look has undone it"
        assert container_of(cli)["allocatedResources"] == wanted
        assert cli.ok("apply", "-f", "-", stdin=text) == "pod/test configured\n", (
            "a text that is applied counts"
        )
        until_container(cli, lambda one: one["allocatedResources"]["cpu"] == "100m")
        assert process.alive()
        cli.ok("delete", "pod", "test")


def test_an_applied_pod_is_resized_without_a_supervisor_too(cli: Cli) -> None:
    text = quick(cli, box(SLEEP, resources=asks()))
    with supervising(cli):
        cli.ok("apply", "-f", "-", stdin=text)
        pod = until_pod(cli, lambda one: one if condition(one, "Ready") else None)
    process = init_of(cli, pod["metadata"]["uid"])
    cli.ok("pod", "resize", "test", "--requests", "cpu=200m")
    cli.ok("apply", "--no-supervise", "-f", "-", stdin=quick(cli, box(SLEEP, resources=asks("300m"))))
    assert requests_of(pod_of(cli))["cpu"] == "200m", "nobody has come so far"
    with supervising(cli):
        until_container(cli, lambda one: one["resources"]["requests"]["cpu"] == "300m")
        assert process.alive()
        cli.ok("delete", "pod", "test")


def test_a_pod_of_a_set_is_resized_alone(cli: Cli) -> None:
    with supervising(cli) as supervisor:
        cli.ok("apply", "-f", "-", stdin=replica_set(cli, 2, box(SLEEP, resources=asks())))
        eventually(lambda: len([pod for pod in pods_of(cli) if condition(pod, "Ready")]) == 2, 30)
        chosen, other = (pod["metadata"]["name"] for pod in pods_of(cli))
        cli.ok("pod", "resize", chosen, "--requests", "cpu=200m")
        eventually(lambda: is_still(supervisor.pid), 30)
        assert {pod["metadata"]["name"] for pod in pods_of(cli)} == {chosen, other}
        assert [requests_of(pod_of(cli, name))["cpu"] for name in (chosen, other)] == ["200m", "100m"]
        cli.ok("delete", "rs", "web")
        eventually(lambda: not pods_of(cli), 30)


def test_what_an_older_object_has_wished_for_comes_too_late(cli: Cli) -> None:
    """A worker that was slow does not undo what a command has done meanwhile."""
    facts = facts_of(cli)
    pod = PodDirectory(cli.layout, run_pod(cli, box(SLEEP, resources=asks())))

    def resized(cpu: int, generation: int) -> int | None:
        wanted = (("c0", ResourceRequirements(requests=ResourceList(cpu_millis=cpu, memory=16 * MI))),)
        verb.resize_pod(pod, wanted, facts, generation=generation)
        record = pod.record()
        return None if record is None else record.pod.spec.containers[0].resources.requests.cpu_millis

    assert [resized(200, 3), resized(300, 2), resized(400, 3), resized(50, 0)] == [200, 200, 400, 50]


# Kills


class Deadly:
    """Calls a function that takes a step, and kills the process before or after it at one moment."""

    def __init__(self, function: Callable[..., Any], executioner: Executioner) -> None:
        self._function = function
        self._executioner = executioner

    def __call__(self, *arguments: Any) -> Any:
        self._executioner._at(IN_COMMAND)
        result = self._function(*arguments)
        self._executioner._at(IN_COMMAND)
        return result


def resized_under(pod: PodDirectory, facts: Any, executioner: Executioner) -> int:
    """Resize a Pod; every record that is written, and every operation, is a moment."""
    verb.write_record = Deadly(verb.write_record, executioner)  # type: ignore[assignment]
    verb.request_container_stop = Deadly(verb.request_container_stop, executioner)  # type: ignore[assignment]
    wanted = tuple(
        (name, ResourceRequirements(requests=ResourceList(cpu_millis=50, memory=memory * MI)))
        for name, memory in (("c0", 8), ("c1", 8))
    )
    verb.resize_pod(pod, wanted, facts, executioner)
    return 0


def doomed(cli: Cli) -> PodDirectory:
    """A Pod of two containers, the second of which is restarted for its memory."""
    boxes = (
        box(SLEEP, resources=asks()),
        box(SLEEP, "c1", resources=asks(), resizePolicy=restarted_for("memory")),
    )
    return PodDirectory(cli.layout, unwatched(cli, *boxes, terminationGracePeriodSeconds=0))


@pytest.mark.parametrize("moment", [2, 4, 6, 8, 10])
def test_the_supervisor_carries_on_what_was_killed(cli: Cli, tmp_path: Path, moment: int) -> None:
    facts, pod = facts_of(cli), doomed(cli)
    process = init_of(cli, pod.uid)
    fd = os.open(tmp_path / "moments", os.O_CREAT | os.O_WRONLY)
    status = in_fork(lambda: resized_under(pod, facts, Executioner(IN_COMMAND, moment, fd)))
    os.close(fd)
    assert os.WIFSIGNALED(status)
    with supervising(cli):
        until_container(cli, restarts(1), "c1")
        until_pod(cli, lambda one: not find(one, "PodResizePending") and not find(one, "PodResizeInProgress"))
        resources = {"cpu": "50m", "memory": "8Mi"}
        for name in ("c0", "c1"):
            until_container(cli, lambda one: one["resources"]["requests"] == resources, name)
        assert process.alive()


def test_a_resize_that_is_killed_at_any_moment_is_carried_on(cli: Cli, tmp_path: Path) -> None:
    """By the same command again: it begins anew, or goes on where the one before was."""
    facts = facts_of(cli)
    report = tmp_path / "moments"
    moment = 0
    while True:
        moment += 1
        pod = doomed(cli)
        process = init_of(cli, pod.uid)
        fd = os.open(report, os.O_CREAT | os.O_WRONLY)
        status = in_fork(lambda m=moment, d=fd, p=pod: resized_under(p, facts, Executioner(IN_COMMAND, m, d)))
        os.close(fd)
        command = ("pod", "resize", "test", "--no-supervise", "--requests", "cpu=50m,memory=8Mi", "-c")
        for name in ("c0", "c1"):
            cli.ok(*command, name)
        assert process.alive(), f"moment {moment}"
        record = pod.record()
        assert record is not None and (record.pending, record.resizing) == (None, None), f"moment {moment}"
        for name, number in (("c0", 0), ("c1", 1)):
            one = pod.container((name, number))
            assert one is not None, f"moment {moment}"
            assert one.applied.requests == ResourceList(cpu_millis=50, memory=8 * MI), f"moment {moment}"
            assert container_of(cli, name)["restartCount"] == number, f"moment {moment}"
        cli.ok("pod", "rm", "-f", "test")
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            break
    assert moment > 8, "it was killed at every step"


# In the kernel


def group_of(cli: Cli, uid: str, leaf: str = "ctr-c0") -> str:
    return str(Path(cli.inspect(uid)["cgroup"]) / leaf).rstrip("/")


def values(group: str, *files: str) -> list[str]:
    return [(Path(group) / file).read_text().strip() for file in files]


FILES = ("cpu.weight", "cpu.max", "memory.low", "memory.max")


@in_kernel
def test_files_of_container_pod_and_tier_follow(cli: Cli) -> None:
    one = asks("100m", "32Mi") | limited("500m", "64Mi")
    uid = run_pod(cli, box(SLEEP, resources=one), box(SLEEP, "c1", resources=one))
    process = init_of(cli, uid)
    score = Path(f"/proc/{process.pid}/oom_score_adj")
    before = score.read_text()
    options = ("-c", "c0", "--requests", "cpu=200m,memory=16Mi", "--limits", "cpu=1,memory=128Mi")
    result = cli.run("pod", "resize", "test", "--explain", *options)
    assert (result.returncode, result.stdout) == (0, "test resized\n")
    lines = [line.split("write ")[1] for line in result.stderr.splitlines()]
    pod, leaf = group_of(cli, uid, ""), group_of(cli, uid)
    assert values(leaf, *FILES) == [str(weight_of(200)), "100000 100000", str(16 * MI), str(128 * MI)]
    assert values(pod, *FILES) == [str(weight_of(300)), "150000 100000", str(48 * MI), str(192 * MI)]
    assert values(group_of(cli, uid, "ctr-c1"), *FILES)[1] == "50000 100000"
    assert values(str(Path(pod).parent), "cpu.weight") == [str(weight_of(300))]
    grown, own = (lines.index(f'"{text}" to {where}/memory.max') for text, where in
                  ((192 * MI, pod), (128 * MI, leaf)))  # fmt: skip
    assert grown < own, "the whole before its part"
    assert process.alive() and init_of(cli, uid) == process
    status = container_of(cli)
    assert status["resources"] == {
        "requests": {"cpu": "200m", "memory": "16Mi"},
        "limits": {"cpu": "1", "memory": "128Mi"},
    }
    assert score.read_text() == before, "as in Kubernetes"


@in_kernel
def test_what_somebody_else_has_written_is_told_as_it_is_and_mended(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP, resources=asks() | limited("500m", "64Mi")))
    leaf = group_of(cli, uid)
    (Path(leaf) / "cpu.max").write_text("20000 100000")
    assert container_of(cli)["resources"]["limits"] == {"cpu": "200m", "memory": "64Mi"}
    cli.ok("pod", "resize", "test", "--limits", "memory=96Mi")
    assert values(leaf, "cpu.max", "memory.max") == ["50000 100000", str(96 * MI)]


FILL = "dd if=/dev/zero of=/m/big bs=1M count=40 2>/dev/null && echo filled; exec sleep 1000"
MEMORY = {"volumeMounts": [{"name": "m", "mountPath": "/m"}]}
VOLUME = [{"name": "m", "emptyDir": {"medium": "Memory"}}]


def in_progress(cli: Cli) -> Any:
    return find(pod_of(cli), "PodResizeInProgress")


@in_kernel
@pytest.mark.parametrize("supervised", [False, True])
def test_memory_in_use_is_not_taken_away_and_goes_when_it_is_free(cli: Cli, supervised: bool) -> None:
    resources = asks("100m", "16Mi") | {"limits": {"memory": "128Mi"}}
    uid = unwatched(cli, box(FILL, resources=resources, **MEMORY), volumes=VOLUME)
    process = init_of(cli, uid)
    wait_for_output(cli, uid, "filled", timeout=60)
    lower = ("pod", "resize", "test", "--limits", "memory=32Mi", "--no-supervise")
    said = cli.ok(*lower)
    assert "in progress: " in said and 'container "c0" cannot be 33554432 bytes yet' in said
    told = in_progress(cli)
    assert (told["status"], told["reason"]) == ("True", "Error")
    assert values(group_of(cli, uid), "memory.max") == [str(128 * MI)]
    assert container_of(cli)["resources"]["limits"]["memory"] == "128Mi"
    assert "ResizeError" in reasons(cli)
    if supervised:
        with supervising(cli):
            eventually(lambda: in_progress(cli))
            cli.ok("exec", "test", "--", "rm", "/m/big")
            until_pod(cli, lambda pod: not find(pod, "PodResizeInProgress"), timeout=60)
    else:
        cli.ok("exec", "test", "--", "rm", "/m/big")
        assert cli.ok(*lower) == "test resized\n"
    assert values(group_of(cli, uid), "memory.max") == [str(32 * MI)]
    assert values(group_of(cli, uid, ""), "memory.max") == [str(32 * MI)]
    assert process.alive()
    found = memory.events(group_of(cli, uid))
    assert found is not None and found.oom_kill == 0


ON_DEMAND = f"while [ ! -e /m/go ]; do sleep 0.05; done; {FILL}"


@in_kernel
@pytest.mark.parametrize("enough", [False, True])
def test_more_memory_saves_who_would_have_been_killed(cli: Cli, enough: bool) -> None:
    resources = asks("100m", "8Mi") | {"limits": {"memory": "24Mi"}}
    uid = run_pod(cli, box(ON_DEMAND, resources=resources, **MEMORY), volumes=VOLUME)
    if enough:
        cli.ok("pod", "resize", "test", "--limits", "memory=128Mi")
    cli.ok("exec", "test", "--", "touch", "/m/go")
    if enough:
        wait_for_output(cli, uid, "filled", timeout=60)
    else:
        wait_for_end(cli, uid, timeout=60)
        assert container_of(cli)["state"]["terminated"]["reason"] == "OOMKilled"


def rate(group: str) -> float:
    """How many CPUs a group uses, over a part of a second."""
    before, began = cpu.use(group), time.monotonic()
    time.sleep(0.5)  # what is measured is what is used meanwhile
    after, ended = cpu.use(group), time.monotonic()
    assert before is not None and after is not None
    return (after.usage_us - before.usage_us) / 1e6 / (ended - began)


@in_kernel
def test_more_cpu_is_more_work(cli: Cli) -> None:
    uid = run_pod(cli, box("while :; do :; done", resources=asks("20m") | limited("50m", "64Mi")))
    leaf = group_of(cli, uid)
    eventually(lambda: (use := cpu.use(leaf)) is not None and use.throttled_periods > 5, 30)
    assert rate(leaf) < 0.2
    cli.ok("pod", "resize", "test", "--limits", "cpu=900m")
    eventually(lambda: rate(leaf) > 0.25, 60)


@in_kernel
def test_a_restart_for_less_memory_needs_nobody_to_give_it_back(cli: Cli) -> None:
    resources = asks("100m", "8Mi") | {"limits": {"memory": "128Mi"}}
    # At the end something is left to do, so the shell stays, with what it has.
    eats = "x=x; while [ ${#x} -lt 16000000 ]; do x=$x$x; done; echo filled; sleep 1000; true"
    once = f"if [ -e /disk/was ]; then {SLEEP}; fi; touch /disk/was; {eats}"
    mounts = [{"name": "disk", "mountPath": "/disk"}]
    uid = unwatched(
        cli,
        box(once, resources=resources, resizePolicy=restarted_for("memory"), volumeMounts=mounts),
        volumes=[{"name": "disk", "emptyDir": {}}],
        terminationGracePeriodSeconds=0,
    )
    wait_for_output(cli, uid, "filled", timeout=60)
    use = memory.use(group_of(cli, uid))
    assert use is not None and use.current > 12 * MI
    said = cli.ok("pod", "resize", "test", "--limits", "memory=12Mi", "--no-supervise")
    assert said == "restarted container c0\ntest resized\n"
    assert values(group_of(cli, uid), "memory.max") == [str(12 * MI)]
    assert values(group_of(cli, uid, ""), "memory.max") == [str(12 * MI)]
    assert container_of(cli)["restartCount"] == 1
    assert pod_of(cli)["status"]["phase"] == "Running"
