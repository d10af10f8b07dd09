"""What `pyrun stats` makes of two looks at a Pod, and how it prints that."""

from __future__ import annotations

import re

import msgspec
import pytest

from pyrun.cgroups.cpu import CpuUse
from pyrun.cgroups.io import IoUse
from pyrun.cgroups.memory import MemoryEvents, MemoryUse
from pyrun.cgroups.pids import PidsUse
from pyrun.cgroups.pressure import Pressure, Stall
from pyrun.cgroups.stats import CpuLimits, GroupUse
from pyrun.cli.prometheus import exposition
from pyrun.cli.stats import HEADERS, cells, notes, rows
from pyrun.network.traffic import Traffic, parse
from pyrun.runtime.stats import ContainerStats, PodLook, PodStats, Usage, compare

FULL = Usage(
    cpu=0.2504,
    cpu_limit=0.5,
    throttled=0.125,
    memory=3 << 20,
    memory_limit=64 << 20,
    working_set=1 << 20,
    oom_kills=2,
    pids=4,
    pids_limit=None,
    read_bytes_per_second=2048.0,
    written_bytes_per_second=0.0,
    received_bytes_per_second=1024.0,
    sent_bytes_per_second=3.0,
    pressure_cpu=12.34,
    pressure_memory=0.0,
    pressure_io=100.0,
)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            FULL,
            ["250m", "12%", "3Mi/64Mi", "1Mi", "2", "4/max", "2Ki", "0", "1Ki", "3", "12.3", "0.0", "100.0"],
        ),
        (Usage(), ["-"] * 13),
        (Usage(cpu=1.5), ["1500m", *["-"] * 12]),
        (Usage(memory=0, pids=0, pids_limit=0), ["-", "-", "0/max", "-", "-", "0/0", *["-"] * 7]),
    ],
    ids=["all", "nothing", "only time", "zeros are no dashes"],
)
def test_cells(usage: Usage, expected: list[str]) -> None:
    assert cells(usage) == expected


def pod(
    name: str = "web", namespace: str = "default", *, running: bool = True, missing: tuple[str, ...] = ()
) -> PodStats:
    return PodStats(
        name=name,
        namespace=namespace,
        uid="u",
        running=running,
        usage=Usage(),
        containers=(ContainerStats(name="a", usage=FULL),),
        missing=missing,
    )


def test_rows_name_the_pod_and_then_its_containers() -> None:
    found = rows([pod(), pod("web", "other")])
    assert [row[:2] for row in found] == [["web", ""], ["", "a"], ["other/web", ""], ["", "a"]]
    assert found[1][2:] == cells(FULL)


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], []),
        ([pod()], []),
        ([pod(missing=("io",)), pod(missing=("memory", "io"))], ["no cgroup controller for memory, io here"]),
        ([pod(missing=("pressure",))], ["the kernel measures no pressure"]),
        (
            [pod(missing=("pids", "pressure"))],
            ["no cgroup controller for pids here", "the kernel measures no"],
        ),
        ([pod(running=False)], ["Pod web does not run"]),
        ([pod("x", "other", running=False)], ["Pod other/x does not run"]),
    ],
)
def test_notes_say_each_thing_once(pods: list[PodStats], expected: list[str]) -> None:
    found = notes(pods)
    assert len(found) == len(expected)
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


def use(seconds: int, *, used: int = 0, read: int = 0, populated: bool = True) -> GroupUse:
    return GroupUse(
        taken_ns=seconds * 10**9,
        populated=populated,
        frozen=False,
        freeze=False,
        processes=(1,),
        cpu=CpuUse(usage_us=used),
        cpu_limits=CpuLimits(weight=1, quota_us=25000, period_us=100000),
        memory=MemoryUse(current=9, working_set=5, anonymous=0, file=0, limit=10),
        memory_events=MemoryEvents(oom_kill=3),
        pids=PidsUse(current=2, limit=8),
        io=IoUse(read_bytes=read),
        pressure_cpu=Pressure(some=Stall(avg10=1.5)),
    )


def look(group: GroupUse | None, **containers: GroupUse | None) -> PodLook:
    return PodLook(
        name="web", namespace="default", uid="u", group=group, containers=tuple(containers.items())
    )


def test_two_looks_at_a_pod() -> None:
    before = look(use(1), a=use(1), b=use(1))
    after = look(use(3, used=1_000_000, read=100), a=use(3, used=600_000), b=use(3))
    found = compare(before, after)
    assert found.running
    assert (found.usage.cpu, found.usage.read_bytes_per_second) == (0.5, 50)
    assert [(c.name, c.usage.cpu) for c in found.containers] == [("a", 0.3), ("b", 0.0)]
    of = found.containers[0].usage
    assert (of.cpu_limit, of.memory, of.memory_limit, of.working_set, of.oom_kills) == (0.25, 9, 10, 5, 3)
    assert (of.pids, of.pids_limit, of.pressure_cpu, of.pressure_io) == (2, 8, 1.5, None)
    assert found.missing == ()


