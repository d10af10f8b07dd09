"""Admission: a Pod is made when all that it requests is free on this host, and otherwise not at all.

The ledger is the records of the Pods (`pod.json`): a record is a reservation, from the moment it is written until it
is removed with the Pod. Nothing else is counted, so nothing can differ from it. A reservation is whole or none: a Pod
that runs without its requests (`PodRecord.unreserved`) holds none.

Whoever writes a record that reserves more does so under one lock of the instance, having checked under it. The order
of locks: first the Pod's own, then this one, and nothing is locked under this one. It is held while records are read
and one is written; nothing is forked meanwhile, so no child keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from pyrun.errors import StateError, Unschedulable
from pyrun.rootfs.directories import taken
from pyrun.runtime.pods import LOCK_TIMEOUT, PodDirectory, pod_directories
from pyrun.runtime.status import pod_status
from pyrun.spec.annotations import takes_best_effort
from pyrun.spec.effective import Shortage, effective_request, fits, sum_of
from pyrun.spec.layout import Layout
from pyrun.spec.pod import Pod
from pyrun.spec.resources import Capacity, ResourceList, amounts
from pyrun.spec.status import Phase
from pyrun.state.locks import locked
from pyrun.state.records import PodRecord, write_record

_OVER = (Phase.SUCCEEDED, Phase.FAILED)


def lock_path(layout: Layout) -> str:
    """The file whose lock is held while a reservation is checked and written.

    It is not among the locks of Pods, each of which is taken for a Pod's that may have been left half made.
    """
    return f"{layout.state}/admission.lock"


@contextmanager
def admitting(layout: Layout) -> Iterator[None]:
    """Hold the lock of the ledger: what fits now fits until it is released. Raises Busy when it stays taken.

    The caller may hold the lock of the one Pod it is about, and takes no other until this one is released.
    """
    os.makedirs(layout.state, mode=0o700, exist_ok=True)
    with locked(lock_path(layout), "the ledger of requests", LOCK_TIMEOUT):
        yield


def reserve(pod: PodDirectory, record: PodRecord, capacity: Capacity) -> None:
    """Write the record of a new Pod, by which it has reserved what it requests. The caller holds the Pod's lock.

    Raises Unschedulable (or Conflict when its name is taken) when not all of it is free; nothing is written then. Of a
    Pod that takes what it can get it is recorded what was lacking, and it reserves nothing.
    """
    path, request = f"{pod.path}/pod.json", effective_request(record.pod.spec)
    if not amounts(request):
        write_record(path, record)
        return
    with admitting(pod.layout):
        lacking = shortages(request, capacity, pod.layout, pod.uid)
        if not takes_best_effort(record.pod):
            refuse((record.pod,), lacking, pod.layout)
        write_record(path, msgspec.structs.replace(record, unreserved=tuple(map(str, lacking))))


def reserved(layout: Layout, without_uid: str = "") -> ResourceList:
    """Return what the Pods of an instance have reserved: those that have not ended, but for the one of a uid.

    One that is half made counts. Raises StateError when a record cannot be read: what that Pod holds is unknown.
    """
    held = _reservations(layout, without_uid)
    return sum_of(request for pod, request in held if not has_ended(pod))


def shortages(
    request: ResourceList, capacity: Capacity, layout: Layout, without_uid: str = ""
) -> tuple[Shortage, ...]:
    """Return what a host lacks for a request beside what the Pods of an instance have reserved; nothing: it fits.

    `without_uid` is the Pod whose request it is. Hold `admitting` until the request stands in its record. Who asks for
    nothing costs nothing; and only when the sum of all records is too much is it looked at which Pods have ended.
    Raises StateError when a record cannot be read: what that Pod holds is unknown.
    """
    if not amounts(request):
        return ()
    held = _reservations(layout, without_uid)
    if not fits(request, capacity, sum_of(one for _, one in held)):
        return ()
    return fits(request, capacity, sum_of(one for pod, one in held if not has_ended(pod)))


def refuse(pods: Sequence[Pod], lacking: Sequence[Shortage], layout: Layout) -> None:
    """Raise Unschedulable when something is lacking for new Pods; Conflict when one of their names is taken anyway."""
    if not lacking:
        return
    for metadata in (pod.metadata for pod in pods):
        if metadata.name and os.path.exists(f"{layout.names(metadata.namespace)}/{metadata.name}"):
            raise taken(metadata.name)
    raise unschedulable(pods, lacking)


def unschedulable(pods: Sequence[Pod], lacking: Sequence[Shortage]) -> Unschedulable:
    """Return the error of new Pods that have no room."""
    enough = all(one.requested <= one.capacity for one in lacking)
    remedy = "stop or remove another Pod, ask for less" if enough else "ask for less than there is"
    who = f'Pod "{pods[0].metadata.name}"' if len(pods) == 1 else f"the {len(pods)} Pods together"
    return Unschedulable(
        f"this host has not enough left for {who}: {'; '.join(map(str, lacking))}",
        hint=f"{remedy}, or run it without a guarantee: --best-effort",
    )


def has_ended(pod: PodDirectory) -> bool:
    """Whether a Pod has come to its end and holds nothing any more; one that is half made has not."""
    try:
        return pod_status(pod).phase in _OVER
    except StateError:
        return False


def _reservations(layout: Layout, without_uid: str) -> list[tuple[PodDirectory, ResourceList]]:
    """Return the Pods that have reserved something, with that."""
    found = []
    for pod in pod_directories(layout):
        record = pod.record() if pod.uid != without_uid else None
        if record is not None and not record.unreserved:
            request = effective_request(record.pod.spec)
            if amounts(request):
                found.append((pod, request))
    return found
