"""A supervisor beside the test, and what tests of supervised Pods ask of an instance."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pyrun.controllers.running import supervisor
from tests.e2e import observe
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box

T = TypeVar("T")

QUICK = {"pyrun.io/backoff-initial": "50ms", "pyrun.io/backoff-max": "200ms"}
"""Annotations of a Pod that comes back at once."""


@contextlib.contextmanager
def supervising(cli: Cli, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a supervisor in the foreground for the block; it is stopped at its end."""
    log = cli.directory / "supervisor.out"
    with log.open("a") as out:
        process = subprocess.Popen(
            [*cli.command, "supervise", *arguments], env=cli.environment, stdout=out, stderr=out, text=True
        )
    try:
        eventually(lambda: (found := supervisor(cli.layout)) is not None and found.pid == process.pid)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10 * SLOW)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        text = log.read_text()
        assert "Traceback" not in text, text


def pod_of(cli: Cli, name: str = "test") -> Any:
    """Return a Pod as `get pods` shows it, None when there is none."""
    result = cli.run("get", "pods", name, "-o", "json")
    return json.loads(result.stdout) if result.returncode == 0 else None


def pods_of(cli: Cli, *selector: str) -> list[Any]:
    """Return all Pods as `get pods` lists them."""
    items: list[Any] = json.loads(cli.ok("get", "pods", "-o", "json", *selector))["items"]
    return items


def container_of(cli: Cli, container: str = "c0", name: str = "test") -> Any:
    """Return the status of a container, an init container too."""
    pod = pod_of(cli, name)
    found = _container_in(pod, container)
    assert found is not None, f"no container {container} in {pod}"
    return found


def _container_in(pod: Any, container: str) -> Any:
    status = {} if pod is None else pod["status"]
    for found in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if found["name"] == container:
            return found
    return None


def condition(pod: Any, kind: str) -> bool:
    """Whether a condition of a Pod is True."""
    return any(c["type"] == kind and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def until_pod(cli: Cli, check: Callable[[Any], T | None], name: str = "test", timeout: float = 20) -> T:
    """Wait until `check` of a Pod gives something; return it."""

    def look() -> T | None:
        pod = pod_of(cli, name)
        return None if pod is None else check(pod)

    return eventually(look, timeout)


def until_container(
    cli: Cli, check: Callable[[Any], T | None], container: str = "c0", name: str = "test", timeout: float = 20
) -> T:
    """Wait until `check` of a container's status gives something; return it. What was applied comes to be first."""

    def look() -> T | None:
        status = _container_in(pod_of(cli, name), container)
        return None if status is None else check(status)

    return eventually(look, timeout)


def restarts(count: int) -> Callable[[Any], Any]:
    """Return a check: a container has been started again that often, and runs."""
    return lambda status: status if status["restartCount"] >= count and "running" in status["state"] else None


def reasons(cli: Cli, pod: str = "test") -> list[str]:
    """Return the reasons of the events of a Pod, oldest first."""
    events = json.loads(cli.ok("get", "events", "-o", "json"))["items"]
    return [event["reason"] for event in events if event["involvedObject"]["name"] == pod]


def manifest(cli: Cli, *containers: dict[str, Any], **fields: Any) -> str:
    """Return the manifest of `observe.manifest` with Kubernetes' own default, restartPolicy Always."""
    return observe.manifest(cli, *containers, **{"restartPolicy": "Always", **fields})


def replica_set(cli: Cli, replicas: int, *containers: dict[str, Any], name: str = "web", **spec: Any) -> str:
    """Return the manifest of a ReplicaSet of busybox containers; `spec` are fields of the template's spec."""
    containers = containers or (box("exec sleep 100000"),)
    pod = json.loads(manifest(cli, *containers, annotations=QUICK, **spec))
    template = {
        "metadata": {"labels": {"app": name}, "annotations": pod["metadata"]["annotations"]},
        "spec": pod["spec"] | {"terminationGracePeriodSeconds": 0},
    }
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": template,
            },
        }
    )


def kill(pid: int, number: int = 9) -> None:
    """Send a signal to a process of a Pod that this test has made."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def is_still(pid: int) -> bool:
    """Whether a process does not wake up for a while."""
    before = _switches(pid)
    time.sleep(1.5)
    return _switches(pid) == before


def _switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)
