"""What is written to which file of a cgroup, in which order, and what is read back; without a kernel."""

from __future__ import annotations

import pytest

from pyrun.cgroups import cpu, io, memory, pressure
from pyrun.cgroups.controllers import CONTROLLERS, Setting, settings
from pyrun.cgroups.cpu import CpuUse
from pyrun.cgroups.io import IoUse
from pyrun.cgroups.memory import MemoryEvents
from pyrun.cgroups.pressure import Pressure, Stall
from pyrun.spec.cgroup import LinuxResources

EVERYTHING = LinuxResources(
    cpu_weight=100,
    cpu_quota_us=50000,
    cpu_period_us=100000,
    memory_max=1 << 26,
    memory_high=1 << 25,
    memory_low=1 << 24,
    memory_min=1 << 23,
    swap_max=0,
    oom_group=True,
    pids_max=64,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    io_weight=50,
    io_max=("8:0 rbps=1048576", "8:16 wiops=10"),
    hugetlb=(("2MB", 4 << 20),),
)

CASES = [
    (LinuxResources(), []),
    (LinuxResources(cpu_weight=17), [("cpu", "cpu.weight", "17")]),
    (LinuxResources(cpu_quota_us=1000, cpu_period_us=100000), [("cpu", "cpu.max", "1000 100000")]),
    (LinuxResources(cpu_quota_us=1000), [("cpu", "cpu.max", "1000")]),
    (LinuxResources(cpu_period_us=50000), [("cpu", "cpu.max", "max 50000")]),
    (LinuxResources(memory_max=0), [("memory", "memory.max", "0")]),
    (LinuxResources(swap_max=0), [("memory", "memory.swap.max", "0")]),
    (LinuxResources(oom_group=False), [("memory", "memory.oom.group", "0")]),
    (LinuxResources(oom_group=True), [("memory", "memory.oom.group", "1")]),
    (LinuxResources(pids_max=5), [("pids", "pids.max", "5")]),
    (LinuxResources(io_weight=50), [("io", "io.weight", "default 50")]),
    (LinuxResources(oom_score_adj=-998), []),
    (
        EVERYTHING,
        [
            ("cpuset", "cpuset.mems", "0"),
            ("cpuset", "cpuset.cpus", "0-1"),
            ("cpu", "cpu.weight", "100"),
            ("cpu", "cpu.max", "50000 100000"),
            ("io", "io.weight", "default 50"),
            ("io", "io.max", "8:0 rbps=1048576"),
            ("io", "io.max", "8:16 wiops=10"),
            ("memory", "memory.min", "8388608"),
            ("memory", "memory.low", "16777216"),
            ("memory", "memory.swap.max", "0"),
            ("memory", "memory.high", "33554432"),
            ("memory", "memory.max", "67108864"),
            ("memory", "memory.oom.group", "1"),
            ("pids", "pids.max", "64"),
            ("hugetlb", "hugetlb.2MB.rsvd.max", "4194304"),
            ("hugetlb", "hugetlb.2MB.max", "4194304"),
        ],
    ),
]


@pytest.mark.parametrize(("resources", "wanted"), CASES)
def test_what_is_written(resources: LinuxResources, wanted: list[tuple[str, str, str]]) -> None:
    assert settings(resources) == tuple(Setting(*one) for one in wanted)


def test_each_file_is_its_controllers() -> None:
    assert {setting.controller for setting in settings(EVERYTHING)} == set(CONTROLLERS)
    assert all(setting.file.startswith(f"{setting.controller}.") for setting in settings(EVERYTHING))


def test_cpu_stat_with_and_without_the_controller() -> None:
    without = "usage_usec 30\nuser_usec 20\nsystem_usec 10\n"
    assert cpu.parse(without) == CpuUse(usage_us=30, user_us=20, system_us=10)
    text = f"{without}nice_usec 0\nnr_periods 21\nnr_throttled 20\nthrottled_usec 1800\nnr_bursts 0\n"
    assert cpu.parse(text) == CpuUse(
        usage_us=30, user_us=20, system_us=10, periods=21, throttled_periods=20, throttled_us=1800
    )


def test_memory_events_of_kernels_of_two_ages() -> None:
    old = "low 0\nhigh 3\nmax 12\noom 2\noom_kill 1\n"
    assert memory.parse_events(old) == MemoryEvents(high=3, max=12, oom=2, oom_kill=1)
    assert memory.parse_events(f"{old}oom_group_kill 1\n").oom_group_kill == 1


def test_io_stat_is_added_up() -> None:
    text = (
        "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
        "8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 cost.usage=3\n"
        "7:0 \n"
    )
    assert io.parse(text) == IoUse(read_bytes=91889664, written_bytes=613781504, reads=9142, writes=1605)
    assert io.parse("") == IoUse()


def test_pressure() -> None:
    text = (
        "some avg10=1.50 avg60=0.20 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    )
    assert pressure.parse(text) == Pressure(
        some=Stall(avg10=1.5, avg60=0.2, total_us=1234), full=Stall(total_us=7)
    )
    assert pressure.parse(text.splitlines()[0]).full == Stall()
