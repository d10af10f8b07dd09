"""What Pods and their containers use: two looks at their groups, and the difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from pyrun.cgroups import stats
from pyrun.cgroups.pressure import Pressure
from pyrun.cgroups.stats import GroupUse, Rates
from pyrun.errors import StateError
from pyrun.kernel.proc import ProcessIdentity
from pyrun.network.traffic import Traffic, traffic
from pyrun.plan.sandbox import container_leaf
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.value import Value

PRESSURE = "pressure"
"""What stands among the missing controllers when the kernel measures no pressure."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a group uses; None is what is not known: without its controller, or (a rate) after one look only.

    `cpu` and `cpu_limit` are in CPUs, `throttled` is the share of periods from 0 to 1, memory in bytes,
    pressure in percent of the last ten seconds in which something had to wait. Of the network only a Pod is told: its
    containers share it, and one on the host's network has none of its own.
    """

    cpu: float | None = None
    cpu_limit: float | None = None
    throttled: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    working_set: int | None = None
    oom_kills: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    read_bytes_per_second: float | None = None
    written_bytes_per_second: float | None = None
    received_bytes_per_second: float | None = None
    sent_bytes_per_second: float | None = None
    pressure_cpu: float | None = None
    pressure_memory: float | None = None
    pressure_io: float | None = None


class ContainerStats(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a container uses."""

    name: str
    usage: Usage


class PodStats(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a Pod uses, pause and monitors included; `missing` names the controllers its groups lack."""

    name: str
    namespace: str
    uid: str
    running: bool
    usage: Usage
    containers: tuple[ContainerStats, ...]
    missing: tuple[str, ...] = ()


class PodLook(Value, frozen=True, kw_only=True):
    """One look at the groups of a Pod and of its containers by name; None for one that is gone.

    `traffic` is None too for a Pod on the host's network.
    """

    name: str
    namespace: str
    uid: str
    group: GroupUse | None
    containers: tuple[tuple[str, GroupUse | None], ...]
    traffic: Traffic | None = None

    @property
    def running(self) -> bool:
        """Whether a process of the Pod lives."""
        return self.group is not None and self.group.populated


class Meter:
    """Looks at Pods again and again, and remembers the last time."""

    def __init__(self, unreadable: Callable[[StateError], None]) -> None:
        self._unreadable = unreadable
        self._before: dict[str, PodLook] = {}

    def read(self, pods: Iterable[PodDirectory]) -> tuple[PodStats, ...]:
        """Return what whole Pods use now, and have used since the last time, by name.

        Of one whose records cannot be read `unreadable` is told. Raises OSError when a group cannot be read.
        """
        found = looks(pods, self._unreadable)
        before, self._before = self._before, {look.uid: look for look in found}
        return tuple(compare(before.get(look.uid), look) for look in found)


def looks(pods: Iterable[PodDirectory], unreadable: Callable[[StateError], None]) -> tuple[PodLook, ...]:
    """Return a look at each whole Pod, by name; `unreadable` is told of broken records. Raises OSError."""
    found = []
    for pod in pods:
        try:
            look = look_at(pod)
        except StateError as error:
            unreadable(error)
            continue
        if look is not None:
            found.append(look)
    return tuple(sorted(found, key=lambda look: (look.namespace, look.name)))


def look_at(pod: PodDirectory) -> PodLook | None:
    """Return a look at a Pod, None while it is being made or removed. Raises StateError, OSError."""
    record, sandbox = pod.record(), pod.sandbox()
    if record is None or sandbox is None or not pod.complete:
        return None
    top = sandbox.facts.cgroup
    return PodLook(
        name=record.pod.metadata.name,
        namespace=record.pod.metadata.namespace,
        uid=pod.uid,
        group=stats.look(top),
        containers=tuple(
            (container.name, stats.look(f"{top}/{container_leaf(container.name)}"))
            for container in record.pod.spec.all_containers()
        ),
        traffic=None if sandbox.facts.host_network else _traffic(sandbox.pause),
    )


def _traffic(pause: ProcessIdentity) -> Traffic | None:
    found = traffic(pause.pid)
    return found if pause.alive() else None  # asked afterwards: the pid was its own all the while


def compare(before: PodLook | None, after: PodLook) -> PodStats:
    """Return what a Pod uses; rates only when there was a look before."""
    earlier = dict(before.containers) if before is not None else {}
    containers = tuple(
        ContainerStats(name=name, usage=usage(earlier.get(name), use))
        for name, use in after.containers
        if use is not None and use.populated
    )
    uses = [use for use in (after.group, *(use for _, use in after.containers)) if use is not None]
    return PodStats(
        name=after.name,
        namespace=after.namespace,
        uid=after.uid,
        running=after.running,
        usage=_of_pod(before, after),
        containers=containers,
        missing=_missing(uses),
    )


def _of_pod(before: PodLook | None, after: PodLook) -> Usage:
    """Return what a Pod as a whole uses: what its group does, and its network."""
    earlier = before.group if before is not None else None
    found = usage(earlier, after.group)
    if before is None or earlier is None or after.group is None:
        return found
    seconds = (after.group.taken_ns - earlier.taken_ns) / 1e9
    if before.traffic is None or after.traffic is None or seconds <= 0:
        return found
    received = after.traffic.received_bytes - before.traffic.received_bytes
    sent = after.traffic.sent_bytes - before.traffic.sent_bytes
    return msgspec.structs.replace(
        found,
        received_bytes_per_second=max(received, 0) / seconds,  # a sandbox made anew begins at 0
        sent_bytes_per_second=max(sent, 0) / seconds,
    )


def usage(before: GroupUse | None, after: GroupUse | None) -> Usage:
    """Return what a group uses, of two looks at it; all is unknown of one that is gone."""
    if after is None:
        return Usage()
    rates = Rates() if before is None else stats.rates(before, after)
    memory, pids = after.memory, after.pids
    return Usage(
        cpu=rates.cpu,
        cpu_limit=after.cpu_limits.cpus if after.cpu_limits is not None else None,
        throttled=rates.throttled,
        memory=memory.current if memory is not None else None,
        memory_limit=memory.limit if memory is not None else None,
        working_set=memory.working_set if memory is not None else None,
        oom_kills=after.memory_events.oom_kill if after.memory_events is not None else None,
        pids=pids.current if pids is not None else None,
        pids_limit=pids.limit if pids is not None else None,
        read_bytes_per_second=rates.read_bytes,
        written_bytes_per_second=rates.written_bytes,
        pressure_cpu=_some(after.pressure_cpu),
        pressure_memory=_some(after.pressure_memory),
        pressure_io=_some(after.pressure_io),
    )


def _some(pressure: Pressure | None) -> float | None:
    return None if pressure is None else pressure.some.avg10


def _missing(uses: list[GroupUse]) -> tuple[str, ...]:
    found = [name for name in stats.COUNTED if any(name in use.missing for use in uses)]
    if any(use.pressure_cpu is None for use in uses):
        found.append(PRESSURE)
    return tuple(found)
