"""What the containers of a Pod use, and who of them was killed for want of memory, for `pyrun describe`."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from pyrun.errors import PyrunError

if TYPE_CHECKING:
    from pyrun.runtime.pods import PodDirectory
    from pyrun.runtime.stats import Usage
    from pyrun.spec.layout import Layout

INTERVAL = 0.2
"""Seconds between the two looks of which rates come."""

_NAMES = (
    "cpu",
    "throttled",
    "memory",
    "working set",
    "OOM kills",
    "processes",
    "read/s",
    "written/s",
    "received/s",
    "sent/s",
    "waits for cpu %",
    "for memory %",
    "for io %",
)
"""What the cells of `pyrun stats` are called in a line of text."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one Pod: a line about what it uses, and lines of each container (empty: nothing to say)."""

    usage: str = ""
    containers: dict[str, str] = {}
    kills: dict[str, str] = {}


def measure(layout: Layout, uids: Collection[str]) -> dict[str, Measured]:
    """Return what can be measured of Pods on this host, by uid; of others, and of broken ones, nothing is said."""
    from pyrun.runtime.pods import pod_directories
    from pyrun.runtime.stats import Meter

    pods = [pod for pod in pod_directories(layout) if pod.uid in uids]
    if not pods:
        return {}
    meter = Meter(lambda error: None)
    meter.read(pods)
    time.sleep(INTERVAL)
    kills = {pod.uid: _kills(pod) for pod in pods}
    return {
        found.uid: Measured(
            usage=_line(found.usage) if found.running else "",
            containers={container.name: _line(container.usage) for container in found.containers},
            kills=kills[found.uid],
        )
        for found in meter.read(pods)
    }


def _line(usage: Usage) -> str:
    from pyrun.cli.stats import UNKNOWN, cells

    known = zip(_NAMES, cells(usage), strict=True)
    return ", ".join(f"{name} {cell}" for name, cell in known if cell != UNKNOWN)


def _kills(pod: PodDirectory) -> dict[str, str]:
    """Return of each container what the kernel did in its last two attempts."""
    from pyrun.runtime.history import kills_of
    from pyrun.runtime.observe import observe
    from pyrun.runtime.oom import with_reports

    try:
        observed = with_reports(pod, observe(pod))
    except PyrunError:
        return {}
    found = {}
    for container in observed.containers:
        attempts = [a for a in (container.latest, container.previous) if a is not None and a.oom_kills]
        texts = [f"{a.oom_kills} in attempt {a.attempt}: {kills_of(a)}" for a in attempts]
        if texts:
            found[container.name] = "; ".join(texts)
    return found
