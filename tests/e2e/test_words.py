"""What the commands about objects say, with a real supervisor and real Pods: what a newcomer reads."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, init_of, pause_of
from tests.e2e.running import left_running
from tests.e2e.supervision import (
    QUICK,
    condition,
    kill,
    manifest,
    pod_of,
    pods_of,
    replica_set,
    supervising,
    until_container,
    until_pod,
)

pytestmark = pytest.mark.requires("pods")

SLEEP = "exec sleep 100000"
SLOW_BACKOFF = {"pyrun.io/backoff-initial": "100s"}
GATED = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}


def apply(cli: Cli, text: str, *arguments: str) -> str:
    return cli.ok("apply", "-f", "-", *arguments, stdin=text)


def stream(*documents: str) -> str:
    """Return several manifests as one text."""
    return "\n---\n".join(documents)


def of_web(cli: Cli) -> list[Any]:
    return [pod for pod in pods_of(cli, "-l", "app=web") if "deletionTimestamp" not in pod["metadata"]]


def uids(pods: list[Any]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def in_back_off(status: Any) -> bool:
    return bool(status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")


def ready(cli: Cli, count: int) -> list[Any]:
    """Wait until the set has that many Pods and all are ready; return them."""
    words = "--for=jsonpath={.status.readyReplicas}=" + str(count)
    cli.ok("wait", "rs/web", words, "--timeout", f"{40 * SLOW:g}s")
    return eventually(lambda: found if len(found := of_web(cli)) == count else None)


@contextlib.contextmanager
def waiting(cli: Cli, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `wait` in the background."""
    process = subprocess.Popen(
        [*cli.command, "wait", *arguments], env=cli.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_get_prints_of_what_runs_changes_nothing_when_it_is_applied(cli: Cli) -> None:
    with supervising(cli):
        text = stream(manifest(cli, box(SLEEP), name="bare"), replica_set(cli, 2))
        assert apply(cli, text) == "pod/bare created\nreplicaset.apps/web created\n"
        before = uids(ready(cli, 2))
        cli.ok("wait", "pod/bare", "--for=condition=Ready")
        pod, a_set = cli.ok("get", "pod", "bare", "-o", "yaml"), cli.ok("get", "rs", "web", "-o", "yaml")
        assert yaml.safe_load(pod)["status"]["phase"] == "Running"
        assert apply(cli, pod) in ("pod/bare unchanged\n", "pod/bare configured\n")
        apply(cli, a_set)
        # What was applied is by now what get prints, defaults included.
        assert apply(cli, cli.ok("get", "pod", "bare", "-o", "yaml")) == "pod/bare unchanged\n"
        assert apply(cli, cli.ok("get", "rs", "web", "-o", "yaml")) == "replicaset.apps/web unchanged\n"
        assert uids(of_web(cli)) == before
        assert pod_of(cli, "bare")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_wait_ends_when_it_is_so_and_not_before(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, manifest(cli, box(SLEEP, readinessProbe=GATED)))
        until_container(cli, lambda status: "running" in status["state"])
        late = cli.run("wait", "pod/test", "--for=condition=Ready", "--timeout=0.2s")
        assert late.returncode == 1 and late.stdout == ""
        assert late.stderr.startswith("pyrun: timed out waiting for the condition on pod/test")
        with waiting(cli, "pod/test", "--for=condition=Ready", f"--timeout={30 * SLOW:g}s") as process:
            cli.ok("exec", "test", "--", "touch", "/tmp/ready")
            assert process.wait(30 * SLOW) == 0
            assert process.stdout is not None and process.stdout.read() == "pod/test condition met\n"
        assert condition(pod_of(cli), "Ready")
        with waiting(cli, "pod/test", "--for=delete", f"--timeout={30 * SLOW:g}s") as process:
            cli.ok("delete", "pod", "test", "--grace-period=0")
            assert process.wait(30 * SLOW) == 0
        assert pod_of(cli) is None


def test_events_are_told_as_they_happen_and_only_of_what_was_asked_for(cli: Cli) -> None:
    with supervising(cli), left_running(cli, "events", "-f", "--for", "pod/test") as out:
        apply(cli, manifest(cli, box("exit 3"), annotations=QUICK))
        apply(cli, manifest(cli, box("exit 4"), name="other", annotations=QUICK))
        until_container(cli, lambda status: status["restartCount"] >= 1)
        until_container(cli, lambda status: status["restartCount"] >= 1, name="other")
        eventually(lambda: "attempt 0 ended with exit code 3" in out.read_text())
        told = out.read_text()
        assert "pod/test[c0]: Started container c0 (attempt 0)" in told
        assert "pod/other" not in told


def test_a_watch_goes_on_with_what_changes(cli: Cli) -> None:
    with supervising(cli), left_running(cli, "get", "pods", "-w") as out:
        apply(cli, manifest(cli, box(SLEEP, readinessProbe=GATED), terminationGracePeriodSeconds=0))
        eventually(lambda: "0/1" in out.read_text())
        until_container(cli, lambda status: "running" in status["state"])
        cli.ok("exec", "test", "--", "touch", "/tmp/ready")
        eventually(lambda: "1/1" in out.read_text(), 20)
        cli.ok("delete", "pod", "test")
        eventually(lambda: "Deleted" in out.read_text(), 20)
    text = out.read_text()
    assert text.count("NAME") == 1
    shown = [line.split()[:3] for line in text.splitlines()]
    assert all(one != next_one for one, next_one in pairwise(shown)), text


def test_describe_says_all_that_is_known(cli: Cli) -> None:
    with supervising(cli):
        container = box(
            "echo gone > /dev/termination-log; exit 5",
            startupProbe={"tcpSocket": {"port": 80}, "failureThreshold": 7},
            readinessProbe={"httpGet": {"path": "/ready", "port": 8080}, "timeoutSeconds": 2},
            livenessProbe={"exec": {"command": ["cat", "/a b"]}},
            lifecycle={"preStop": {"sleep": {"seconds": 1}}},
        )
        apply(cli, manifest(cli, container, annotations=SLOW_BACKOFF, shareProcessNamespace=True))
        until_container(cli, in_back_off)
        text = cli.ok("describe", "pod", "test")
    for part in (
        "Startup:          tcp-socket :80 delay=0s timeout=1s period=10s #success=1 #failure=7",
        "Readiness:        http-get http://:8080/ready delay=0s timeout=2s",
        "Liveness:         exec [cat '/a b']",
        "PreStop:          sleep 1s",
        "State:            Waiting",
        "Reason:           CrashLoopBackOff",
        "Last State:       Terminated",
        "Reason:           Error",
        "Message:          gone",
        "Exit Code:        5",
        "Restart Count:    1",
        "PID 1 is pause",
        "Conditions:",
        "Started container c0 (attempt 0)",
        "Started container c0 (attempt 1): attempt 0 ended with exit code 5",
    ):
        assert part in text, f"{part!r} is not in\n{text}"


def test_scaling_on_a_condition(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, replica_set(cli, 1))
        wrong = cli.run("scale", "rs", "web", "--replicas=3", "--current-replicas=2")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert "web shall have 1 replicas, not 2" in wrong.stderr
        ready(cli, 1)
        assert cli.ok("scale", "rs/web", "--replicas=3", "--current-replicas=1") == (
            "replicaset.apps/web scaled\n"
        )
        ready(cli, 3)
        assert cli.run("scale", "rs", "web", "--replicas=-1").returncode == 2


def test_deleting_by_file_by_label_and_leaving_orphans(cli: Cli) -> None:
    with supervising(cli):
        first = json.loads(manifest(cli, box(SLEEP), name="first", terminationGracePeriodSeconds=0))
        first["metadata"]["labels"] = {"tier": "x"}
        second = manifest(cli, box(SLEEP), name="second", terminationGracePeriodSeconds=0)
        apply(cli, stream(json.dumps(first), second, replica_set(cli, 2)))
        orphans = uids(ready(cli, 2))
        assert cli.ok("delete", "pods", "-l", "tier=x") == 'pod "first" deleted\n'
        assert pod_of(cli, "first") is None and pod_of(cli, "second") is not None
        assert cli.ok("delete", "rs", "web", "--cascade=orphan") == 'replicaset.apps "web" deleted\n'
        assert cli.run("get", "rs", "web").returncode == 1
        assert uids(of_web(cli)) == orphans
        apply(cli, replica_set(cli, 2))
        assert uids(ready(cli, 2)) == orphans
        text = stream(second, replica_set(cli, 2))
        assert cli.ok("delete", "-f", "-", stdin=text).splitlines() == [
            'pod "second" deleted',
            'replicaset.apps "web" deleted',
        ]
        assert cli.ok("get", "all", "-o", "name") == ""


def test_a_bad_document_keeps_the_good_ones_from_being_applied(cli: Cli) -> None:
    bad = json.loads(replica_set(cli, -1))
    bad["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    bad["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    bad["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = {
        "tcpSocket": {"port": 1},
        "exec": {"command": ["true"]},
    }
    result = cli.run("apply", "-f", "-", stdin=stream(manifest(cli, box(SLEEP)), json.dumps(bad)))
    assert (result.returncode, result.stdout) == (2, "")
    for path in (
        "spec.replicas",
        "spec.template.metadata.labels",
        "spec.template.spec.restartPolicy",
        "spec.template.spec.containers[0].livenessProbe",
    ):
        assert f"document 2 (ReplicaSet web): {path}" in result.stderr
    assert "supervisor" not in result.stderr
    assert cli.ok("get", "all", "-o", "name") == ""


def test_a_pod_cannot_become_another_one(cli: Cli) -> None:
    with supervising(cli):
        text = manifest(cli, box(SLEEP))
        apply(cli, text)
        result = cli.run("apply", "-f", "-", stdin=text.replace("sleep 100000", "sleep 200000"))
        assert result.returncode == 2
        assert "spec.containers[0].command[2]: cannot change from" in result.stderr
        assert "delete the Pod and apply it again" in result.stderr
        image = cli.run("apply", "-f", "-", stdin=text.replace('"busybox"', '"other:2"'))
        assert image.returncode == 2
        assert 'spec.containers[0].image: cannot change from "busybox" to "other:2"' in image.stderr
        assert "unchanged" in apply(cli, text)


def test_one_broken_record_hides_no_other_pod(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, manifest(cli, box(SLEEP), name="whole"))
        apply(cli, manifest(cli, box(SLEEP), name="broken"))
        cli.ok("wait", "pod/whole", "pod/broken", "--for=condition=Ready")
        uid = pod_of(cli, "broken")["metadata"]["uid"]
    for name in ("sandbox.json", "pod.json"):
        path = Path(cli.layout.pod_state(uid)) / name
        good = path.read_bytes()
        path.write_bytes(b"{")
        for command in (("get", "pods"), ("pod", "ls"), ("get", "pods", "-o", "name")):
            result = cli.run(*command)
            assert result.returncode == 0
            assert "whole" in result.stdout and "broken" in result.stdout
            assert result.stderr.count(str(path)) == 1, result.stderr
        assert pod_of(cli, "broken")["status"]["phase"] == "Unknown"
        gone = cli.run("wait", "pod/broken", "--for=delete", "--timeout=0")
        assert gone.returncode == 1
        path.write_bytes(good)
    assert cli.run("get", "pods").stderr == ""


def test_a_pod_removed_by_hand_is_replaced_in_a_set_and_gone_when_it_was_applied(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, stream(manifest(cli, box(SLEEP), name="bare"), replica_set(cli, 1)))
        [old] = ready(cli, 1)
        cli.ok("wait", "pod/bare", "--for=condition=Ready")
        cli.ok("pod", "rm", "-f", "bare", old["metadata"]["name"])
        eventually(lambda: uids(of_web(cli)) - uids([old]), 20)
        ready(cli, 1)
        assert pod_of(cli, "bare") is None
        cli.ok("delete", "rs", "web")
        assert cli.ok("get", "all", "-o", "name") == ""


def test_a_detached_supervisor_keeps_nothing_of_its_starter_open(cli: Cli) -> None:
    """Who reads a pipe that the starter had open comes to its end, although the supervisor lives on."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec 7>&1; {' '.join(cli.command)} supervise --detach >/dev/null 2>&1"],
        env=cli.environment,
        stdout=subprocess.PIPE,
    )
    out, _ = process.communicate(timeout=30 * SLOW)
    assert (out, process.returncode) == (b"", 0)
    assert cli.ok("supervise", "--stop") == "the supervisor has ended; Pods go on\n"


def why(cli: Cli, name: str = "test") -> tuple[list[str], str, str]:
    """Return what `pod why` says: the moments, the cause, the next command (empty: none)."""
    *moments, last = cli.ok("pod", "why", name).splitlines()
    if last.startswith("Next: "):
        return moments[:-2], moments[-1], last.removeprefix("Next: ")
    return moments[:-1], last, ""


def test_why_of_a_crash_loop(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, manifest(cli, box("echo no > /dev/termination-log; exit 3"), annotations=SLOW_BACKOFF))
        until_container(
            cli,
            lambda s: s["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" or None,
            timeout=30,
        )
        moments, cause, command = why(cli)
        assert cause.startswith(
            'Container "c0" ended with exit code 3 and left the message "no"; it has ended'
        )
        assert cause.endswith("waits to be started again.")
        assert any("! c0  ended with exit code 3" in line for line in moments)
        assert any("BackOff: back-off 1m40s" in line or "BackOff: back-off 100s" in line for line in moments)
        assert command == "pyrun logs test -c c0"
        cli.ok(*command.split()[1:])


def test_why_of_a_failed_liveness_probe(cli: Cli) -> None:
    with supervising(cli):
        probe = {"exec": {"command": ["cat", "/no/such"]}, "periodSeconds": 1, "failureThreshold": 1}
        text = manifest(
            cli, box(SLEEP, livenessProbe=probe), annotations=SLOW_BACKOFF, terminationGracePeriodSeconds=0
        )
        apply(cli, text)
        until_container(
            cli,
            lambda s: s["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" or None,
            timeout=40,
        )
        moments, cause, _ = why(cli)
        assert cause.startswith(
            'Container "c0" was ended because its liveness probe failed (exit code 1: cat:'
        )
        assert any("! c0  Unhealthy: Liveness probe failed" in line for line in moments)


def test_why_of_a_missing_image(cli: Cli) -> None:
    with supervising(cli):
        value = json.loads(manifest(cli, box(SLEEP)))
        value["metadata"]["annotations"] = {}
        value["spec"]["containers"][0] |= {"image": "localhost/none:1", "imagePullPolicy": "Never"}
        apply(cli, json.dumps(value))
        eventually(lambda: "localhost/none:1" in why(cli)[1], 20)
        _, cause, command = why(cli)
        assert cause.startswith("Pod test was applied and has not been made yet")
        assert "pyrun image pull localhost/none:1" in cause and command == "pyrun events --for test"


def test_why_of_a_killed_monitor(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(manifest(cli, box(SLEEP), annotations=QUICK))
        record = init_of(cli, uid)
        kill(json.loads(cli.ok("pod", "inspect", "test"))["containers"][0]["monitor"]["pid"])
        until_container(cli, lambda s: s["restartCount"] == 1 and "running" in s["state"])
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        assert not record.alive()
        moments, cause, _ = why(cli)
        assert cause == (
            'Pod test runs and is ready; restart 1: container "c0" was ended by the end of its monitor, '
            "which somebody killed."
        )
        assert any("its monitor with it" in line for line in moments)


def test_why_of_a_killed_pause(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(manifest(cli, box(SLEEP), annotations=QUICK))
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        kill(pause_of(cli, uid).pid)
        until_container(cli, lambda s: s["restartCount"] == 1 and "running" in s["state"])
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        moments, cause, _ = why(cli)
        assert 'container "c0" was ended because the sandbox of the Pod was made anew' in cause
        assert any("SandboxChanged" in line for line in moments)


def test_why_of_a_deadline(cli: Cli) -> None:
    with supervising(cli):
        text = manifest(
            cli,
            box(SLEEP),
            restartPolicy="Never",
            activeDeadlineSeconds=1,
            terminationGracePeriodSeconds=0,
        )
        apply(cli, text)
        until_pod(cli, lambda pod: pod["status"]["phase"] == "Failed")
        moments, cause, command = why(cli)
        assert cause == (
            "Pod test was ended because it was active for longer than its activeDeadlineSeconds, 1 s."
        )
        assert any("DeadlineExceeded" in line for line in moments) and command == "pyrun logs test"


def test_why_says_that_nobody_looks_after_a_pod(cli: Cli) -> None:
    cli.create(manifest(cli, box(SLEEP)), "--no-supervise")
    assert why(cli)[1:] == (
        "Pod test runs and is ready; nothing is wrong with it; no supervisor runs.",
        "pyrun supervise --detach",
    )
