"""ReplicaSet: what is desired, what is there, what is in flight -> what to do. Pure.

Differences from Kubernetes, both because there is one host and no garbage collector beside this controller: a
replica that has failed or succeeded is deleted, not only replaced; and a set that is being deleted stays in
the store until its Pods have gone, so that a supervisor that is killed in between carries on.
Source: Kubernetes' pkg/controller/replicaset/replica_set.go and replica_set_utils.go.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from pyrun.controllers.headroom import Room
from pyrun.controllers.ownership import Claims, claim, controller_of
from pyrun.controllers.ranking import PodSummary, deletion_order
from pyrun.controllers.work import Backoff, Work
from pyrun.errors import StateError
from pyrun.spec.object import StoredObject
from pyrun.spec.replicaset import ReplicaSet
from pyrun.spec.status import Condition, ReplicaSetStatus
from pyrun.spec.value import Value

BURST = 500
"""Creations, and deletions, that one decision asks for at most."""

REPLICA_FAILURE = "ReplicaFailure"
UNSCHEDULABLE = "Unschedulable"
"""The reason of ReplicaFailure while there is no room for another Pod."""

_SECOND = 1_000_000_000
_PLENTY = Room(count=BURST)


class Deletion(enum.Enum):
    """Whether a set shall go, and its Pods with it."""

    NONE = "none"
    BACKGROUND = "background"
    ORPHAN = "orphan"


class DesiredSet(Value, frozen=True, kw_only=True):
    """A ReplicaSet as the store has it; `conditions` are those of its last status."""

    replica_set: ReplicaSet
    uid: str
    generation: int
    deletion: Deletion = Deletion.NONE
    conditions: tuple[Condition, ...] = ()


class Now(NamedTuple):
    """The time: CLOCK_MONOTONIC in nanoseconds, by which is decided, and RFC 3339, for people."""

    ns: int
    at: str


class Removal(Value, frozen=True, kw_only=True):
    """A Pod to delete, and why, in words."""

    uid: str
    message: str


class Decision(Value, frozen=True, kw_only=True):
    """What to do now, in this order; then the status to store, and when to decide again at the latest.

    `release` and `adopt`: uids whose owner changes; both at once, before the rest. `remove`: Pods to delete.
    `create`: how many Pods to make from the template; their names go to `work.begun`. `work` is to be kept for
    the next call. `finished`: nothing is left of a set that was deleted; it can be removed from the store.
    `wake_ns`: CLOCK_MONOTONIC, None when only something that happens makes a difference.
    """

    release: tuple[str, ...] = ()
    adopt: tuple[str, ...] = ()
    remove: tuple[Removal, ...] = ()
    create: int = 0
    status: ReplicaSetStatus
    work: Work
    finished: bool = False
    wake_ns: int | None = None


def desired_set(stored: StoredObject, replica_set: ReplicaSet) -> DesiredSet:
    """Return a stored ReplicaSet, which was read as `replica_set`. Raises StateError when its status is damaged."""
    try:
        status = msgspec.json.decode(stored.status, type=ReplicaSetStatus)
    except msgspec.DecodeError as error:
        raise StateError(
            f"the status of {stored.key} cannot be read: {error}", hint="apply it again"
        ) from error
    deletion = Deletion.NONE
    if stored.deleted_at:
        deletion = Deletion.ORPHAN if stored.orphan else Deletion.BACKGROUND
    return DesiredSet(
        replica_set=replica_set,
        uid=stored.uid,
        generation=stored.generation,
        deletion=deletion,
        conditions=status.conditions,
    )


def decide(
    desired: DesiredSet, pods: Iterable[PodSummary], work: Work, now: Now, room: Room = _PLENTY
) -> Decision:
    """Return what brings the set nearer to what is desired.

    `pods` are all Pods of the host, at one moment; `room` is how many more of the set's Pods it has room for.
    """
    # What is being deleted counts as gone, even if the view does not show that yet.
    seen = [msgspec.structs.replace(p, terminating=True) if p.uid in work.deleting else p for p in pods]
    if desired.deletion is not Deletion.NONE:
        return _going(desired, seen, work, now)
    return _staying(desired, claim(desired.replica_set, desired.uid, seen), work, now, room)


def _staying(desired: DesiredSet, claims: Claims, work: Work, now: Now, room: Room) -> Decision:
    spec = desired.replica_set.spec
    active = [pod for pod in claims.owned if pod.active()]
    if work.generation != desired.generation:  # whatever has failed, it was something else
        work = msgspec.structs.replace(work, generation=desired.generation, creation=Backoff())

    work, create = _next_batch(work, spec.replicas - len(active), now, room.count)
    # What is being created and not seen yet is no surplus: it is pending, and goes first once it is seen.
    extra = deletion_order(active, now.ns)[: max(len(active) - spec.replicas, 0)]
    wanted = _removals([p for p in claims.owned if p.finished() and not p.terminating], "it has ended")
    wanted += _removals(extra, f"there are {len(active)} replicas and {spec.replicas} are wanted")
    work, remove = _allowed(work, wanted, now)

    waits = [_next_available(active, spec.min_ready_seconds, now)]
    if not create and not work.creating and work.creation.not_before_ns > now.ns:
        waits.append(work.creation.not_before_ns)
    if wanted and work.deletion.not_before_ns > now.ns:
        waits.append(work.deletion.not_before_ns)
    return Decision(
        release=claims.release,
        adopt=claims.adopt,
        remove=remove,
        create=create,
        status=_status(desired, claims.owned, work, now, room),
        work=work,
        wake_ns=_earliest(waits),
    )


def _going(desired: DesiredSet, pods: Sequence[PodSummary], work: Work, now: Now) -> Decision:
    """The set is being deleted: nothing is made or adopted any more."""
    owned = [pod for pod in pods if _is_controlled(pod, desired.uid)]
    staying = [pod for pod in owned if not pod.terminating]
    orphans = desired.deletion is Deletion.ORPHAN
    wanted = () if orphans else _removals(staying, "its ReplicaSet is being deleted")
    work = msgspec.structs.replace(work, batch=0, creation=Backoff())
    work, remove = _allowed(work, wanted, now)
    return Decision(
        release=tuple(pod.uid for pod in staying) if orphans else (),
        remove=remove,
        status=_status(desired, owned, work, now, _PLENTY),
        work=work,
        finished=not work.creating and not (staying if orphans else owned),
        wake_ns=work.deletion.not_before_ns if wanted and work.deletion.not_before_ns > now.ns else None,
    )


def _is_controlled(pod: PodSummary, uid: str) -> bool:
    controller = controller_of(pod.owner_references)
    return controller is not None and controller.uid == uid


def _next_batch(work: Work, missing: int, now: Now, room: int) -> tuple[Work, int]:
    """The next batch of a round: 1, 2, 4 and so on, each when the one before has succeeded; no more than have room.

    So a template that cannot be made costs one attempt, not hundreds. After a failure the next round waits, but not
    when more is missing by now: a replica that has died is replaced at once if it can be. Without any room the round is
    over; whoever finds some decides again, and what failed before does not count then.
    """
    if work.creating:  # nor is a second one made for what is not seen yet
        return work, 0
    if missing <= 0 or room <= 0:
        return msgspec.structs.replace(work, batch=0, creation=Backoff()), 0
    if now.ns < work.creation.not_before_ns and missing <= work.missing:
        return work, 0
    size = min(missing, max(2 * work.batch, 1), BURST, room)
    return msgspec.structs.replace(work, batch=size, missing=missing), size


def _removals(pods: Iterable[PodSummary], message: str) -> tuple[Removal, ...]:
    return tuple(Removal(uid=pod.uid, message=message) for pod in pods)


def _allowed(work: Work, wanted: tuple[Removal, ...], now: Now) -> tuple[Work, tuple[Removal, ...]]:
    """The deletions that can begin now; none while earlier ones that failed are waited for."""
    if not wanted and not work.deleting:
        return msgspec.structs.replace(work, deletion=Backoff()), ()
    if now.ns < work.deletion.not_before_ns:
        return work, ()
    chosen = wanted[:BURST]
    deleting = work.deleting.union(removal.uid for removal in chosen)
    return msgspec.structs.replace(work, deleting=deleting), chosen


def _available_at(pod: PodSummary, min_ready_seconds: int) -> int:
    return pod.ready_since_ns + min_ready_seconds * _SECOND


def _next_available(active: Iterable[PodSummary], min_ready_seconds: int, now: Now) -> int | None:
    """When the next ready Pod becomes available."""
    times = (_available_at(pod, min_ready_seconds) for pod in active if pod.ready)
    return min((time for time in times if time > now.ns), default=None) if min_ready_seconds else None


def _earliest(times: Iterable[int | None]) -> int | None:
    return min((time for time in times if time is not None), default=None)


def _status(
    desired: DesiredSet, owned: Sequence[PodSummary], work: Work, now: Now, room: Room
) -> ReplicaSetStatus:
    """How far the set is, as it was seen: before what is decided now."""
    spec = desired.replica_set.spec
    labels = spec.template.metadata.labels.items()
    active = [pod for pod in owned if pod.active()]
    ready = [pod for pod in active if pod.ready]
    wait = spec.min_ready_seconds
    unplaced = spec.replicas - len(active) - len(work.creating - {pod.name for pod in active})
    lacking = room.lacking if unplaced > 0 and room.count <= 0 else ""
    return ReplicaSetStatus(
        replicas=len(active),
        fully_labeled_replicas=sum(labels <= pod.labels.items() for pod in active),
        ready_replicas=len(ready),
        available_replicas=sum(not wait or _available_at(pod, wait) <= now.ns for pod in ready),
        terminating_replicas=sum(pod.terminating and not pod.finished() for pod in owned),
        observed_generation=desired.generation,
        conditions=_conditions(desired.conditions, work, now, lacking),
    )


def _conditions(previous: tuple[Condition, ...], work: Work, now: Now, lacking: str) -> tuple[Condition, ...]:
    """The conditions before, with ReplicaFailure as long as creations or deletions fail, or there is no room."""
    kept = tuple(condition for condition in previous if condition.type != REPLICA_FAILURE)
    known = next((condition for condition in previous if condition.type == REPLICA_FAILURE), None)
    if work.creation.failures:
        reason, message = "FailedCreate", work.creation.message
    elif lacking:
        reason, message = UNSCHEDULABLE, f"no room for another Pod: {lacking}"
    elif work.deletion.failures:
        reason, message = "FailedDelete", work.deletion.message
    else:
        return kept
    since = known.last_transition_time if known is not None and known.status == "True" else now.at
    failure = Condition(
        type=REPLICA_FAILURE, status="True", reason=reason, message=message, last_transition_time=since
    )
    return (*kept, failure)
