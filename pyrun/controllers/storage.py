"""The disk that one Pod takes, against its limits: measured now and then, by a worker, while there is a limit."""

from __future__ import annotations

import random

from pyrun.controllers.context import Context
from pyrun.controllers.execute import Jobs
from pyrun.controllers.workers import Failure
from pyrun.lifecycle.eviction import eviction, has_storage_limits
from pyrun.lifecycle.observation import PodObservation
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.usage import measure
from pyrun.spec.pod import Pod, PodSpec
from pyrun.spec.status import Phase, PodStatus


class StorageGuard:
    """Has a Pod measured, and evicted when it is over a limit. Without a limit there is no timer."""

    def __init__(self, context: Context, directory: PodDirectory, jobs: Jobs) -> None:
        self._context = context
        self._directory = directory
        self._jobs = jobs
        self._key = ("storage", directory.uid)
        self._spec: PodSpec | None = None
        self._told = ""

    def follow(self, pod: Pod, observed: PodObservation, status: PodStatus) -> None:
        """Go on measuring a Pod that may write more, and let go of one that is ended or over."""
        over = observed.stop is not None or status.phase in (Phase.SUCCEEDED, Phase.FAILED)
        if over or not has_storage_limits(pod.spec):
            self.close()
        elif self._spec is None:
            self._spec = pod.spec
            # Anywhere in the period: all Pods of a host measured at once would be a burst, again and again.
            self._later(int(random.random() * self._context.storage_period_ns))

    def close(self) -> None:
        """Measure no more."""
        self._spec = None
        self._context.loop.cancel(self._key)

    def _later(self, delay_ns: int) -> None:
        self._context.loop.at(self._key, self._context.loop.clock() + delay_ns, self._begin)

    def _begin(self) -> None:
        spec = self._spec
        if spec is not None and not self._context.workers.busy(self._key):
            self._context.workers.start(self._key, lambda: self._enforce(spec), self._finished)

    def _enforce(self, spec: PodSpec) -> None:
        """Measure and decide, and carry out what was decided; runs in a worker."""
        decided = eviction(spec, measure(self._directory, spec))
        if decided is not None:
            self._jobs.run((decided,))

    def _finished(self, failure: Failure | None) -> None:
        if self._spec is None:
            return  # it has ended meanwhile
        sentence = failure.sentence if failure is not None else ""
        if sentence and sentence != self._told:
            self._context.report(f"the storage of Pod {self._directory.uid} is not guarded: {sentence}")
        self._told = sentence
        self._later(self._context.storage_period_ns)
