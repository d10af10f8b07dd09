"""`pyrun stats` of live Pods."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrun.cgroups import files
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, run_pod, wait_for_output
from tests.e2e.test_terminal import terminal

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 1000"
SPIN = "echo ready; while :; do :; done"


@pytest.fixture(scope="module")
def busy(module_cli: Cli) -> Iterator[Cli]:
    """A Pod of a container that spins and one that sleeps; the tests only look at it."""
    uid = run_pod(module_cli, box(SPIN), box(SLEEP, name="c1"), name="busy")
    wait_for_output(module_cli, uid, "ready\n")
    yield module_cli
    module_cli.ok("pod", "rm", "-f", "busy")


def stats(cli: Cli, *arguments: str) -> list[Any]:
    items: list[Any] = json.loads(cli.ok("stats", "-o", "json", *arguments))["items"]
    return items


def usages(pod: Any) -> dict[str, Any]:
    return {container["name"]: container["usage"] for container in pod["containers"]}


def test_cpu_of_each_container_and_of_the_pod(busy: Cli) -> None:
    (pod,) = stats(busy, "busy")
    of = usages(pod)
    assert (pod["name"], pod["namespace"], pod["running"]) == ("busy", "default", True)
    assert list(of) == ["c0", "c1"]
    assert of["c0"]["cpu"] > 0
    assert of["c1"]["cpu"] < of["c0"]["cpu"] <= os.cpu_count()
    assert pod["usage"]["cpu"] >= of["c0"]["cpu"] * 0.5


def test_what_no_controller_counts_is_unknown_and_said_once(busy: Cli) -> None:
    has = files.controllers(busy.inspect("busy")["cgroup"])
    (pod,) = stats(busy, "busy", "--interval", "0.1")
    lacking = [name for name in ("cpu", "memory", "pids", "io") if name not in has]
    assert [name for name in pod["missing"] if name != "pressure"] == lacking
    assert (pod["usage"]["memory"] is None) == ("memory" in lacking)
    assert (pod["usage"]["pids"] is None) == ("pids" in lacking)
    lines = busy.ok("stats", "--interval", "0.1", "busy").splitlines()
    said = [line for line in lines if "no cgroup controller" in line]
    assert len(said) == bool(lacking)
    for line in said:
        assert f"no cgroup controller for {', '.join(lacking)} here" in line


def test_the_table(busy: Cli) -> None:
    header, pod, first, second, *_ = busy.ok("stats", "--interval", "0.2").splitlines()
    assert header.split()[:3] == ["POD", "CONTAINER", "CPU"]
    assert pod.split()[0] == "busy"
    assert (first.split()[0], second.split()[0]) == ("c0", "c1")
    assert first.split()[1].endswith("m")


def test_on_a_terminal_the_table_is_drawn_anew_in_its_place(busy: Cli) -> None:
    with terminal(busy, "stats", "--watch", "--interval", "0.1", "busy") as screen:
        for _ in range(3):
            screen.wait_for(b"\033[H\033[J")
            screen.wait_for(b"busy")
        screen.type(b"\x03")
        assert screen.end() == 130


def test_the_network_of_a_pod(cli: Cli) -> None:
    """What a Pod sends to a neighbour is counted, of both; its containers share it."""
    server = run_pod(cli, box("while :; do nc -l -p 80 >/dev/null; done"), name="server")
    address = cli.inspect(server)["status"]["podIP"]
    talk = f"while :; do head -c 100000 /dev/zero | nc {address} 80; sleep 0.05; done"
    run_pod(cli, box(talk), name="client")

    def rates() -> tuple[float, float] | None:
        of = {pod["name"]: pod["usage"] for pod in stats(cli, "--interval", "0.5")}
        sent, received = of["client"]["sentBytesPerSecond"], of["server"]["receivedBytesPerSecond"]
        return (sent, received) if sent > 10_000 and received > 10_000 else None

    eventually(rates, 30)
    (container,) = stats(cli, "client", "--interval", "0.1")[0]["containers"]
    assert container["usage"]["sentBytesPerSecond"] is None
    text = cli.ok("stats", "--prometheus", "client")
    lines = [line for line in text.splitlines() if line.startswith("container_network_transmit_bytes_total{")]
    assert len(lines) == 1 and float(lines[0].split()[-1]) > 10_000


def test_a_pod_on_the_network_of_the_host_has_none_of_its_own(cli: Cli) -> None:
    run_pod(cli, box(SLEEP), name="host", hostNetwork=True)
    (pod,) = stats(cli, "host", "--interval", "0.1")
    assert pod["usage"]["receivedBytesPerSecond"] is None
    assert "container_network" not in cli.ok("stats", "--prometheus")


def test_prometheus_text_of_what_runs(busy: Cli) -> None:
    lines = busy.ok("stats", "--prometheus").splitlines()
    used = [line for line in lines if line.startswith("container_cpu_usage_seconds_total{")]
    names = [line.partition('container="')[2].partition('"')[0] for line in used]
    assert names == ["", "c0", "c1"]
    whole, spins, sleeps = (float(line.split()[-1]) for line in used)
    assert whole >= spins > sleeps
    assert all('pod="busy"' in line and 'namespace="default"' in line for line in used)
    assert busy.run("stats", "--prometheus", "-w").returncode == 2


def test_describe_shows_what_is_used(busy: Cli) -> None:
    lines = busy.ok("describe", "pod", "busy").splitlines()
    (whole,) = [line for line in lines if line.startswith("Usage:")]
    spins, sleeps = [line for line in lines if line.startswith("    Usage:")]
    assert all(" cpu " in line for line in (whole, spins, sleeps))
    assert "received/s" in whole and "received/s" not in spins
    assert int(spins.partition("cpu ")[2].partition("m")[0]) > 0


def test_only_running_pods_unless_they_are_named(cli: Cli) -> None:
    one = run_pod(cli, box(SLEEP), name="one")
    run_pod(cli, box(SLEEP), name="other")
    assert [pod["name"] for pod in stats(cli, "--interval", "0.1")] == ["one", "other"]
    assert [pod["name"] for pod in stats(cli, "--interval", "0.1", one[:8], "one")] == ["one"]
    cli.ok("pod", "stop", "-t", "0", "one")
    assert [pod["name"] for pod in stats(cli, "--interval", "0.1")] == ["other"]
    (stopped,) = stats(cli, "--interval", "0.1", "one")
    assert (stopped["running"], stopped["containers"]) == (False, [])
    assert "Pod one does not run" in cli.ok("stats", "--interval", "0.1", "one")


def test_it_goes_on_until_ctrl_c_and_sees_what_comes_and_goes(cli: Cli, tmp_path: Path) -> None:
    run_pod(cli, box(SLEEP), name="first")
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*cli.command, "stats", "-w", "-o", "json", "--interval", "0.1"],
            stdout=file,
            stderr=subprocess.PIPE,
            env=cli.environment,
        )

    def last() -> list[str]:
        lines = output.read_text().splitlines()[:-1]
        return [pod["name"] for pod in json.loads(lines[-1])["items"]] if lines else []

    try:
        eventually(lambda: last() == ["first"])
        run_pod(cli, box(SLEEP), name="second")
        eventually(lambda: last() == ["first", "second"])
        cli.ok("pod", "rm", "-f", "first")
        eventually(lambda: last() == ["second"])
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10 * SLOW)
        assert (process.returncode, stderr) == (130, b"")
    finally:
        process.kill()
        process.wait()


def test_broken_records_are_told_once_and_hide_no_other_pod(cli: Cli) -> None:
    run_pod(cli, box(SLEEP), name="good")
    uid = run_pod(cli, box(SLEEP), name="broken")
    record = Path(cli.layout.pod_state(uid)) / "pod.json"
    text = record.read_bytes()
    record.write_text("{")
    try:
        result = cli.run("stats", "--interval", "0.1")
        assert result.returncode == 0
        assert result.stderr.count(str(record)) == 1
        assert [line.split()[0] for line in result.stdout.splitlines()[1:3]] == ["good", "c0"]
    finally:
        record.write_bytes(text)


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "x", "1ns", "9999h"])
def test_an_interval_that_is_none(cli: Cli, interval: str) -> None:
    result = cli.run("stats", "--interval", interval)
    assert result.returncode == 2
    assert interval in result.stderr
    assert "Traceback" not in result.stderr


def test_no_such_pod(cli: Cli) -> None:
    result = cli.run("stats", "nobody")
    assert result.returncode == 1
    assert 'no Pod is named "nobody"' in result.stderr


@pytest.mark.requires("cgroup_controllers")
def test_limits_and_use_with_controllers(cli: Cli) -> None:
    limits = {"limits": {"cpu": "100m", "memory": "64Mi"}}
    hold = "dd if=/dev/zero of=/dev/shm/block bs=1M count=8 2>/dev/null; " + SPIN
    uid = run_pod(
        cli,
        box(hold, resources=limits),
        box(SLEEP, name="c1"),
        annotations={"pids-limit.pyrun.io/c0": "32"},
    )
    wait_for_output(cli, uid, "ready\n", timeout=60)
    (pod,) = stats(cli, uid, "--interval", "2")
    of = usages(pod)
    assert pod["missing"] in ([], ["pressure"])
    assert (of["c0"]["cpuLimit"], of["c0"]["memoryLimit"]) == (0.1, 64 << 20)
    assert (of["c0"]["pids"], of["c0"]["pidsLimit"]) == (1, 32)
    assert (of["c1"]["cpuLimit"], of["c1"]["memoryLimit"], of["c1"]["pidsLimit"]) == (None, None, None)
    assert of["c0"]["memory"] >= 8 << 20
    assert pod["usage"]["memory"] >= of["c0"]["memory"]
    assert 0 < of["c0"]["cpu"] < 0.5
    assert of["c0"]["throttled"] > 0
    assert of["c0"]["oomKills"] == 0
    assert of["c0"]["readBytesPerSecond"] is not None
    assert of["c0"]["workingSet"] > 0
    table = cli.ok("stats", "--interval", "0.2", uid)
    assert "/64Mi" in table
    described = cli.ok("describe", "pod", "test")
    for words in ("throttled ", "memory ", "working set ", "OOM kills 0", "processes 1/32", "read/s "):
        assert words in described
    assert "no cgroup controller" not in table


@pytest.mark.requires("pressure")
def test_pressure_where_the_kernel_measures_it(busy: Cli) -> None:
    (pod,) = stats(busy, "--interval", "0.1", "busy")
    for resource in ("pressureCpu", "pressureMemory", "pressureIo"):
        assert 0 <= pod["usage"][resource] <= 100
