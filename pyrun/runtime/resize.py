"""Other resources for a Pod that runs, without making it anew.

It is what CRI calls UpdatePodSandboxResources and UpdateContainerResources.

What is wished for is recorded first; then it is admitted and recorded as allocated; then the kernel is moved towards
that, and the record of the resize goes when it is there. Whoever is killed in between is followed by another one who
begins with what the records and the files of the cgroups say, and writes only what differs.

The oom_score_adj of processes that run stays, as in Kubernetes; what is started later has that of the new resources.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from pyrun.cgroups import files
from pyrun.cgroups.delegation import remedy
from pyrun.cgroups.tier import WeighTier
from pyrun.errors import ManifestError, PyrunError, Unsupported
from pyrun.kernel.observer import Observer
from pyrun.kernel.operation import Operation, Results
from pyrun.lifecycle.observation import PendingReason, PendingResize, PodObservation, Resizing
from pyrun.lifecycle.resize import (
    RESIZE,
    Resources,
    changes,
    growth,
    refusals,
    resources_of,
    to_restart,
    with_resources,
)
from pyrun.plan.host import HostFacts
from pyrun.plan.resize import FILES, USE, Target, in_use, plan_writes
from pyrun.plan.resources import LeftOut, lacking
from pyrun.plan.sandbox import container_leaf
from pyrun.runtime.admission import admitting, shortages
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import (
    ContainerKey,
    PodDirectory,
    pod_lock,
    refuse_stopped,
    require_record,
    require_sandbox,
)
from pyrun.runtime.stop import request_container_stop
from pyrun.spec.annotations import takes_best_effort
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.effective import Shortage, effective_request, fits
from pyrun.spec.linux import container_resources, pod_resources
from pyrun.spec.pod import Pod
from pyrun.spec.qos import QosClass, qos_class
from pyrun.spec.resources import ResourceList
from pyrun.state import transaction
from pyrun.state.events import Reason
from pyrun.state.records import PodRecord, write_record


class Told(NamedTuple):
    """What is worth an event: it has not been so before. Of the Pod when `container` is empty."""

    reason: Reason
    message: str
    container: str = ""


class Resized(msgspec.Struct, frozen=True, kw_only=True):
    """How far a Pod has come with what is wished for: all is there when nothing of this is set.

    `restarting` are the attempts that are to end now, for their containers to be started with other resources.
    """

    pending: PendingResize | None = None
    resizing: Resizing | None = None
    restarting: tuple[ContainerKey, ...] = ()
    told: tuple[Told, ...] = ()

    @property
    def done(self) -> bool:
        """Whether the Pod has what is wished for."""
        return self.pending is None and self.resizing is None


def refuse_resize(pod: PodDirectory, wanted: Resources, facts: HostFacts) -> None:
    """Raise ManifestError with everything a running Pod cannot take, Unsupported for limits this host cannot give.

    Conflict when it is being stopped: nobody need record a wish that would be refused then.
    """
    refuse_stopped(pod)
    running = require_record(pod).pod
    target = with_resources(running, wanted)
    _refuse(running, target)
    missing = _left_out(target, facts)
    if missing and not takes_best_effort(target):
        raise Unsupported(
            f'this host cannot give Pod "{running.metadata.name}" these limits: {"; ".join(map(str, missing))}',
            hint=_remedies(missing, facts),
        )


def resize_pod(
    pod: PodDirectory,
    wanted: Resources,
    facts: HostFacts,
    observer: Observer | None = None,
    *,
    generation: int = 0,
) -> Resized:
    """Record which resources containers of a Pod shall have, and go as far as that is possible now.

    What others had wished for and is not allocated is given up; but what an earlier `generation` of an object of the
    store has wished for is not recorded after a later one. Raises ManifestError with everything that a running Pod
    cannot take, Conflict when it is being stopped, StateError when it is half made.
    """
    with pod_lock(pod):
        refuse_stopped(pod)
        require_sandbox(pod)
        record = require_record(pod)
        if not generation or generation >= record.generation:
            _wish(pod, record, wanted, generation)
        return _Resizer(pod, facts, observer).go_on()


def _wish(pod: PodDirectory, record: PodRecord, wanted: Resources, generation: int) -> None:
    target = with_resources(record.pod, wanted)
    _refuse(record.pod, target)
    changed = replace(record, generation=generation or record.generation)
    if target == record.pod:
        changed = replace(changed, pending=None)
    elif target != record.desired:
        changed = replace(changed, pending=PendingResize(resources=resources_of(target.spec)))
    if changed != record:
        write_record(f"{pod.path}/pod.json", changed)


def continue_resize(pod: PodDirectory, facts: HostFacts, observer: Observer | None = None) -> Resized:
    """Go on with what is wished for. Raises Conflict when the Pod is being stopped, StateError when it is half made."""
    with pod_lock(pod):
        refuse_stopped(pod)
        return _Resizer(pod, facts, observer).go_on()


def _refuse(running: Pod, target: Pod) -> None:
    problems = refusals(running.spec, target.spec)
    if problems:
        raise ManifestError(f'Pod "{running.metadata.name}"', problems)


def _left_out(pod: Pod, facts: HostFacts) -> tuple[LeftOut, ...]:
    containers = [(c.name, container_resources(pod, c, facts.capacity)) for c in pod.spec.all_containers()]
    return lacking(pod_resources(pod), containers, facts.controllers)


def _remedies(missing: Iterable[LeftOut], facts: HostFacts) -> str:
    names = dict.fromkeys(one.setting.controller for one in missing)
    return "; ".join(f"{name}: {remedy(facts.place, name)}" for name in names)


class _Resizer:
    """Goes on with the resize of a Pod whose lock the caller holds."""

    def __init__(self, pod: PodDirectory, facts: HostFacts, observer: Observer | None) -> None:
        self._pod = pod
        self._facts = facts
        self._results = Results(observer)
        self._told: list[Told] = []

    def go_on(self) -> Resized:
        """Decide about what is pending, then move the kernel; return how far that came."""
        if (pending := require_record(self._pod).pending) is not None:
            self._admit(pending)
        restarting: tuple[ContainerKey, ...] = ()
        if (resizing := require_record(self._pod).resizing) is not None:
            restarting = self._carry_out(resizing)
        record = require_record(self._pod)
        return Resized(
            pending=record.pending,
            resizing=record.resizing,
            restarting=restarting,
            told=tuple(self._told),
        )

    def _write(self, record: PodRecord) -> None:
        write_record(f"{self._pod.path}/pod.json", record)

    # Admission

    def _admit(self, pending: PendingResize) -> None:
        """Allocate what is pending, if this host has it and has it left."""
        record = require_record(self._pod)
        wanted = with_resources(record.pod, pending.resources)
        missing = _left_out(wanted, self._facts)
        if missing and not takes_best_effort(wanted):
            text = f"this host cannot give these limits: {'; '.join(map(str, missing))}"
            self._wait(
                record, pending, (PendingReason.INFEASIBLE, f"{text}; {_remedies(missing, self._facts)}")
            )
            return
        request = effective_request(wanted.spec)
        # What is kept for it already needs no room; nothing is kept for one that was made without.
        more = request if record.unreserved else growth(effective_request(record.pod.spec), request)
        with admitting(self._pod.layout):
            short = shortages(more, self._facts.capacity, self._pod.layout, self._pod.uid)
            if not short or takes_best_effort(wanted):
                self._allocate(record, wanted, short)
                return
        self._wait(record, pending, self._verdict(more, short))

    def _verdict(self, more: ResourceList, short: tuple[Shortage, ...]) -> tuple[PendingReason, str]:
        beyond = fits(more, self._facts.capacity, ResourceList())
        if beyond:
            return PendingReason.INFEASIBLE, f"this host does not have as much: {'; '.join(map(str, beyond))}"
        return PendingReason.DEFERRED, f"this host has not enough left: {'; '.join(map(str, short))}"

    def _wait(self, record: PodRecord, pending: PendingResize, verdict: tuple[PendingReason, str]) -> None:
        reason, message = verdict
        if reason is not pending.reason:
            infeasible = reason is PendingReason.INFEASIBLE
            self._told.append(
                Told(Reason.RESIZE_INFEASIBLE if infeasible else Reason.RESIZE_DEFERRED, message)
            )
        tried = replace(pending, reason=reason, message=message, tried_ns=time.monotonic_ns())
        self._write(replace(record, pending=tried))

    def _allocate(self, record: PodRecord, wanted: Pod, short: tuple[Shortage, ...]) -> None:
        """Record that the Pod has its resources now, as far as the ledger is concerned, and who restarts for them."""
        seen = observe(self._pod)
        before = dict(record.resizing.restarts) if record.resizing is not None else {}
        changed = changes(record.pod.spec, wanted.spec)
        for one in changed:
            latest = seen.container(one.container).latest
            if one.restart and latest is not None and latest.ended is None:
                before[one.container] = latest.attempt
        self._write(
            replace(
                record,
                pod=wanted,
                pending=None,
                resizing=Resizing(restarts=tuple(before.items())),
                left_out=tuple(map(str, _left_out(wanted, self._facts))),
                unreserved=tuple(map(str, short)),
            )
        )
        names = ", ".join(one.container for one in changed)
        self._told.append(Told(Reason.RESIZE_STARTED, f"Resources of container {names} are changed"))

    # The kernel

    def _carry_out(self, resizing: Resizing) -> tuple[ContainerKey, ...]:
        """Move the kernel to what is allocated; return the attempts that are to end for it.

        What is in the way is recorded, and tried again later.
        """
        seen = observe(self._pod)
        restarting = to_restart(seen)
        try:
            self._move(seen, restarting)
            self._ask_to_end(seen, restarting)
        except PyrunError as error:
            self._fail(resizing, error.sentence())
            return ()
        record = require_record(self._pod)
        if restarting:
            self._write(replace(record, resizing=Resizing(restarts=restarting)))
        else:
            self._write(replace(record, resizing=None))
            self._told.append(Told(Reason.RESIZE_COMPLETED, "Its containers have their resources"))
        return restarting

    def _fail(self, resizing: Resizing, sentence: str) -> None:
        if not resizing.error:
            self._told.append(Told(Reason.RESIZE_ERROR, sentence))
        failed = replace(resizing, error=sentence, tried_ns=time.monotonic_ns())
        self._write(replace(require_record(self._pod), resizing=failed))

    def _move(self, seen: PodObservation, restarting: tuple[ContainerKey, ...]) -> None:
        """Write into the groups of the Pod and of the containers that go on; nothing when memory is in use still."""
        if not seen.sandbox_alive:
            return  # whatever is made next has what is allocated
        ending = dict(restarting)
        live = {
            one.name: (one.name, one.latest.attempt)
            for one in seen.containers
            if one.latest is not None and one.latest.ended is None and one.name not in ending
        }
        pod = require_record(self._pod).pod
        group = require_sandbox(self._pod).facts.cgroup
        wanted = {
            name: container_resources(pod, pod.spec.container(name), self._facts.capacity) for name in live
        }
        whole = self._target("Pod", group, pod_resources(pod))
        parts = [
            self._target(f'container "{name}"', f"{group}/{container_leaf(name)}", resources)
            for name, resources in wanted.items()
        ]
        controllers = self._facts.controllers
        used = in_use((*parts, *(() if restarting else (whole,))), controllers)
        if used:
            raise PyrunError("; ".join(used), hint="it is tried again until less is in use")
        writes = plan_writes(whole, parts, controllers)
        operations = (*self._weigh(pod, group), *writes.first, *(() if restarting else writes.last))
        for operation in operations:
            transaction.apply(operation, self._results)
        for name, key in live.items():
            self._note(key, pod, wanted[name])

    def _target(self, owner: str, group: str, wanted: LinuxResources) -> Target:
        return Target(owner, group, wanted, files.texts(group, (*FILES, USE)))

    def _weigh(self, pod: Pod, group: str) -> tuple[Operation, ...]:
        if "cpu" not in self._facts.controllers or qos_class(pod.spec) is not QosClass.BURSTABLE:
            return ()
        tier = group.rpartition("/")[0]
        return (WeighTier(tier, self._pod.uid, effective_request(pod.spec).cpu_millis or 0),)

    def _note(self, key: ContainerKey, pod: Pod, resources: LinuxResources) -> None:
        """Record what an attempt has been given; its processes keep their OOM score."""
        made = self._pod.container(key)
        applied = pod.spec.container(key[0]).resources
        if made is None or made.applied == applied:
            return
        given = replace(resources, oom_score_adj=made.config.resources.oom_score_adj)
        changed = replace(made, applied=applied, config=replace(made.config, resources=given))
        write_record(f"{self._pod.container_directory(key)}/container.json", changed)

    def _ask_to_end(self, seen: PodObservation, restarting: tuple[ContainerKey, ...]) -> None:
        grace = require_record(self._pod).pod.spec.termination_grace_period_seconds
        for key in restarting:
            latest = seen.container(key[0]).latest
            if latest is None or latest.stop is not None:
                continue
            text = f"Container {key[0]} is restarted for its changed resources"
            request_container_stop(self._pod, key, grace, RESIZE, text)
            self._told.append(Told(Reason.KILLING, text, key[0]))
