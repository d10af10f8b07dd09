"""Who was killed for want of memory: the kernel's log is read when memory.events says that somebody was."""

from __future__ import annotations

import contextlib
import os
import time

import msgspec

from pyrun.cgroups import memory
from pyrun.cgroups.oom import OomKill, Whom, kills_of, parse_kills, victims
from pyrun.errors import StateError
from pyrun.kernel.kmsg import PATH, read_kernel_log
from pyrun.lifecycle.observation import Attempt, PodObservation
from pyrun.plan.sandbox import container_leaf
from pyrun.runtime.pods import ContainerKey, PodDirectory
from pyrun.spec.oom import OomReport
from pyrun.state.records import ContainerRecord, write_record

KEPT = 20
"""Most victims that are recorded of an attempt, the last ones; all are counted."""

_SLACK_US = 1_000_000
_DRIFT = 2000
"""The clock of the kernel's log is not steered: it may be a two thousandth off CLOCK_MONOTONIC (adjtimex(2))."""


def investigate(pod: PodDirectory, key: ContainerKey, kills: int) -> OomReport | None:
    """Return what is known of the kills in an attempt that is not closed yet, `kills` of them by memory.events.

    None when its records are gone. Raises StateError.
    """
    record, sandbox = pod.container(key), pod.sandbox()
    if record is None or sandbox is None:
        return None
    group, leaf = sandbox.facts.cgroup, container_leaf(key[0])
    use, of_pod = memory.use(f"{group}/{leaf}"), memory.use(group)
    whom = Whom(
        pod=os.path.basename(group),
        leaf=leaf,
        main_pid=record.init.pid,
        since_us=_since_us(record),
    )
    told, unread = _told(whom)
    return OomReport(
        kills=kills,
        victims=victims(told[-kills:], whom),
        unread=unread,
        limit=use.limit if use is not None else None,
        pod_limit=of_pod.limit if of_pod is not None else None,
        peak=use.peak if use is not None else None,
    )


def _told(whom: Whom) -> tuple[tuple[OomKill, ...], str]:
    """Return the kills that the log tells of, or why it could not be read."""
    try:
        return kills_of(parse_kills(read_kernel_log()), whom), ""
    except OSError as error:
        return (), f"{PATH} cannot be read: {error.strerror}"


def _since_us(record: ContainerRecord) -> int:
    """Return when an attempt was started, as the log counts; what its clock may differ by is taken off."""
    return record.started_ns // 1000 - _SLACK_US - time.monotonic_ns() // 1000 // _DRIFT


def write_report(pod: PodDirectory, key: ContainerKey, kills: int) -> OomReport | None:
    """Record what is known of all kills in an attempt, and return it; None when its records are gone.

    Who was named before is kept: the log forgets what is old.
    """
    before = _recorded(pod, key)
    if before is not None and before.kills >= kills:
        return before
    report = investigate(pod, key, kills)
    if report is None:
        return None
    if before is not None and before.victims:
        last = before.victims[-1].at_us
        new = tuple(victim for victim in report.victims if victim.at_us > last)
        report = msgspec.structs.replace(report, victims=before.victims + new)
    report = msgspec.structs.replace(report, victims=report.victims[-KEPT:])
    with contextlib.suppress(StateError):  # it has just been removed, or the disk is full
        write_record(pod.oom_path(key), report)
    return report


def _recorded(pod: PodDirectory, key: ContainerKey) -> OomReport | None:
    try:
        return pod.oom(key)
    except StateError:
        return None  # damaged; nothing depends on it, and it is written anew


def with_reports(pod: PodDirectory, observed: PodObservation) -> PodObservation:
    """Return an observation with what is known of kills that nobody has recorded; nothing is recorded here."""
    containers = tuple(
        msgspec.structs.replace(
            container,
            latest=_with_report(pod, container.name, container.latest),
            previous=_with_report(pod, container.name, container.previous),
        )
        for container in observed.containers
    )
    return msgspec.structs.replace(observed, containers=containers)


def _with_report(pod: PodDirectory, name: str, attempt: Attempt | None) -> Attempt | None:
    if attempt is None or not attempt.oom_kills:
        return attempt
    if attempt.oom is not None and attempt.oom.kills >= attempt.oom_kills:
        return attempt
    key = (name, attempt.attempt)
    report = investigate(pod, key, attempt.oom_kills) if pod.closed(key) is None else None
    return msgspec.structs.replace(attempt, oom=report or OomReport(kills=attempt.oom_kills))
