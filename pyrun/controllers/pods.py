"""One Pod under supervision: observe it, decide, and have workers carry out what was decided.

Nothing is remembered here that the kernel or the records do not say again: a unit is made anew for each Pod
when a supervisor starts, and goes on where the one before stopped.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from pyrun.controllers.context import Context
from pyrun.controllers.execute import Jobs
from pyrun.controllers.headroom import Reservation
from pyrun.controllers.oom import OomWatch
from pyrun.controllers.prober import Prober
from pyrun.controllers.publish import is_ready, publish
from pyrun.controllers.ranking import PodSummary
from pyrun.controllers.storage import StorageGuard
from pyrun.controllers.workers import Failure
from pyrun.errors import StateError
from pyrun.lifecycle.actions import Action, RunPostStart, StopContainer, TerminatePod
from pyrun.lifecycle.decide import compute_pod_actions
from pyrun.lifecycle.observation import PendingReason, PodObservation
from pyrun.lifecycle.resize import Resources, difference, growth, resources_of, with_resources
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory, is_locked
from pyrun.runtime.remove import recover_one
from pyrun.spec.annotations import backoff_of
from pyrun.spec.effective import effective_request
from pyrun.spec.pod import Pod
from pyrun.spec.resources import ResourceList
from pyrun.spec.status import Phase, PodStatus
from pyrun.state.events import about_pod

SECOND = 1_000_000_000
RETRY_NS = SECOND
MAX_RETRY_NS = 60 * SECOND


class PodUnit:
    """A Pod of this host. `pod`, `observed` and `status` are as of the last look; None before the first."""

    def __init__(self, context: Context, directory: PodDirectory, changed: Callable[[PodUnit], None]) -> None:
        self.directory = directory
        self.pod = _pod_of(directory)
        self.observed: PodObservation | None = None
        self.status: PodStatus | None = None
        self.gone = False
        self._context = context
        self._changed = changed
        self._prober = Prober(context, directory, self.soon)
        self._jobs = Jobs(context.facts, directory)
        self._storage = StorageGuard(context, directory, self._jobs)
        self._oom = OomWatch(context, directory, self.soon)
        self._pidfds: dict[str, int] = {}
        self._failures = 0
        self._unreadable = ""
        self._ready_since_ns = 0

    @property
    def uid(self) -> str:
        """The Pod's uid."""
        return self.directory.uid

    @property
    def terminating(self) -> bool:
        """Whether it is on its way out: to be removed, or to be ended and not there yet."""
        stop = self.observed.stop if self.observed is not None else None
        ended = self.status is not None and self.status.phase in (Phase.SUCCEEDED, Phase.FAILED)
        return stop is not None and (stop.remove or not ended)

    @property
    def reservation(self) -> Reservation:
        """What it holds of the host: all that it requests until it has ended, unless it runs without that."""
        ended = self.status is not None and self.status.phase in (Phase.SUCCEEDED, Phase.FAILED)
        without = self.observed is not None and self.observed.unreserved
        if self.pod is None or ended or without:
            return Reservation(self.uid, ResourceList())
        return Reservation(self.uid, effective_request(self.pod.spec))

    @property
    def resources(self) -> Resources | None:
        """The resources that are wished for of its containers; None while nothing is known, or it is on its way out."""
        if self.pod is None or self.observed is None or self.observed.stop is not None:
            return None
        pending = self.observed.pending
        return resources_of(self.pod.spec) if pending is None else pending.resources

    @property
    def awaited(self) -> ResourceList | None:
        """What it waits for beside what it holds, None when it does not wait to be resized."""
        pending = self.observed.pending if self.observed is not None else None
        if self.pod is None or pending is None or pending.reason is not PendingReason.DEFERRED:
            return None
        wanted = effective_request(with_resources(self.pod, pending.resources).spec)
        return difference(growth(self.reservation.held, wanted), self.reservation.held)

    def summary(self) -> PodSummary | None:
        """What a controller needs to know of it; None while nothing is known."""
        pod, status, observed = self.pod, self.status, self.observed
        if pod is None:
            return None
        statuses = status.container_statuses if status is not None else ()
        return PodSummary(
            uid=self.uid,
            name=pod.metadata.name,
            namespace=pod.metadata.namespace,
            labels=pod.metadata.labels,
            annotations=pod.metadata.annotations,
            owner_references=pod.metadata.owner_references,
            phase=status.phase if status is not None else Phase.PENDING,
            ready=status is not None and is_ready(status),
            ready_since_ns=self._ready_since_ns,
            restarts=max((one.restart_count for one in statuses), default=0),
            created_ns=observed.created_ns if observed is not None else 0,
            terminating=self.terminating,
        )

    def soon(self) -> None:
        """Look at the Pod in the next turn of the loop; asked for twice, it is looked at once."""
        self._context.loop.at(("pod", self.uid), self._context.loop.clock(), self.sync)

    def sync(self) -> None:
        """Observe, decide, act, publish. A record that cannot be read changes nothing, and is told once."""
        try:
            self._sync()
        except StateError as error:
            if str(error) != self._unreadable and os.path.isdir(self.directory.path):
                self._unreadable = str(error)
                self._context.report(f"Pod {self.uid}: {error.sentence()}; it is left as it is")
            self._later(RETRY_NS)

    def close(self) -> None:
        """Let go of everything that belongs to the Pod; it has gone."""
        self.gone = True
        self._context.loop.cancel(("pod", self.uid))
        self._prober.close()
        self._storage.close()
        self._oom.close()
        for fd in self._pidfds.values():
            self._context.loop.forget(fd)
            os.close(fd)
        self._pidfds.clear()

    def _sync(self) -> None:
        if self.gone:
            return
        if not os.path.isdir(self.directory.path):
            self.close()
            self._changed(self)
            return
        self._context.watches.add(self.directory.path, self.soon)
        record = self.directory.record()
        self.pod = record.pod if record is not None else None
        if not self.directory.complete or self.pod is None:
            self._half_made()
            return
        observed = observe(self.directory)
        self.observed = observed
        self._watch(observed)
        now = self._context.loop.clock()
        settings = backoff_of(self.pod, self._context.backoff)
        decided = compute_pod_actions(self.pod, observed, settings, now)
        self._act(self.pod, decided.actions)
        if decided.wake_ns is not None:
            self._later(max(decided.wake_ns - now, 0))
        self._prober.follow(self.pod, observed)
        published = publish(self._context, self.directory, self.pod, observed)
        self.status, self._ready_since_ns = published.status, published.ready_since_ns
        self._storage.follow(self.pod, observed, published.status)
        self._changed(self)

    def _half_made(self) -> None:
        """Somebody makes it or takes it away right now, or was killed while doing so: then it is undone."""
        if is_locked(self.directory):
            self._later(RETRY_NS)
            self._changed(self)
            return
        directory = self.directory
        self._work("pod", lambda: recover_one(directory))

    def _later(self, delay_ns: int) -> None:
        loop = self._context.loop
        loop.at(("pod-wake", self.uid), loop.clock() + delay_ns, self.soon)

    # What wakes it

    def _watch(self, observed: PodObservation) -> None:
        """Wait for the end of pause and of the monitors, and for exit records in the attempts' directories."""
        wanted: dict[str, Callable[[], int | None]] = {}
        sandbox = self.directory.sandbox()
        if sandbox is not None:
            self._oom.follow(sandbox.facts.cgroup, observed)
        if sandbox is not None and observed.sandbox_alive:
            wanted[f"pause/{sandbox.attempt}"] = sandbox.pause.open
        for container in observed.containers:
            if container.latest is None or container.latest.ended is not None:
                continue
            key = (container.name, container.latest.attempt)
            self._context.watches.add(self.directory.container_directory(key), self.soon)
            record = self.directory.container(key)
            if record is not None:
                wanted[f"{container.name}/{container.latest.attempt}"] = record.monitor.open
        for name in set(self._pidfds) - set(wanted):
            self._drop(name)
        for name in set(wanted) - set(self._pidfds):
            fd = wanted[name]()
            if fd is None:  # it has gone since it was observed
                self.soon()
                continue
            self._pidfds[name] = fd
            self._context.loop.watch(fd, functools.partial(self._ended, name))

    def _ended(self, name: str) -> None:
        self._drop(name)
        self.soon()

    def _drop(self, name: str) -> None:
        fd = self._pidfds.pop(name)
        self._context.loop.forget(fd)
        os.close(fd)

    # What it does

    def _act(self, pod: Pod, actions: tuple[Action, ...]) -> None:
        """Give long waits of one container a worker of their own; all else of the Pod is done in order by one."""
        ordered: list[Action] = []
        for action in actions:
            if isinstance(action, StopContainer | RunPostStart):
                self._alone(action)
            else:
                ordered.append(action)
        if not ordered or self._context.workers.busy(("pod", self.uid)):
            return
        if isinstance(ordered[0], TerminatePod) and is_locked(self.directory):
            self._later(SECOND // 2)  # a command is at it
            return
        self._work("pod", lambda: self._jobs.run(tuple(ordered)))

    def _alone(self, action: StopContainer | RunPostStart) -> None:
        name = f"{type(action).__name__}/{action.container}/{action.attempt}"
        if not self._context.workers.busy((name, self.uid)):
            self._work(name, lambda: self._jobs.run((action,)))

    def _work(self, name: str, job: Callable[[], None]) -> None:
        if not self._context.workers.busy((name, self.uid)):
            self._context.workers.start((name, self.uid), job, self._finished)

    def _finished(self, failure: Failure | None) -> None:
        if failure is None:
            self._failures = 0
            self.soon()
            return
        if self.gone or not os.path.isdir(self.directory.path):
            self.soon()  # it was removed meanwhile: nothing is left to fail
            return
        # The start of a container has a back-off in its own record; this one is for everything else.
        delay = min(RETRY_NS << min(self._failures, 10), MAX_RETRY_NS)
        self._failures += 1
        if failure.kind not in ("NotFound", "Conflict", "Busy") and self.pod is not None:
            self._context.record(about_pod(self.uid, self.pod), "Failed", failure.sentence)
        self.soon() if self._failures == 1 else self._later(delay)


def _pod_of(directory: PodDirectory) -> Pod | None:
    """The Pod of a directory that may have just appeared; one that cannot be read is told at the first look."""
    try:
        record = directory.record()
    except StateError:
        return None
    return record.pod if record is not None else None
