"""What is read of a group's files, and what comes of two looks at them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.cgroups.cpu import CpuUse
from pyrun.cgroups.io import IoUse
from pyrun.cgroups.stats import CpuLimits, GroupUse, Rates, look, parse_cpu_limits, rates

BARE = {
    "cgroup.events": "populated 1\nfrozen 0\n",
    "cgroup.freeze": "0\n",
    "cgroup.procs": "12\n34\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnice_usec 0\n",
}
"""A group without controllers, of Linux 6.18."""

FULL = {
    **BARE,
    "cpu.stat": BARE["cpu.stat"] + "nr_periods 40\nnr_throttled 10\nthrottled_usec 99\n",
    "cpu.max": "50000 100000\n",
    "cpu.weight": "29\n",
    "memory.current": "1048576\n",
    "memory.max": "67108864\n",
    "memory.stat": "anon 700000\nfile 300000\ninactive_file 48576\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=4096 wbytes=100 rios=1 wios=2 dbytes=0 dios=0\n"
    "254:0 rbytes=1 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n",
    "cpu.pressure": "some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n",
    "memory.pressure": "some avg10=0.25 avg60=0.00 avg300=0.00 total=0\n",
    "io.pressure": "some avg10=3.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
}


def group(directory: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (directory / name).write_text(text)
    return str(directory)


def test_everything_of_a_group_with_controllers(tmp_path: Path) -> None:
    use = look(group(tmp_path, FULL))
    assert use is not None
    assert use.missing == ()
    assert (use.populated, use.frozen, use.freeze, use.processes) == (True, False, False, (12, 34))
    assert (use.cpu.usage_us, use.cpu.periods, use.cpu.throttled_periods) == (2_500_000, 40, 10)
    assert use.cpu_limits == CpuLimits(weight=29, quota_us=50000, period_us=100000)
    assert use.cpu_limits.cpus == 0.5
    assert use.memory is not None
    assert (use.memory.current, use.memory.limit, use.memory.working_set) == (1048576, 67108864, 1_000_000)
    assert use.memory_events is not None
    assert use.memory_events.oom_kill == 1
    assert use.pids is not None
    assert (use.pids.current, use.pids.limit) == (3, None)
    assert use.io == IoUse(read_bytes=4097, written_bytes=100, reads=2, writes=2)
    assert use.pressure_cpu is not None
    assert use.pressure_cpu.some.avg10 == 12.5
    assert use.pressure_io is not None
    assert use.pressure_io.some.avg10 == 3


def test_a_group_without_controllers_has_its_time_and_no_zeros(tmp_path: Path) -> None:
    use = look(group(tmp_path, BARE))
    assert use is not None
    assert use.cpu.usage_us == 2_500_000
    assert use.missing == ("cpu", "memory", "pids", "io")
    assert (use.cpu_limits, use.memory, use.memory_events, use.pids, use.io) == (None,) * 5
    assert (use.pressure_cpu, use.pressure_memory, use.pressure_io) == (None,) * 3


@pytest.mark.parametrize(
    ("taken", "missing"),
    [("cpu.max", "cpu"), ("memory.current", "memory"), ("pids.current", "pids"), ("io.stat", "io")],
)
def test_the_controller_that_is_missing_is_named(tmp_path: Path, taken: str, missing: str) -> None:
    use = look(group(tmp_path, {name: text for name, text in FULL.items() if name != taken}))
    assert use is not None
    assert use.missing == (missing,)


def test_a_group_that_is_gone(tmp_path: Path) -> None:
    assert look(str(tmp_path / "gone")) is None


def test_a_frozen_group(tmp_path: Path) -> None:
    frozen = {**BARE, "cgroup.events": "populated 1\nfrozen 1\n", "cgroup.freeze": "1\n"}
    use = look(group(tmp_path, frozen))
    assert use is not None
    assert (use.frozen, use.freeze) == (True, True)


@pytest.mark.parametrize(
    ("text", "quota", "period", "cpus"),
    [
        ("max 100000\n", None, 100000, None),
        ("150000 100000\n", 150000, 100000, 1.5),
        ("1000 50000", 1000, 50000, 0.02),
    ],
)
def test_cpu_max(text: str, quota: int | None, period: int, cpus: float | None) -> None:
    limits = parse_cpu_limits(100, text)
    assert (limits.quota_us, limits.period_us, limits.cpus) == (quota, period, cpus)


def use_at(
    seconds: float, used: int, *, periods: int = 0, throttled: int = 0, io: IoUse | None = None
) -> GroupUse:
    """A look at some time at a group with a cpu controller, that has used so many microseconds."""
    return GroupUse(
        taken_ns=int(seconds * 1e9),
        populated=True,
        frozen=False,
        freeze=False,
        processes=(),
        cpu=CpuUse(usage_us=used, periods=periods, throttled_periods=throttled),
        cpu_limits=CpuLimits(weight=100, quota_us=None, period_us=100000),
        io=io,
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (use_at(1, 0), use_at(3, 1_000_000), Rates(cpu=0.5, throttled=0.0)),
        (
            use_at(1, 0, periods=10, throttled=5),
            use_at(2, 0, periods=20, throttled=10),
            Rates(cpu=0.0, throttled=0.5),
        ),
        (
            use_at(1, 0, io=IoUse(read_bytes=100, written_bytes=0)),
            use_at(1.5, 0, io=IoUse(read_bytes=300, written_bytes=50)),
            Rates(cpu=0.0, throttled=0.0, read_bytes=400, written_bytes=100),
        ),
        # A group that has come in the place of another counts anew.
        (use_at(1, 5_000_000), use_at(2, 10), Rates()),
        (use_at(2, 0), use_at(2, 10), Rates()),
    ],
    ids=["cpu", "throttled", "io", "another group", "no time"],
)
def test_rates(before: GroupUse, after: GroupUse, expected: Rates) -> None:
    assert rates(before, after) == expected


@given(
    start=st.floats(0, 1e6),
    interval=st.floats(0, 1e4),
    used=st.integers(0, 10**12),
    more=st.integers(-(10**12), 10**12),
)
def test_no_rate_is_ever_negative(start: float, interval: float, used: int, more: int) -> None:
    found = rates(use_at(start, used), use_at(start + interval, max(used + more, 0)))
    assert found.cpu is None or found.cpu >= 0