def test_one_look_gives_no_rates() -> None:
    found = compare(None, look(use(1, used=5), a=use(1, used=5)))
    assert (found.usage.cpu, found.usage.read_bytes_per_second, found.usage.memory) == (None, None, 9)


def test_a_container_that_came_meanwhile_has_no_rate_yet() -> None:
    found = compare(look(use(1)), look(use(2), new=use(2, used=7)))
    assert [(c.name, c.usage.cpu) for c in found.containers] == [("new", None)]


def test_containers_without_a_process_are_left_out() -> None:
    found = compare(None, look(use(1), gone=None, empty=use(1, populated=False), a=use(1)))
    assert [container.name for container in found.containers] == ["a"]


@pytest.mark.parametrize("group", [None, use(1, populated=False)], ids=["gone", "empty"])
def test_a_pod_that_is_stopped(group: GroupUse | None) -> None:
    found = compare(None, look(group, a=None))
    assert (found.running, found.containers) == (False, ())


def test_every_cell_has_a_header() -> None:
    assert len(rows([pod()])[0]) == len(HEADERS)
    for word in ("CPU", "THROTTLED", "WORKING SET", "OOM", "PIDS/LIMIT", "READ/s", "RECV/s", "PSI CPU"):
        assert word in HEADERS


# The network

NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:  999       9    0    0    0     0          0         0    999       9    0    0    0     0       0          0
  eth0: 1500      10    0    0    0     0          0         0    700       5    0    0    0     0       0          0
eth0:1:    1       1    0    0    0     0          0         0      2       1    0    0    0     0       0          0
"""


def test_traffic_of_all_interfaces_but_the_loopback() -> None:
    assert parse(NET_DEV) == Traffic(received_bytes=1501, sent_bytes=702)
    assert parse("") == Traffic()


def _with(look: PodLook, received: int, sent: int) -> PodLook:
    return msgspec.structs.replace(look, traffic=Traffic(received_bytes=received, sent_bytes=sent))


def test_traffic_of_a_pod_and_not_of_its_containers() -> None:
    before, after = _with(look(use(1), a=use(1)), 100, 10), _with(look(use(3), a=use(3)), 300, 10)
    found = compare(before, after)
    assert (found.usage.received_bytes_per_second, found.usage.sent_bytes_per_second) == (100, 0)
    assert found.containers[0].usage.received_bytes_per_second is None
    again = compare(after, _with(look(use(4), a=use(4)), 0, 0))
    assert again.usage.received_bytes_per_second == 0, "a sandbox made anew counts from the beginning"
    assert compare(look(use(1)), after).usage.received_bytes_per_second is None
    assert compare(before, look(use(3))).usage.received_bytes_per_second is None


# Prometheus

SAMPLE = re.compile(
    r'(container_[a-z_]+)\{namespace="default",pod="web",uid="u",container="(a?)"\} ([0-9.e+-]+)'
)


def test_the_text_for_prometheus() -> None:
    lines = list(exposition([_with(look(use(1, used=2_500_000, read=7), a=use(1, used=5)), 300, 10)]))
    found = {(m[1], m[2]): float(m[3]) for line in lines if (m := SAMPLE.fullmatch(line))}
    assert len(found) == sum(not line.startswith("#") for line in lines)
    assert found["container_cpu_usage_seconds_total", ""] == 2.5
    assert found["container_cpu_usage_seconds_total", "a"] == 5e-6
    assert found["container_memory_working_set_bytes", "a"] == 5
    assert found["container_spec_memory_limit_bytes", "a"] == 10
    assert found["container_oom_events_total", "a"] == 3
    assert found["container_processes", "a"] == 2
    assert found["container_fs_reads_bytes_total", ""] == 7
    assert found["container_cpu_cfs_throttled_periods_total", ""] == 0
    assert found["container_pressure_cpu_waiting_seconds_total", "a"] == 0
    assert found["container_network_receive_bytes_total", ""] == 300
    assert found["container_network_transmit_bytes_total", ""] == 10
    assert not any("pressure_io" in line for line in lines), "what is not measured is not told"


def test_each_metric_has_its_samples_together_below_its_kind() -> None:
    lines = list(exposition([look(use(1), a=use(1)), look(use(1), a=use(1))]))
    families: list[str] = []
    for line in lines:
        if line.startswith("# HELP "):
            families.append(line.split()[2])
        elif line.startswith("# TYPE "):
            kind = "counter" if families[-1].endswith("_total") else "gauge"
            assert line == f"# TYPE {families[-1]} {kind}"
        else:
            assert line.startswith(f"{families[-1]}{{")
    assert len(families) == len(set(families))


def test_what_does_not_run_has_no_metrics() -> None:
    assert list(exposition([look(None), look(use(1, populated=False))])) == []
    assert not any('container="b"' in line for line in exposition([look(use(1), b=use(1, populated=False))]))
