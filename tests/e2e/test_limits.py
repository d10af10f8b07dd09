"""Limits, in the kernel: the files have the values, and who goes beyond a limit hurts nobody else.

Runs where the unified hierarchy has its controllers: in the guest of tests/vm.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyrun.cgroups import cpu, cpuset, hugetlb, io, memory, pids, pressure
from pyrun.cgroups.delegation import find_place
from pyrun.cgroups.memory import MemoryEvents
from pyrun.spec.linux import weight_of
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, manifest, output, run_pod, state_of, wait_for_end, wait_for_output

pytestmark = pytest.mark.requires("pods", "busybox", "nftables", "cgroup_controllers")

SLEEP = "exec sleep 1000"
WORK = "i=0; while :; do i=$((i+1)); [ $((i % 200)) -ne 0 ] || echo $i; done"
"""Says now and then that it goes on."""
EAT = "x=x; while :; do x=$x$x; done"
"""Doubles a string in its own memory without end."""

WEIGHTS = {
    10: 4,
    50: 11,
    100: 17,
    200: 29,
    250: 35,
    500: 59,
    1000: 100,
    2000: 174,
    4000: 303,
    8000: 532,
    64000: 3023,
}


def limits(**given: str) -> dict[str, Any]:
    """Return the resources of a container with these limits, which are requests too."""
    return {"limits": given}


def group_of(cli: Cli, uid: str, leaf: str = "ctr-c0") -> str:
    """Return the cgroup of a container of a Pod, or of pause and monitors; empty: of the Pod."""
    return str(Path(cli.inspect(uid)["cgroup"]) / leaf)


def value(group: str, file: str) -> str:
    return (Path(group) / file).read_text().strip()


def events(group: str) -> MemoryEvents:
    found = memory.events(group)
    assert found is not None, f"{group} has no memory controller"
    return found


def root_disk() -> str:
    """The device of the root file system, as io.max names disks."""
    device = os.stat("/").st_dev
    return f"{os.major(device)}:{os.minor(device)}"


# The files


def test_files_of_a_guaranteed_pod(cli: Cli) -> None:
    settings = {
        "pids-limit.pyrun.io/c0": "64",
        "cpuset-cpus.pyrun.io/c0": "0",
        "cpuset-mems.pyrun.io/c0": "0",
        "io-weight.pyrun.io/c0": "50",
        "io-max.pyrun.io/c0": f"{root_disk()} rbps=104857600 wiops=5000",
        "memory-high.pyrun.io/c0": "48Mi",
        "memory-min.pyrun.io/c0": "4Mi",
        "pyrun.io/pids-limit": "200",
    }
    resources = limits(cpu="250m", memory="64Mi")
    other = limits(cpu="500m", memory="32Mi")
    text = manifest(
        cli,
        box(SLEEP, resources=resources),
        box(SLEEP, "c1", resources=other),
        annotations=settings,
    )
    uid = cli.create(text)
    wanted = {
        "cpu.weight": str(WEIGHTS[250]),
        "cpu.max": "25000 100000",
        "memory.max": str(64 << 20),
        "memory.high": str(48 << 20),
        "memory.low": str(64 << 20),
        "memory.min": str(4 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "64",
        "cpuset.cpus": "0",
        "cpuset.mems": "0",
        "io.weight": "default 50",
        "io.max": f"{root_disk()} rbps=104857600 wbps=max riops=max wiops=5000",
    }
    leaf = group_of(cli, uid)
    assert {file: value(leaf, file) for file in wanted} == wanted
    pod = group_of(cli, uid, "")
    of_pod = {
        "cpu.weight": str(weight_of(750)),
        "cpu.max": "75000 100000",
        "memory.max": str(96 << 20),
        "pids.max": "200",
    }
    assert {file: value(pod, file) for file in of_pod} == of_pod
    assert Path(pod).parent.name not in ("burstable", "besteffort")
    for name in ("pause", "monitors"):
        free = group_of(cli, uid, name)
        assert (value(free, "memory.max"), value(free, "pids.max")) == ("max", "max")
    assert cpuset.effective(leaf) == ("0", "0")
    assert set(find_place().controllers) <= set(value(pod, "cgroup.subtree_control").split())


def test_weights_of_requests_and_of_the_tier(cli: Cli) -> None:
    """The curve of today, by its test vectors; a tier weighs what its Pods ask for together."""
    chosen = list(WEIGHTS)
    boxes = [box(SLEEP, f"c{n}", resources={"requests": {"cpu": f"{n}m"}}) for n in chosen]
    uid = run_pod(cli, *boxes, annotations={"pyrun.io/best-effort": "true"})  # no host has so many CPUs left
    found = {n: int(value(group_of(cli, uid, f"ctr-c{n}"), "cpu.weight")) for n in chosen}
    assert found == WEIGHTS
    tier = str(Path(group_of(cli, uid, "")).parent)
    assert Path(tier).name == "burstable"
    assert int(value(tier, "cpu.weight")) == weight_of(sum(chosen))
    second = run_pod(cli, box(SLEEP, resources={"requests": {"cpu": "500m"}}), name="second")
    assert int(value(tier, "cpu.weight")) == weight_of(sum(chosen) + 500)
    cli.ok("pod", "rm", "-f", uid)
    assert int(value(tier, "cpu.weight")) == weight_of(500)
    cli.ok("pod", "rm", "-f", second)


def test_a_pod_without_requests_weighs_least(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    pod = Path(group_of(cli, uid, ""))
    assert pod.parent.name == "besteffort"
    for group in (pod.parent, pod, pod / "ctr-c0"):
        assert value(str(group), "cpu.weight") == "1"
    assert value(str(pod), "memory.max") == value(str(pod / "ctr-c0"), "memory.max") == "max"


def test_limits_of_the_pod_as_a_whole(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP), box(SLEEP, "c1"), resources=limits(cpu="500m", memory="128Mi"))
    pod = group_of(cli, uid, "")
    assert (value(pod, "cpu.max"), value(pod, "memory.max")) == ("50000 100000", str(128 << 20))


def test_one_container_without_a_limit_leaves_the_pod_without(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP, resources=limits(memory="64Mi")), box(SLEEP, "c1"))
    pod = group_of(cli, uid, "")
    assert (value(pod, "cpu.max"), value(pod, "memory.max")) == ("max 100000", "max")


@pytest.mark.parametrize("swap", ["0", "16Mi"])
def test_swap(cli: Cli, swap: str) -> None:
    annotations = {"swap-max.pyrun.io/c0": swap}
    text = manifest(cli, box(SLEEP, resources=limits(memory="64Mi")), annotations=annotations)
    leaf = group_of(cli, cli.create(text))
    assert value(leaf, "memory.swap.max") == ("0" if swap == "0" else str(16 << 20))


def test_huge_pages(cli: Cli) -> None:
    if "hugetlb" not in find_place().controllers:
        pytest.skip("no hugetlb controller here (systemd does not delegate it)")
    given = limits(**{"hugepages-2Mi": "4Mi", "memory": "64Mi", "cpu": "1"})
    # The pool of huge pages may be empty, and then none of them is free.
    uid = run_pod(cli, box(SLEEP, resources=given), annotations={"pyrun.io/best-effort": "true"})
    leaf = group_of(cli, uid)
    assert value(leaf, "hugetlb.2MB.max") == value(leaf, "hugetlb.2MB.rsvd.max") == str(4 << 20)
    assert ("2MB", 0) in hugetlb.use(leaf)


def test_a_value_that_the_kernel_does_not_take_is_told_and_nothing_is_left(cli: Cli) -> None:
    text = manifest(cli, box(SLEEP), annotations={"io-max.pyrun.io/c0": "999:999 rbps=1000"})
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 1
    assert 'write "999:999 rbps=1000"' in result.stderr and "io.max" in result.stderr
    assert not any((cli.state / "pods").glob("*"))


def test_run_takes_limits(cli: Cli) -> None:
    options = ("-d", "--rootfs", "-m", "64m", "--cpus", "0.5", "--pids-limit", "20")
    uid = cli.ok("run", *options, str(cli.rootfs), "sleep", "1000").strip()
    leaf = group_of(cli, uid, "ctr-main")
    assert value(leaf, "memory.max") == str(64 << 20)
    assert (value(leaf, "cpu.max"), value(leaf, "pids.max")) == ("50000 100000", "20")


# What they do


def works_on(cli: Cli, uid: str, container: str) -> None:
    """Wait until a container has done more than it had."""
    before = len(output(cli, uid, container))
    eventually(lambda: len(output(cli, uid, container)) > before, 30)


def test_who_eats_memory_is_killed_and_the_neighbour_works_on(cli: Cli) -> None:
    uid = run_pod(cli, box(EAT, resources=limits(memory="32Mi")), box(WORK, "c1"))
    wait_for_end(cli, uid, timeout=60)
    ended = state_of(cli)["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    works_on(cli, uid, "c1")
    assert "running" in state_of(cli, "c1")
    assert events(group_of(cli, uid)).oom_kill >= 1
    assert events(group_of(cli, uid, "ctr-c1")).oom_kill == 0


CHILD = f"({EAT}); echo child $?; exec sleep 1000"


def test_the_oom_killer_takes_all_of_a_container(cli: Cli) -> None:
    uid = run_pod(cli, box(CHILD, resources=limits(memory="32Mi")))
    wait_for_end(cli, uid, timeout=60)
    assert state_of(cli)["terminated"]["reason"] == "OOMKilled"
    assert output(cli, uid) == "", "its main process has seen nothing any more"
    assert events(group_of(cli, uid)).oom_group_kill >= 1


def test_or_one_process_where_that_is_asked_for(cli: Cli) -> None:
    annotations = {"single-process-oom-kill.pyrun.io/c0": "true"}
    text = manifest(cli, box(CHILD, resources=limits(memory="32Mi")), annotations=annotations)
    uid = cli.create(text)
    assert "child 137" in wait_for_output(cli, uid, "child", timeout=60)
    assert "running" in state_of(cli)
    assert events(group_of(cli, uid)).oom_kill >= 1


def test_a_pod_out_of_memory_keeps_pause_and_monitors(cli: Cli) -> None:
    """All its containers go together; what looks after them stays, and tells how they ended."""
    annotations = {"pyrun.io/single-process-oom-kill": "false"}
    text = manifest(
        cli,
        box(EAT),
        box(SLEEP, "c1"),
        annotations=annotations,
        resources=limits(cpu="1", memory="48Mi"),
    )
    uid = cli.create(text)
    for name in ("c0", "c1"):
        wait_for_end(cli, uid, name, timeout=60)
        ended = state_of(cli, name)["terminated"]
        assert (ended["exitCode"], ended["signal"]) == (137, 9), "its monitor has seen it"
    assert cli.inspect(uid)["pause"]["alive"]


def test_who_uses_too_much_cpu_waits(cli: Cli) -> None:
    uid = run_pod(cli, box("while :; do :; done", resources=limits(cpu="100m")))
    leaf = group_of(cli, uid)
    eventually(lambda: (used := cpu.use(leaf)) is not None and used.throttled_periods >= 5, 30)
    used = cpu.use(leaf)
    assert used is not None
    # A tenth of each period that it could run in; one more, for the one that has not ended.
    assert used.usage_us <= (used.periods + 1) * 10_000 * 2


def test_who_forks_without_end_is_refused_and_the_neighbour_works_on(cli: Cli) -> None:
    bomb = "while :; do sleep 1000 & done"
    uid = cli.create(manifest(cli, box(bomb), box(WORK, "c1"), annotations={"pids-limit.pyrun.io/c0": "20"}))
    leaf = group_of(cli, uid)
    eventually(lambda: (held := pids.use(leaf)) is not None and held.refused > 0, 60)
    held = pids.use(leaf)
    assert held is not None and held.limit == 20 and held.current <= 20
    works_on(cli, uid, "c1")


def test_who_writes_without_pause_is_slowed_and_the_neighbour_works_on(cli: Cli) -> None:
    writer = "while :; do dd if=/dev/zero of=/tmp/f bs=64k count=16 conv=fsync 2>/dev/null; echo round; done"
    annotations = {"io-max.pyrun.io/c0": f"{root_disk()} wbps=4194304"}
    uid = cli.create(manifest(cli, box(writer), box(WORK, "c1"), annotations=annotations))
    wait_for_output(cli, uid, "round", timeout=60)
    leaf = group_of(cli, uid)
    eventually(lambda: (done := io.use(leaf)) is not None and done.written_bytes > 0, 60)
    works_on(cli, uid, "c1")


def test_only_the_given_processors(cli: Cli) -> None:
    annotations = {"cpuset-cpus.pyrun.io/c0": "0"}
    script = "grep Cpus_allowed_list /proc/self/status; exec sleep 1000"
    uid = cli.create(manifest(cli, box(script), annotations=annotations))
    assert wait_for_output(cli, uid, "Cpus_allowed").split() == ["Cpus_allowed_list:", "0"]
    assert cpuset.effective(group_of(cli, uid)) is not None


@pytest.mark.requires("pressure")
def test_pressure_of_each_container_and_pod(cli: Cli) -> None:
    throttled = box("while :; do :; done", resources=limits(cpu="50m", memory="64Mi"))
    uid = run_pod(cli, throttled, box(SLEEP, "c1", resources=limits(cpu="50m", memory="64Mi")))

    def waited(leaf: str) -> int:
        found = pressure.pressure(group_of(cli, uid, leaf), "cpu")
        assert found is not None
        return found.some.total_us

    eventually(lambda: waited("ctr-c0") > 100_000, 30)
    assert waited("") > 0
    assert waited("ctr-c1") < waited("ctr-c0")


def test_what_is_executed_in_a_container_is_limited_with_it(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box(SLEEP), annotations={"pids-limit.pyrun.io/c0": "4"}))
    result = cli.run("exec", "test", "--", "sh", "-c", "for i in 1 2 3 4 5; do sleep 5 & done; echo here")
    assert "here" not in result.stdout or "fork" in result.stderr
    held = pids.use(group_of(cli, uid))
    assert held is not None and held.refused > 0
    assert (held.peak or 0) <= 4


def test_a_use_of_memory_can_be_read(cli: Cli) -> None:
    uid = run_pod(cli, box("x=$(head -c 4000000 /dev/zero | tr '\\0' x); echo ready; exec sleep 1000"))
    wait_for_output(cli, uid, "ready", timeout=30)
    used = memory.use(group_of(cli, uid))
    assert used is not None
    assert used.peak is None or used.peak >= 4_000_000
    assert used.limit is None and used.working_set <= used.current
