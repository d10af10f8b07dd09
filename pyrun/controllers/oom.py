"""Kills for want of memory, told while the container lives: woken by memory.events, told once, with the evidence."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pyrun.cgroups import group
from pyrun.controllers.context import Context
from pyrun.kernel import syscalls
from pyrun.lifecycle.observation import Attempt, PodObservation
from pyrun.lifecycle.oom import oom_words
from pyrun.plan.sandbox import container_leaf
from pyrun.runtime.oom import write_report
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.oom import OomReport
from pyrun.spec.pod import Pod
from pyrun.state.events import Reason, about_pod

GATHER_NS = 500_000_000
"""How long kills are gathered for one event: the kernel kills one after the other, and then tells of it; and a
container that runs out of memory again and again keeps nobody else busy."""


class OomWatch:
    """The files memory.events of the running containers of one Pod; `changed` is called when one tells of a kill."""

    def __init__(self, context: Context, directory: PodDirectory, changed: Callable[[], None]) -> None:
        self._context = context
        self._changed = changed
        self._timer = ("oom", directory.uid)
        self._known: dict[str, int] = {}

    def follow(self, cgroup: str, observed: PodObservation) -> None:
        """Watch what runs by now; nothing is lost if there was a kill before: it has been observed."""
        self._known = {
            f"{cgroup}/{container_leaf(container.name)}": container.latest.oom_kills
            for container in observed.containers
            if container.latest is not None and container.latest.ended is None
        }
        for leaf in self._known:
            self._context.watches.add(f"{leaf}/memory.events", self._noticed, syscalls.IN_MODIFY)

    def close(self) -> None:
        """Forget the Pod; its groups have gone, and the watches with them."""
        self._known.clear()
        self._context.loop.cancel(self._timer)

    def _noticed(self) -> None:
        loop = self._context.loop
        if not loop.is_set(self._timer):
            loop.at(self._timer, loop.clock() + GATHER_NS, self._look)

    def _look(self) -> None:
        """The file changes too when reclaim or memory.high has to do, which is nobody's death."""
        if any(group.oom_kills(leaf) > known for leaf, known in self._known.items()):
            self._changed()


def tell_kills(
    context: Context, directory: PodDirectory, pod: Pod, which: tuple[str, Attempt], told: dict[str, int]
) -> None:
    """Record an event of the kills in an attempt that were not told yet, and on disk what is known of all of them."""
    name, attempt = which
    count, at = f"{name}/oom/{attempt.attempt}", f"{name}/oom-at/{attempt.attempt}"
    rise = attempt.oom_kills - told.get(count, 0)
    if rise <= 0:
        return
    report = _report(directory, which, rise, told.get(at, 0))
    told[count] = attempt.oom_kills
    told[at] = max((victim.at_us for victim in report.victims), default=told.get(at, 0))
    text = f"Container {name} (attempt {attempt.attempt}): {oom_words(report)}"
    context.record(about_pod(directory.uid, pod, name), Reason.OOM_KILLING, text)


def _report(directory: PodDirectory, which: tuple[str, Attempt], rise: int, after_us: int) -> OomReport:
    """Return what is known of the last kills; of an attempt that is closed by now only what was recorded."""
    name, attempt = which
    key = (name, attempt.attempt)
    closed = directory.closed(key) is not None
    known = directory.oom(key) if closed else write_report(directory, key, attempt.oom_kills)
    if known is None:
        return OomReport(kills=rise)
    new = tuple(victim for victim in known.victims if victim.at_us > after_us)
    return msgspec.structs.replace(known, kills=rise, victims=new)


def forget_older(told: dict[str, int], observed: PodObservation) -> None:
    """Forget what was told of attempts of which nothing is kept any more."""
    kept = {
        f"{container.name}/{word}/{attempt.attempt}"
        for container in observed.containers
        for attempt in (container.previous, container.latest)
        if attempt is not None
        for word in ("oom", "oom-at")
    }
    for key in [key for key in told if "/oom" in key and key not in kept]:
        del told[key]
