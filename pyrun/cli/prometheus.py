"""What Pods use, in the text format of Prometheus, under the names that cAdvisor gives it.

So dashboards and rules that are written for Kubernetes work. As there, an empty `container` stands for the Pod as a
whole. What no controller counts is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pyrun.cgroups.pressure import Pressure
    from pyrun.cgroups.stats import GroupUse
    from pyrun.runtime.stats import PodLook

Number = float | int | None


class _Metric(NamedTuple):
    """A metric of a group: its name without `container_`, its kind, what it is, and how it is read."""

    name: str
    kind: str
    meaning: str
    value: Callable[[GroupUse], Number]


def _stalls(resource: str, of: Callable[[GroupUse], Pressure | None]) -> Iterator[_Metric]:
    def seconds(kind: Callable[[Pressure], int]) -> Callable[[GroupUse], Number]:
        return lambda use: None if (found := of(use)) is None else kind(found) / 1e6

    yield _Metric(
        f"pressure_{resource}_waiting_seconds_total",
        "counter",
        f"Seconds in which a task waited for {resource}.",
        seconds(lambda pressure: pressure.some.total_us),
    )
    yield _Metric(
        f"pressure_{resource}_stalled_seconds_total",
        "counter",
        f"Seconds in which every task waited for {resource}.",
        seconds(lambda pressure: pressure.full.total_us),
    )


def _metrics() -> Iterator[_Metric]:
    yield from _of_cpu_and_memory()
    yield _Metric(
        "processes", "gauge", "Processes and threads.", lambda u: u.pids.current if u.pids else None
    )
    yield _Metric(
        "threads_max",
        "gauge",
        "The most there may be (pids.max).",
        lambda u: u.pids.limit if u.pids else None,
    )
    for name, meaning, value in (
        ("reads_bytes_total", "Bytes read from disks.", lambda u: u.io.read_bytes if u.io else None),
        ("writes_bytes_total", "Bytes written to disks.", lambda u: u.io.written_bytes if u.io else None),
        ("reads_total", "Reads from disks.", lambda u: u.io.reads if u.io else None),
        ("writes_total", "Writes to disks.", lambda u: u.io.writes if u.io else None),
    ):
        yield _Metric(f"fs_{name}", "counter", meaning, value)
    yield from _stalls("cpu", lambda use: use.pressure_cpu)
    yield from _stalls("memory", lambda use: use.pressure_memory)
    yield from _stalls("io", lambda use: use.pressure_io)


def _of_cpu_and_memory() -> Iterator[_Metric]:
    for name, kind, meaning, value in (
        ("cpu_usage_seconds_total", "counter", "CPU time.", lambda u: u.cpu.usage_us / 1e6),
        ("cpu_cfs_periods_total", "counter", "Periods of the CPU limit.", lambda u: _cfs(u, u.cpu.periods)),
        (
            "cpu_cfs_throttled_periods_total",
            "counter",
            "Periods in which the CPU limit made it wait.",
            lambda u: _cfs(u, u.cpu.throttled_periods),
        ),
        (
            "cpu_cfs_throttled_seconds_total",
            "counter",
            "Time for which the CPU limit made it wait.",
            lambda u: _cfs(u, u.cpu.throttled_us / 1e6),
        ),
        ("memory_usage_bytes", "gauge", "Memory in use.", lambda u: u.memory.current if u.memory else None),
        (
            "memory_working_set_bytes",
            "gauge",
            "Memory in use that cannot be reclaimed easily.",
            lambda u: u.memory.working_set if u.memory else None,
        ),
        (
            "spec_memory_limit_bytes",
            "gauge",
            "The limit of memory.",
            lambda u: u.memory.limit if u.memory else None,
        ),
        (
            "oom_events_total",
            "counter",
            "Kills for want of memory.",
            lambda u: u.memory_events.oom_kill if u.memory_events else None,
        ),
    ):
        yield _Metric(name, kind, meaning, value)


def _cfs(use: GroupUse, value: float) -> Number:
    return None if use.cpu_limits is None else value


def exposition(pods: Sequence[PodLook]) -> Iterator[str]:
    """Yield the lines for looks at Pods that run; all samples of a metric stand together."""
    shown = [pod for pod in pods if pod.running]
    for metric in _metrics():
        samples = (
            (labels, metric.value(use))
            for pod in shown
            for labels, use in _groups(pod)
            if use is not None and use.populated
        )
        yield from _family(metric.name, metric.kind, metric.meaning, samples)
    for name, meaning, index in (
        ("receive_bytes_total", "Bytes received by the Pod.", 0),
        ("transmit_bytes_total", "Bytes sent by the Pod.", 1),
    ):
        traffic = (
            (_labels(pod, ""), (found.received_bytes, found.sent_bytes)[index])
            for pod in shown
            if (found := pod.traffic) is not None
        )
        yield from _family(f"network_{name}", "counter", meaning, traffic)


def _groups(pod: PodLook) -> Iterator[tuple[str, GroupUse | None]]:
    yield _labels(pod, ""), pod.group
    for name, use in pod.containers:
        yield _labels(pod, name), use


def _labels(pod: PodLook, container: str) -> str:
    # All four are names of Kubernetes: nothing in them needs a backslash.
    return f'namespace="{pod.namespace}",pod="{pod.name}",uid="{pod.uid}",container="{container}"'


def _family(name: str, kind: str, meaning: str, samples: Iterator[tuple[str, Number]]) -> Iterator[str]:
    known = [(labels, value) for labels, value in samples if value is not None]
    if not known:
        return
    yield f"# HELP container_{name} {meaning}"
    yield f"# TYPE container_{name} {kind}"
    for labels, value in known:
        yield f"container_{name}{{{labels}}} {value}"
