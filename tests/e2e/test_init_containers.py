"""Init containers and sidecars through a whole Pod."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, monitor_of, output, pause_of
from tests.e2e.supervision import (
    QUICK,
    condition,
    container_of,
    kill,
    manifest,
    pod_of,
    restarts,
    supervising,
    until_container,
    until_pod,
)

pytestmark = pytest.mark.requires("pods")

SLEEP = "exec sleep 100000"
SHARED = {"volumes": [{"name": "v", "emptyDir": {}}]}
MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}


def pod(cli: Cli, init: list[dict[str, Any]], *containers: dict[str, Any], **spec: Any) -> str:
    roots = {f"rootfs.pyrun.io/{c['name']}": str(cli.rootfs) for c in init}
    spec = {"terminationGracePeriodSeconds": 1} | spec
    return manifest(cli, *containers, annotations=QUICK | roots, initContainers=init, **spec)


def sidecar(script: str, name: str, **fields: Any) -> dict[str, Any]:
    return box(script, name, restartPolicy="Always", **fields)


def test_they_run_one_after_the_other_and_first(cli: Cli) -> None:
    with supervising(cli):
        init = [box(f"sleep 0.3; echo {n} >> /v/order", f"i{n}", **MOUNT) for n in range(3)]
        uid = cli.create(
            pod(cli, init, box(f"echo app >> /v/order; cat /v/order; {SLEEP}", **MOUNT), **SHARED)
        )
        until_pod(cli, lambda p: condition(p, "Ready"))
        assert output(cli, uid).split() == ["0", "1", "2", "app"]
        statuses = pod_of(cli)["status"]["initContainerStatuses"]
        assert [s["state"]["terminated"]["reason"] for s in statuses] == ["Completed"] * 3


def test_one_that_fails_is_tried_again_and_holds_up_the_rest(cli: Cli) -> None:
    with supervising(cli):
        script = "test -e /v/again || { touch /v/again; exit 9; }"
        cli.create(pod(cli, [box(script, "i0", **MOUNT)], box(SLEEP, **MOUNT), **SHARED))
        until_pod(cli, lambda p: condition(p, "Ready"))
        status = container_of(cli, "i0")
        assert status["restartCount"] == 1
        assert status["lastState"]["terminated"]["exitCode"] == 9


def test_one_that_fails_under_never_fails_the_pod(cli: Cli) -> None:
    with supervising(cli):
        cli.create(pod(cli, [box("exit 9", "i0")], box(SLEEP), restartPolicy="Never"))
        until_pod(cli, lambda p: p["status"]["phase"] == "Failed")
        assert container_of(cli)["state"]["waiting"]["reason"] == "PodInitializing"


def test_without_a_supervisor_the_command_runs_them(cli: Cli) -> None:
    cli.create(pod(cli, [box("echo done", "i0")], box(SLEEP), restartPolicy="Never"), "--no-supervise")
    assert "running" in container_of(cli)["state"]


def test_a_sidecar_gates_the_start_and_outlives_the_application(cli: Cli) -> None:
    """It starts first, holds the application until it has started, comes back, and is stopped last."""
    with supervising(cli):
        probe = {"exec": {"command": ["test", "-e", "/v/up"]}, "periodSeconds": 1, "failureThreshold": 100}
        side = sidecar(f"sleep 1; touch /v/up; {SLEEP}", "s0", startupProbe=probe, **MOUNT)
        uid = cli.create(pod(cli, [side], box(f"ls /v; {SLEEP}", **MOUNT), restartPolicy="Never", **SHARED))
        until_pod(cli, lambda p: condition(p, "Ready"), timeout=30)
        assert output(cli, uid).split() == ["up"]
        kill(monitor_of(cli, uid, "s0").pid)
        until_container(cli, restarts(1), "s0")
        assert container_of(cli)["restartCount"] == 0


def test_a_sidecar_does_not_keep_a_finished_pod_alive(cli: Cli) -> None:
    with supervising(cli):
        cli.create(pod(cli, [sidecar(SLEEP, "s0")], box("sleep 0.5"), restartPolicy="Never"))
        until_pod(cli, lambda p: p["status"]["phase"] == "Succeeded", timeout=30)
        eventually(lambda: "terminated" in container_of(cli, "s0")["state"], 30)


def test_a_new_sandbox_runs_them_again(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(pod(cli, [box("echo x >> /v/runs", "i0", **MOUNT)], box(SLEEP, **MOUNT), **SHARED))
        until_pod(cli, lambda p: condition(p, "Ready"))
        kill(pause_of(cli, uid).pid)
        until_container(cli, restarts(1), timeout=30)
        assert cli.ok("exec", uid, "-c", "c0", "--", "cat", "/v/runs").split() == ["x", "x"]
