"""Admission: what does not fit is not made, not even half of it, and is made as soon as it fits.

All amounts are parts of the CPUs of this host, so that it needs neither controllers nor a certain size.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from pyrun.cli.application import Application
from pyrun.runtime import admission
from pyrun.runtime.host import read_capacity
from pyrun.spec.quantity import format_milli_cpu, parse_milli_cpu
from pyrun.spec.resources import ResourceList
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, manifest, run_pod, state_of, status_of
from tests.e2e.supervision import (
    condition,
    is_still,
    pod_of,
    pods_of,
    reasons,
    replica_set,
    supervising,
    until_pod,
)
from tests.e2e.test_kill_everywhere import IN_COMMAND, Executioner, create, in_fork
from tests.leaks import assert_nothing_left, snapshot

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 1000"


def part(cli: Cli, share: float) -> str:
    """A share of the CPUs of this host, as a quantity."""
    return format_milli_cpu(int(read_capacity(cli.layout).cpu_millis * share))


def asking(cli: Cli, share: float, name: str = "c0", script: str = SLEEP, **fields: Any) -> dict[str, Any]:
    """A container that requests a share of the CPUs."""
    return box(script, name, resources={"requests": {"cpu": part(cli, share)}}, **fields)


def held(cli: Cli) -> int:
    """What is reserved by the ledger, in thousandths of a CPU."""
    return admission.reserved(cli.layout).cpu_millis or 0


def refused(cli: Cli, text: str, *options: str) -> str:
    """Let a creation be refused; return what it says."""
    before = snapshot(cli.layout)
    result = cli.run("pod", "create", *options, "-f", "-", stdin=text)
    assert result.returncode == 3, result.stderr
    assert_nothing_left(before, cli.layout)
    return result.stderr


def names(cli: Cli) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods_of(cli)}


def killed_in_creation(cli: Cli, text: str) -> None:
    """Create a Pod and be killed between its record and the first effect."""
    application = Application(str(cli.root), str(cli.state))
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        status = in_fork(lambda: create(application, text, Executioner(IN_COMMAND, 1, null)))
    finally:
        os.close(null)
    assert os.WIFSIGNALED(status)


# Without a supervisor


def test_of_many_at_once_exactly_those_are_made_that_fit(cli: Cli) -> None:
    """Ten creations side by side, each of two containers, and room for three."""
    texts = [
        manifest(cli, asking(cli, 0.2), asking(cli, 0.1, "c1"), name=f"pod-{number}") for number in range(10)
    ]
    makers = [
        subprocess.Popen(
            [*cli.command, "pod", "create", "-f", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=cli.environment,
            text=True,
        )
        for _ in texts
    ]
    for maker, text in zip(makers, texts, strict=True):
        assert maker.stdin is not None
        maker.stdin.write(text)
        maker.stdin.close()
        maker.stdin = None
    said = [maker.communicate(timeout=80 * SLOW)[1] for maker in makers]
    codes = [maker.returncode for maker in makers]
    assert sorted(codes) == [0] * 3 + [3] * 7, said
    made = pods_of(cli)
    assert {pod["metadata"]["name"] for pod in made} == {
        f"pod-{n}" for n, code in enumerate(codes) if not code
    }
    for pod in made:
        assert ["running" in one["state"] for one in pod["status"]["containerStatuses"]] == [True, True]
    assert len(list((cli.state / "pods").iterdir())) == len(list((cli.root / "pods").iterdir())) == 3


def test_a_refusal_says_what_is_lacking_and_leaves_nothing(cli: Cli) -> None:
    run_pod(cli, asking(cli, 0.5), name="first")
    said = refused(cli, manifest(cli, asking(cli, 0.3), asking(cli, 0.3, "c1")))
    free = read_capacity(cli.layout).cpu_millis - held(cli)
    whole = parse_milli_cpu(part(cli, 0.3)) * 2
    assert said.count("\n") == 1
    assert 'this host has not enough left for Pod "test": cpu: ' in said
    assert (
        f"cpu: {format_milli_cpu(whole)} requested, {format_milli_cpu(free)} of {part(cli, 1)} free;" in said
    )
    assert "--best-effort" in said
    assert names(cli) == {"first"}


def test_a_name_that_is_taken_is_said_first(cli: Cli) -> None:
    run_pod(cli, asking(cli, 1), name="first")
    result = cli.run("pod", "create", "-f", "-", stdin=manifest(cli, asking(cli, 0.1), name="first"))
    assert (result.returncode, "exists already" in result.stderr) == (1, True)


def test_all_pods_of_a_manifest_or_none(cli: Cli) -> None:
    texts = [manifest(cli, asking(cli, 0.4), name=name) for name in ("one", "two", "three")]
    said = refused(cli, "\n---\n".join(texts), "--explain")
    assert "not enough left for the 3 Pods together: cpu: " in said
    assert "link " not in said, "no operation was begun"
    cli.ok("pod", "create", "-f", "-", stdin="\n---\n".join(texts[:2]))
    assert names(cli) == {"one", "two"}


def test_a_pod_that_was_stopped_or_has_ended_holds_nothing(cli: Cli) -> None:
    run_pod(cli, asking(cli, 1), name="first")
    refused(cli, manifest(cli, asking(cli, 1)))
    cli.ok("pod", "stop", "-t", "0", "first")
    run_pod(cli, asking(cli, 1, script="exit 3"), name="second")
    eventually(lambda: "terminated" in state_of(cli, name="second"))
    run_pod(cli, asking(cli, 1), name="third")
    assert names(cli) == {"first", "second", "third"}
    refused(cli, manifest(cli, asking(cli, 0.1)))
    cli.ok("pod", "rm", "-f", "third")
    run_pod(cli, asking(cli, 1))


def test_init_containers_count_by_their_largest(cli: Cli) -> None:
    roots = {f"rootfs.pyrun.io/i{number}": str(cli.rootfs) for number in range(2)}
    inits = [asking(cli, 0.7, "i0", "true"), asking(cli, 0.6, "i1", "true")]
    cli.create(manifest(cli, asking(cli, 0.2), annotations=roots, initContainers=inits), "--wait=running")
    assert held(cli) == parse_milli_cpu(part(cli, 0.7))
    refused(cli, manifest(cli, asking(cli, 0.4), name="other"))
    sidecar = asking(cli, 0.2, "i0", restartPolicy="Always")
    beside = {"name": "other", "annotations": {"rootfs.pyrun.io/i0": str(cli.rootfs)}}
    refused(cli, manifest(cli, asking(cli, 0.2), initContainers=[sidecar], **beside))
    run_pod(cli, asking(cli, 0.1), initContainers=[asking(cli, 0.2, "i0", "true")], **beside)


def test_the_pods_own_request_takes_the_place_of_its_containers(cli: Cli) -> None:
    whole = {"requests": {"cpu": part(cli, 0.8)}}
    run_pod(cli, asking(cli, 0.1), resources=whole, name="first")
    assert held(cli) == parse_milli_cpu(part(cli, 0.8))
    refused(cli, manifest(cli, asking(cli, 0.3)))


def test_best_effort_runs_without_and_says_so(cli: Cli) -> None:
    run_pod(cli, asking(cli, 0.8), name="first")
    text = manifest(cli, box(SLEEP, resources={"requests": {"cpu": "4000"}}))
    cli.ok("pod", "create", "--best-effort", "-f", "-", stdin=text)
    told = next(c for c in status_of(cli)["conditions"] if c["type"] == "pyrun.io/ResourcesApplied")
    assert (told["status"], told["reason"]) == ("False", "Unschedulable")
    assert "cpu: 4k requested" not in told["message"]
    assert "cpu: 4000 requested, " in told["message"]
    assert held(cli) == parse_milli_cpu(part(cli, 0.8)), "it holds nothing, so it takes nothing from others"
    run_pod(cli, asking(cli, 0.2), name="second")


def test_who_was_killed_holds_its_part_until_it_is_undone(cli: Cli) -> None:
    """Killed between the record and the first effect: the record counts, and the next command undoes it."""
    killed_in_creation(cli, manifest(cli, asking(cli, 0.6), asking(cli, 0.4, "c1")))
    request = ResourceList(cpu_millis=held(cli))
    assert held(cli) == parse_milli_cpu(part(cli, 0.6)) + parse_milli_cpu(part(cli, 0.4))
    assert admission.shortages(request, read_capacity(cli.layout), cli.layout)
    run_pod(cli, asking(cli, 1))
    assert len(list((cli.state / "pods").iterdir())) == 1


def test_check_says_what_is_allocated(cli: Cli) -> None:
    run_pod(cli, asking(cli, 0.5))
    findings = json.loads(cli.run("check", "-o", "json").stdout)["findings"]
    found = next(finding for finding in findings if finding["subject"] == "requests")
    assert found["detail"].startswith(
        f"allocated to Pods: cpu {part(cli, 0.5)} of {part(cli, 1)}, memory 0 of "
    )


# Under a supervisor


def scheduled(pod: Any) -> Any:
    """The condition PodScheduled."""
    return next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")


def waiting(cli: Cli, name: str) -> Any:
    """Wait until a Pod is told to have no room; return it."""
    return until_pod(cli, lambda pod: pod if scheduled(pod).get("reason") == "Unschedulable" else None, name)


def apply(cli: Cli, text: str) -> None:
    cli.ok("apply", "-f", "-", stdin=text)


def is_ready(cli: Cli, name: str) -> None:
    until_pod(cli, lambda pod: condition(pod, "Ready"), name)


def test_an_applied_pod_waits_and_sleeps_until_there_is_room(cli: Cli) -> None:
    first = run_pod(cli, asking(cli, 0.7), name="first")
    with supervising(cli) as supervisor:
        apply(cli, manifest(cli, asking(cli, 0.2), asking(cli, 0.2, "c1")))
        pod = waiting(cli, "test")
        assert pod["status"]["phase"] == "Pending"
        said = scheduled(pod)["message"]
        assert scheduled(pod)["status"] == "False" and " requested, " in said
        assert pod["status"]["message"] == said
        assert "Pending" in cli.ok("get", "pods", "test") and "Pending" in cli.ok("pod", "get", "test")
        for command in (("describe", "pod", "test"), ("pod", "why", "test"), ("get", "events")):
            assert "requested, " in cli.ok(*command), command
        assert "timed out" in cli.run("wait", "--for=condition=Ready", "pod/test", "--timeout=1s").stderr
        # There is no timer: neither a back-off nor a look every now and then.
        eventually(lambda: is_still(supervisor.pid), 30)
        assert reasons(cli) == ["FailedScheduling"]
        # It is no half of a Pod either.
        assert len(list((cli.state / "pods").iterdir())) == 1
        cli.ok("pod", "rm", "-f", first)
        is_ready(cli, "test")
        assert scheduled(pod_of(cli))["status"] == "True"


def test_whatever_ends_a_pod_makes_room(cli: Cli) -> None:
    with supervising(cli):
        run_pod(cli, asking(cli, 1, script="sleep 0.5"), name="first")
        apply(cli, manifest(cli, asking(cli, 1), name="second"))
        is_ready(cli, "second")
        apply(cli, manifest(cli, asking(cli, 1), name="third"))
        waiting(cli, "third")
        cli.ok("pod", "stop", "-t", "0", "second")
        is_ready(cli, "third")


def test_the_supervisor_undoes_what_a_killed_command_holds(cli: Cli) -> None:
    first = run_pod(cli, asking(cli, 0.5), name="first")
    killed_in_creation(cli, manifest(cli, asking(cli, 0.5), name="half"))
    assert held(cli) == 2 * parse_milli_cpu(part(cli, 0.5))
    with supervising(cli):
        apply(cli, manifest(cli, asking(cli, 0.5)))
        is_ready(cli, "test")
        apply(cli, manifest(cli, asking(cli, 0.5), name="other"))
        waiting(cli, "other")
        killed_in_creation(cli, manifest(cli, box(SLEEP), name="nothing"))
        cli.ok("pod", "rm", "-f", first)
        is_ready(cli, "other")
    assert names(cli) == {"test", "other"}


def test_the_first_that_fits_is_made_and_a_small_one_may_pass(cli: Cli) -> None:
    with supervising(cli):
        run_pod(cli, asking(cli, 0.8), name="first")
        for name, share in (("big", 0.9), ("later", 0.9), ("small", 0.15)):
            apply(cli, manifest(cli, asking(cli, share), name=name))
        is_ready(cli, "small")
        waiting(cli, "big"), waiting(cli, "later")
        cli.ok("pod", "rm", "-f", "first")
        cli.ok("delete", "pod", "small", "--grace-period", "0")
        is_ready(cli, "big")
        assert waiting(cli, "later")["status"]["phase"] == "Pending"


def test_a_pod_that_waits_can_be_deleted_and_applied_smaller(cli: Cli) -> None:
    with supervising(cli):
        run_pod(cli, asking(cli, 0.8), name="first")
        apply(cli, manifest(cli, asking(cli, 0.5)))
        waiting(cli, "test")
        cli.ok("delete", "pod", "test")
        assert pod_of(cli) is None
        apply(cli, manifest(cli, asking(cli, 0.1)))
        is_ready(cli, "test")


def test_a_pod_that_waits_can_be_told_to_take_what_there_is(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, manifest(cli, asking(cli, 2)))
        assert "ask for less than there is" in waiting(cli, "test")["status"]["message"]
        cli.ok("apply", "--best-effort", "-f", "-", stdin=manifest(cli, asking(cli, 2)))
        is_ready(cli, "test")
        assert held(cli) == 0


def test_another_supervisor_goes_on_and_says_nothing_twice(cli: Cli) -> None:
    first = run_pod(cli, asking(cli, 0.7), name="first")
    with supervising(cli) as supervisor:
        apply(cli, manifest(cli, asking(cli, 0.5)))
        before = waiting(cli, "test")
        supervisor.kill()
    with supervising(cli) as supervisor:
        eventually(lambda: is_still(supervisor.pid), 30)
        assert scheduled(pod_of(cli)) == scheduled(before)
        assert reasons(cli) == ["FailedScheduling"]
        cli.ok("pod", "rm", "-f", first)
        is_ready(cli, "test")
    assert held(cli) == parse_milli_cpu(part(cli, 0.5))


def the_set(cli: Cli) -> Any:
    return json.loads(cli.ok("get", "rs", "web", "-o", "json"))["status"]


def failure_of(cli: Cli) -> Any:
    """The condition ReplicaFailure, None without."""
    return next((c for c in the_set(cli).get("conditions", ()) if c["type"] == "ReplicaFailure"), None)


def test_of_a_set_those_are_made_that_fit_and_then_the_others(cli: Cli) -> None:
    first = run_pod(cli, asking(cli, 0.4), name="first")
    with supervising(cli) as supervisor:
        apply(cli, replica_set(cli, 4, asking(cli, 0.2)))
        eventually(lambda: the_set(cli)["readyReplicas"] == 3, 30)
        told = eventually(lambda: failure_of(cli))
        assert (told["status"], told["reason"]) == ("True", "Unschedulable")
        assert f"no room for another Pod: cpu: {part(cli, 0.2)} requested, " in told["message"]
        eventually(lambda: is_still(supervisor.pid), 30)
        assert "FailedScheduling" in reasons(cli, "web")
        assert len(list((cli.state / "pods").iterdir())) == 4
        cli.ok("pod", "rm", "-f", first)
        eventually(lambda: the_set(cli)["readyReplicas"] == 4, 30)
        eventually(lambda: failure_of(cli) is None)
        cli.ok("delete", "rs", "web")


def test_a_killed_supervisor_makes_none_twice_and_loses_none(cli: Cli) -> None:
    """Killed while it makes the Pods of a set that does not fit: the next one comes to the same."""
    for _ in range(3):
        with supervising(cli) as supervisor:
            apply(cli, replica_set(cli, 6, asking(cli, 0.3)))
            eventually(lambda: list((cli.state / "pods").glob("*")), 30)
            supervisor.kill()
        with supervising(cli) as supervisor:
            eventually(lambda: the_set(cli)["readyReplicas"] == 3, 40)
            eventually(lambda: is_still(supervisor.pid), 30)
            assert held(cli) == 3 * parse_milli_cpu(part(cli, 0.3))
            cli.ok("delete", "rs", "web")
