"""Probes through a whole Pod: what they do to readiness, restarts and start order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, in_root, init_of, processes_below
from tests.e2e.supervision import (
    QUICK,
    condition,
    container_of,
    manifest,
    reasons,
    restarts,
    supervising,
    until_container,
    until_pod,
)

pytestmark = pytest.mark.requires("pods")

SLEEP = "exec sleep 100000"
FAST = {"periodSeconds": 1, "failureThreshold": 1}


def check(path: str, **timing: Any) -> dict[str, Any]:
    return {"exec": {"command": ["test", "-e", path]}, **FAST, **timing}


def test_readiness_follows_the_probe(cli: Cli) -> None:
    with supervising(cli):
        uid = cli.create(manifest(cli, box(SLEEP, readinessProbe=check("/tmp/ready"))))
        assert not container_of(cli)["ready"]
        path = in_root(init_of(cli, uid), "/tmp/ready")
        path.touch()
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        path.unlink()
        until_pod(cli, lambda pod: not condition(pod, "Ready"))
        assert "Unhealthy" in reasons(cli)
        assert container_of(cli)["restartCount"] == 0


def test_create_waits_until_it_is_ready(cli: Cli) -> None:
    with supervising(cli):
        script = "sleep 1; touch /tmp/ready; exec sleep 100000"
        cli.create(
            manifest(cli, box(script, readinessProbe=check("/tmp/ready"))), "--wait=ready", "--timeout=60"
        )
        assert container_of(cli)["ready"]


def test_a_failed_liveness_restarts_the_container(cli: Cli) -> None:
    with supervising(cli):
        probe = check("/tmp/alive", terminationGracePeriodSeconds=1, initialDelaySeconds=1)
        script = "touch /tmp/alive; sleep 2; rm /tmp/alive; exec sleep 100000"
        cli.create(manifest(cli, box(script, livenessProbe=probe), annotations=QUICK))
        status = until_container(cli, restarts(1), timeout=30)
        assert status["lastState"]["terminated"]["signal"] in (9, 15)
        assert "Unhealthy" in reasons(cli)
        assert "Killing" in reasons(cli)


def test_startup_comes_before_the_others(cli: Cli) -> None:
    """A slow starter is not killed by its liveness probe, and not ready, until its startup probe has passed."""
    with supervising(cli):
        uid = cli.create(
            manifest(
                cli,
                box(
                    SLEEP,
                    startupProbe=check("/tmp/started", failureThreshold=100),
                    livenessProbe=check("/tmp/started"),
                    readinessProbe=check("/"),
                ),
            )
        )
        eventually(lambda: not container_of(cli)["started"])
        in_root(init_of(cli, uid), "/tmp/started").touch()
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        status = container_of(cli)
        assert status["started"] and status["restartCount"] == 0


def test_a_startup_probe_that_gives_up_kills(cli: Cli) -> None:
    with supervising(cli):
        cli.create(
            manifest(
                cli,
                box(SLEEP, startupProbe=check("/never", failureThreshold=1)),
                annotations=QUICK,
                terminationGracePeriodSeconds=0,
            )
        )
        until_container(cli, lambda s: s["restartCount"] >= 1, timeout=30)


@pytest.mark.parametrize(
    "action",
    [{"httpGet": {"port": "web", "path": "/index.html"}}, {"tcpSocket": {"port": 8080}}],
    ids=["http", "tcp"],
)
def test_sockets_are_probed_in_the_pods_network(cli: Cli, action: dict[str, Any]) -> None:
    with supervising(cli):
        script = "mkdir /tmp/w; echo hi > /tmp/w/index.html; sleep 1; exec httpd -f -p 8080 -h /tmp/w"
        cli.create(
            manifest(
                cli,
                box(
                    script,
                    ports=[{"name": "web", "containerPort": 8080}],
                    readinessProbe={**action, "periodSeconds": 1},
                ),
            )
        )
        until_pod(cli, lambda pod: condition(pod, "Ready"))


def test_a_timed_out_exec_probe_is_killed_with_its_children(cli: Cli) -> None:
    with supervising(cli):
        command = ["sh", "-c", "setsid sleep 31415 & sleep 31415"]
        probe = {
            "exec": {"command": command},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 1000,
        }
        uid = cli.create(manifest(cli, box(SLEEP, readinessProbe=probe)))
        eventually(lambda: "Unhealthy" in reasons(cli), 30)
        cli.ok("supervise", "--stop")
        leaf = Path(cli.inspect(uid)["cgroup"]) / "ctr-c0"
        eventually(lambda: len(processes_below(str(leaf))) == 1)


def test_a_hanging_target_holds_up_nobody(cli: Cli) -> None:
    """A probe whose target accepts and never answers, beside a container that comes back at once."""
    with supervising(cli):
        hang = "exec nc -lk -p 9000 -e sleep 1000"
        probe = {"httpGet": {"port": 9000}, "periodSeconds": 1, "timeoutSeconds": 3600}
        cli.create(manifest(cli, box(hang, readinessProbe=probe), box("exit 1", "c1"), annotations=QUICK))
        until_container(cli, lambda s: s["restartCount"] >= 3, "c1")
        assert not container_of(cli)["ready"]


def test_a_paused_container_is_not_killed_by_its_probe(cli: Cli) -> None:
    with supervising(cli):
        cli.create(
            manifest(cli, box(SLEEP, livenessProbe=check("/")), box("exit 1", "c1"), annotations=QUICK)
        )
        until_pod(cli, lambda pod: pod["status"]["containerStatuses"][0]["started"])
        cli.ok("pod", "pause", "test")
        cli.create(manifest(cli, box("exit 1"), name="clock", annotations=QUICK))
        until_container(cli, lambda s: s["restartCount"] >= 8, name="clock", timeout=40)
        cli.ok("pod", "unpause", "test")
        until_container(cli, lambda s: "running" in s["state"] or None)
        assert container_of(cli)["restartCount"] == 0
