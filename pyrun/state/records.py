"""Records: what was made, kept to find it again. Status is derived from the kernel on read, never stored."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from pyrun.errors import StateError
from pyrun.kernel.proc import ProcessIdentity
from pyrun.lifecycle.observation import HookState, PendingResize, Resizing, StartFailure, Stop
from pyrun.lifecycle.resize import with_resources
from pyrun.process.control import ExitRecord, parse_exit_record
from pyrun.spec.container import ContainerConfig
from pyrun.spec.oom import OomReport
from pyrun.spec.pod import Pod
from pyrun.spec.resources import ResourceRequirements
from pyrun.spec.sandbox import SandboxFacts
from pyrun.state.files import read_if_there, write_atomically


class PodRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The Pod itself, written first of all; its metadata may change later (labels, owners).

    `created_at` is RFC 3339 in UTC, `created_ns` CLOCK_MONOTONIC. `left_out` are the limits that it runs without;
    `unreserved` says what of its requests was not free when it was made: then none of them is kept for it.
    The resources in `pod` are those that are allocated; `pending` are others that are wished for. `resizing` is there
    from their allocation until the kernel has them. `generation` is that of the object of the store that has wished
    for them last, 0 without one.
    """

    uid: str
    pod: Pod
    created_at: str
    created_ns: int
    left_out: tuple[str, ...] = ()
    unreserved: tuple[str, ...] = ()
    pending: PendingResize | None = None
    resizing: Resizing | None = None
    generation: int = 0

    @property
    def desired(self) -> Pod:
        """The Pod as it is wished for, with the resources that are not allocated yet."""
        return self.pod if self.pending is None else with_resources(self.pod, self.pending.resources)


class SandboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox that was made. `address` is empty on the host's network; `created_at` is RFC 3339 in UTC.

    `attempt` counts the sandboxes of the Pod; `initialized`, `restarting`, `restarted_ns` are those of a
    PodObservation, `created_ns` is its `sandbox_ns`.
    """

    uid: str
    facts: SandboxFacts
    pause: ProcessIdentity
    address: str
    created_at: str
    created_ns: int = 0
    attempt: int = 0
    initialized: bool = False
    restarting: bool = False
    restarted_ns: int = 0


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a container that was created; `started_at` is empty until it was started.

    `started_ns` is CLOCK_MONOTONIC; `crashes` the ends in a row before it that count for the backoff. `applied` are the
    resources that it was given last.
    """

    config: ContainerConfig
    attempt: int
    init: ProcessIdentity
    monitor: ProcessIdentity
    created_at: str
    started_at: str = ""
    started_ns: int = 0
    crashes: int = 0
    applied: ResourceRequirements = ResourceRequirements()


class ProbeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the probes of an attempt have found so far; see `Attempt`. Written by the supervisor."""

    started: bool = False
    ready: bool = False
    unhealthy: str = ""
    unhealthy_message: str = ""


class HookRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How far the postStart hook of an attempt is."""

    state: HookState
    message: str = ""


class ClosedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an ended attempt whose cgroup and root are gone: OOM kills and termination message."""

    oom_kills: int = 0
    message: str = ""


class ConditionTime(msgspec.Struct, frozen=True, kw_only=True):
    """When a condition took the status it has."""

    type: str
    status: str
    at: str
    at_ns: int


class ConditionsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The last transitions of a Pod's conditions, and what was told of it. Written by the supervisor.

    `told` has, for each container, the latest attempt whose end was told (and, as NAME/backoff, whose back-off). As
    NAME/oom/ATTEMPT it has how many OOM kills were told, and as NAME/oom-at/ATTEMPT the time of the last in the log.
    """

    times: tuple[ConditionTime, ...] = ()
    told: dict[str, int] = {}


Record = (
    PodRecord
    | SandboxRecord
    | ContainerRecord
    | ProbeRecord
    | HookRecord
    | ClosedRecord
    | ConditionsRecord
    | OomReport
    | ExitRecord
    | Stop
    | StartFailure
)


def write_record(path: str, record: Record) -> None:
    """Write a record atomically."""
    write_atomically(path, msgspec.json.encode(record))


def read_exit(path: str) -> ExitRecord | None:
    """Return the exit record, None while the container has not ended. Raises StateError."""
    data = read_if_there(path)
    return None if data is None else parse_exit_record(data)


T = TypeVar("T")


def read_record(path: str, kind: type[T]) -> T | None:
    """Return a record of a kind, None when there is none. Raises StateError."""
    data = read_if_there(path)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise StateError(
            f"record {path} cannot be read: {error}", hint="it is of another version of pyrun, or damaged"
        ) from error
