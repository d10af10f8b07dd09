"""Resources of Pods that run: those of applied Pods follow their objects, and what was deferred is tried again.

The object of an applied Pod is the one truth: `pyrun apply` and `pyrun pod resize` both change it. A Pod that waits for
room needs no timer: whatever frees something has everything looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pyrun.controllers.context import Context
from pyrun.controllers.desired import Desired
from pyrun.controllers.execute import Jobs
from pyrun.controllers.pods import PodUnit
from pyrun.controllers.workers import Failure
from pyrun.errors import ManifestError
from pyrun.lifecycle.resize import Resources, resources_of
from pyrun.manifest.load import read_object
from pyrun.spec.object import StoredObject
from pyrun.spec.pod import Pod
from pyrun.state.events import Reason, about_pod
from pyrun.store.convert import object_value

SETTLE_NS = 500_000_000
"""How long the view of a Pod may be behind what a worker has done: it is not asked again so soon."""
RETRY_NS = 5_000_000_000
"""How long what has failed is not tried again."""


class _Read(NamedTuple):
    """The resources of an applied Pod as they were read when its spec had a generation; None: it cannot be read."""

    generation: int
    resources: Resources | None


class Resizes:
    """The loop over the resources of Pods."""

    def __init__(self, context: Context, desired: Desired) -> None:
        self._context = context
        self._desired = desired
        self._read: dict[str, _Read] = {}
        self._told: dict[str, str] = {}

    def sync(self, units: Mapping[str, PodUnit]) -> None:
        """Give applied Pods the resources of their objects, and try again those that wait and have room now."""
        stored = self._desired.objects("Pod") or ()
        self._read = {one.uid: self._resources(one) for one in stored if one.uid in units}
        for uid, read in self._read.items():
            unit = units[uid]
            if read.resources is not None and unit.resources not in (None, read.resources):
                jobs = Jobs(self._context.facts, unit.directory)
                self._work(unit, functools.partial(jobs.resize, read.resources, read.generation))
        for unit in units.values():
            awaited = unit.awaited
            if awaited is not None and not self._context.headroom.shortages(awaited):
                self._work(unit, Jobs(self._context.facts, unit.directory).go_on_resizing)

    def _resources(self, stored: StoredObject) -> _Read:
        known = self._read.get(stored.uid)
        if known is not None and known.generation == stored.generation:
            return known
        try:
            pod = read_object(object_value(stored))
        except ManifestError:
            return _Read(stored.generation, None)
        return _Read(stored.generation, resources_of(pod.spec) if isinstance(pod, Pod) else None)

    def _work(self, unit: PodUnit, job: Callable[[], None]) -> None:
        key, workers, loop = ("resize", unit.uid), self._context.workers, self._context.loop
        if workers.busy(key) or loop.is_set(("resize-again", unit.uid)):
            return

        def finished(failure: Failure | None) -> None:
            pause = SETTLE_NS if failure is None else RETRY_NS
            loop.at(("resize-again", unit.uid), loop.clock() + pause, self._desired.changed)
            unit.soon()
            if failure is None:
                self._told.pop(unit.uid, None)
            elif self._told.get(unit.uid) != failure.sentence and unit.pod is not None and not unit.gone:
                self._told[unit.uid] = failure.sentence
                about = about_pod(unit.uid, unit.pod)
                self._context.record(about, Reason.RESIZE_ERROR, failure.sentence)

        workers.start(key, job, finished)
