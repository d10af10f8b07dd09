"""Limits of storage against the real kernel: who writes too much is evicted, and nobody else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.usage import disk_usage, measure
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, init_of
from tests.e2e.supervision import (
    condition,
    container_of,
    manifest,
    pod_of,
    pods_of,
    reasons,
    replica_set,
    supervising,
    until_pod,
)

pytestmark = pytest.mark.requires("pods", "busybox")

SLEEP = "exec sleep 100000"
CACHE = {"name": "cache", "emptyDir": {"sizeLimit": "5Mi"}}
MOUNT = {"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}


@pytest.fixture(autouse=True)
def _often(cli: Cli) -> None:
    cli.environment["PYRUN_STORAGE_PERIOD"] = "0.2"


def write(path: str, mebibytes: int) -> str:
    return f"dd if=/dev/urandom of={path} bs=1M count={mebibytes} 2>/dev/null"


def limit(amount: str) -> dict[str, Any]:
    return {"resources": {"limits": {"ephemeral-storage": amount}}}


def failed(pod: Any) -> Any:
    return pod["status"] if pod["status"]["phase"] == "Failed" else None


CASES: dict[str, tuple[tuple[dict[str, Any], ...], dict[str, Any], str]] = {
    "emptyDir": (
        (box(f"{write('/cache/f', 8)}; {SLEEP}", **MOUNT),),
        {"volumes": [CACHE]},
        'Usage of EmptyDir volume "cache" exceeds the limit "5Mi". ',
    ),
    "layer": (
        (box(f"{write('/f', 6)}; {SLEEP}", **limit("5Mi")), box(SLEEP, "c1")),
        {},
        'Container c0 exceeded its local ephemeral storage limit "5Mi". ',
    ),
    "logs": (
        (box("exec yes 'a line of a log without an end'", **limit("5Mi")),),
        {},
        'Container c0 exceeded its local ephemeral storage limit "5Mi". ',
    ),
    "whole": (
        (
            box(f"{write('/f', 3)}; {SLEEP}", **limit("4Mi")),
            box(f"{write('/cache/f', 6)}; {SLEEP}", "c1", **limit("4Mi"), **MOUNT),
        ),
        {"volumes": [{"name": "cache", "emptyDir": {}}]},
        "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. ",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_who_writes_too_much_is_evicted_for_good(cli: Cli, case: str) -> None:
    containers, fields, message = CASES[case]
    with supervising(cli):
        # A Pod's own grace is not waited for: this one takes no notice of a signal.
        stubborn = box("trap '' TERM; while :; do sleep 0.1; done", "stubborn")
        if case not in ("whole", "logs"):
            containers = (*containers, stubborn)
        cli.create(manifest(cli, *containers, terminationGracePeriodSeconds=1000, **fields))
        status = until_pod(cli, failed, timeout=30)
        assert (status["reason"], status["message"]) == ("Evicted", message)
        assert all("terminated" in one["state"] for one in status["containerStatuses"])
        assert all(one["restartCount"] == 0 for one in status["containerStatuses"])
        assert "Evicted" in cli.ok("get", "pods").split()
    events = json.loads(cli.ok("get", "events", "-o", "json"))["items"]
    found = [(e["type"], e["message"]) for e in events if e["reason"] == "Evicted"]
    assert found == [("Warning", message)]
    assert f"Pod test was evicted: {message.rstrip()}" in cli.ok("pod", "why", "test")


def test_below_its_limits_a_pod_goes_on_beside_one_that_is_evicted(cli: Cli) -> None:
    with supervising(cli):
        good = box(f"{write('/cache/f', 3)}; {write('/f', 1)}; {SLEEP}", **limit("8Mi"), **MOUNT)
        uid = cli.create(manifest(cli, good, name="good", volumes=[CACHE]))
        directory = PodDirectory(cli.layout, uid)
        record = directory.record()
        assert record is not None
        spec = record.pod.spec
        eventually(lambda: measure(directory, spec).total() >= 4 << 20)
        process = init_of(cli, uid)
        bad = box(f"{write('/cache/f', 8)}; {SLEEP}", **MOUNT)
        cli.create(manifest(cli, bad, name="bad", volumes=[CACHE]))
        until_pod(cli, failed, "bad", timeout=30)
        assert process.alive()
        assert condition(pod_of(cli, "good"), "Ready")
        assert container_of(cli, name="good")["restartCount"] == 0
        # The limit is kept from the first byte above it on.
        cli.ok("exec", "good", "--", "sh", "-c", write("/cache/more", 3))
        assert until_pod(cli, failed, "good", timeout=30)["message"].startswith("Usage of EmptyDir volume")
    assert reasons(cli, "good").count("Evicted") == 1


def test_a_new_supervisor_goes_on_measuring(cli: Cli) -> None:
    """It may be killed with its worker at any time; what is over the limit by then is evicted by the next."""
    with supervising(cli) as process:
        cli.create(manifest(cli, box(SLEEP, **MOUNT), volumes=[CACHE]))
        until_pod(cli, lambda pod: condition(pod, "Ready"))
        process.kill()
        process.wait()
    cli.ok("exec", "test", "--", "sh", "-c", write("/cache/f", 8))
    assert failed(pod_of(cli)) is None
    with supervising(cli):
        assert until_pod(cli, failed, timeout=30)["reason"] == "Evicted"


def test_a_replica_set_replaces_who_is_evicted_and_takes_it_away(cli: Cli) -> None:
    with supervising(cli):
        text = replica_set(cli, 2, box(SLEEP, **MOUNT), volumes=[CACHE])
        cli.ok("apply", "-f", "-", stdin=text)
        first = eventually(lambda: _ready(cli), 30)
        uid = min(first)
        cli.ok("exec", uid, "--", "sh", "-c", write("/cache/f", 8))
        second = eventually(lambda: found if (found := _ready(cli)) and uid not in found else None, 30)
        assert len(first & second) == 1
        eventually(lambda: {pod["metadata"]["uid"] for pod in pods_of(cli)} == second, 30)
        assert uid not in {path.name for path in (cli.root / "pods").iterdir()}
        events = json.loads(cli.ok("get", "events", "-o", "json"))["items"]
        assert [e["involvedObject"]["uid"] for e in events if e["reason"] == "Evicted"] == [uid]
        cli.ok("delete", "rs", "web", "--wait")


def _ready(cli: Cli) -> set[str] | None:
    """The uids of both replicas, when both are ready."""
    found = {pod["metadata"]["uid"] for pod in pods_of(cli, "-l", "app=web") if condition(pod, "Ready")}
    return found if len(found) == 2 else None


def test_another_file_system_is_not_entered(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    before = disk_usage(str(tmp_path))
    subprocess.run(["mount", "-t", "tmpfs", "none", str(below)], check=True)
    try:
        (below / "file").write_bytes(bytes(1 << 20))
        assert disk_usage(str(below)) >= 1 << 20
        assert disk_usage(str(tmp_path)) <= before
    finally:
        subprocess.run(["umount", str(below)], check=True)
