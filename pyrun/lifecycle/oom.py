"""In words: what the kernel did in a container for want of memory, with the evidence that there is."""

from __future__ import annotations

from collections.abc import Iterator

from pyrun.spec.oom import OomLimit, OomReport, Victim
from pyrun.spec.quantity import size

_NAMED = 5
"""Most processes that are named; the rest is counted."""


def oom_words(report: OomReport) -> str:
    """Return what happened: `the kernel killed sh (pid 7, 30Mi of memory) at the limit of the container, 32Mi`.

    Where the kernel's log does not tell who it was, it says so, with what memory.events and memory.peak know.
    """
    if not report.victims:
        return f"the kernel killed for want of memory: {'; '.join(_counted(report))}"
    named = [_victim(victim) for victim in report.victims[:_NAMED]]
    more = len(report.victims) - len(named)
    if more:
        named.append(f"{more} more")
    what = "1 process" if len(report.victims) == 1 else f"{len(report.victims)} processes"
    where = _limit(report, report.victims[0])
    # All that are killed together are counted once, and the first of them twice.
    counted = report.kills > len(report.victims) + 1
    total = f"; memory.events counts {report.kills} kills in all" if counted else ""
    return f"the kernel killed {what} for want of memory: {', '.join(named)}; {where}{total}"


def _victim(victim: Victim) -> str:
    parts = (("anonymous", victim.anonymous), ("files", victim.file), ("shared", victim.shared))
    kinds = ", ".join(f"{name} {size(amount)}" for name, amount in parts if amount)
    main = ", the main process" if victim.main else ""
    # A name is whatever the process gave itself.
    name = "".join(char if char.isprintable() else "?" for char in victim.name)
    return f"{name} (pid {victim.pid}{main}) with {size(victim.memory)}" + (f" ({kinds})" if kinds else "")


def _limit(report: OomReport, victim: Victim) -> str:
    match victim.limit:
        case OomLimit.CONTAINER:
            return f"the limit of the container was reached{_amount(report.limit)}"
        case OomLimit.POD:
            return f"the limit of the Pod was reached{_amount(report.pod_limit)}"
        case OomLimit.ABOVE:
            return f"the limit of the cgroup {victim.limit_group} was reached, which is above the Pod"
        case OomLimit.HOST:
            return "the memory of the host was used up"
        case OomLimit.UNKNOWN:
            return "whose limit was reached the log of the kernel does not tell"


def _amount(limit: int | None) -> str:
    return "" if limit is None else f", {size(limit)}"


def _counted(report: OomReport) -> Iterator[str]:
    yield f"memory.events counts {report.kills} kill{'s' if report.kills > 1 else ''}"
    yield f"which processes is not known ({report.unread or 'the log of the kernel does not tell'})"
    if report.limit is not None:
        yield f"limit {size(report.limit)}"
    if report.pod_limit is not None:
        yield f"limit of the Pod {size(report.pod_limit)}"
    if report.peak is not None:
        yield f"peak {size(report.peak)}"
