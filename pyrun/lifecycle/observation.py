"""What is known of a Pod at one moment: composed from the kernel and the records, never from memory.

Times that end in `_ns` are nanoseconds of CLOCK_MONOTONIC; times that end in `_at` are RFC 3339, for people.
"""

from __future__ import annotations

import enum

from pyrun.spec.oom import OomReport
from pyrun.spec.resources import ResourceRequirements
from pyrun.spec.value import Value


class AttemptState(enum.Enum):
    """Where one attempt of a container is (the OCI states)."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class HookState(enum.Enum):
    """How far a postStart hook is; ABSENT when the container has none."""

    ABSENT = "absent"
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Ended(Value, frozen=True, kw_only=True):
    """How an attempt ended. `exit_code` is 128+`signal` for one killed by a signal.

    `oom_kills` counts the kills of the kernel's OOM killer in its cgroup (memory.events), of which one process may
    make two; `lost` is true when its monitor died and the status with it. `message` is the termination message.
    """

    exit_code: int
    signal: int = 0
    finished_at: str = ""
    finished_ns: int = 0
    oom_kills: int = 0
    lost: bool = False
    message: str = ""


class Stop(Value, frozen=True, kw_only=True):
    """A stop that was asked for, of one attempt or of the whole Pod; persisted before it begins.

    `deadline_ns` is the ONE deadline over preStop, signal and kill. `reason` and `message` say why.
    `pre_stopped` and `signalled` are the containers whose preStop has ended and whose signal was sent.
    `kill_ns` is when what is left is killed, 0 for at the deadline: up to 2 s later, when a preStop has used up
    the grace. `remove`: of a Pod, that it is removed when all has ended.
    """

    asked_ns: int
    deadline_ns: int
    kill_ns: int = 0
    grace_seconds: int
    reason: str
    message: str = ""
    asked_at: str = ""
    pre_stopped: tuple[str, ...] = ()
    signalled: tuple[str, ...] = ()
    remove: bool = False


class Attempt(Value, frozen=True, kw_only=True):
    """One attempt of a container.

    `crashes` is the number of ends in a row before this attempt that count for the backoff. `started` and
    `ready` are the verdicts of startup and readiness probe (True without one, once it runs and its postStart is
    done); `unhealthy` is the kind of the probe (`startup`, `liveness`) that has given the attempt up, else empty.
    `oom_kills` are those of `Ended`, of one that runs too; `oom` is what was found out about them, if it was recorded.
    `resources` is what it really has while it runs: by its cgroup, or what was set last where no controller says.
    """

    attempt: int
    state: AttemptState
    created_at: str = ""
    started_at: str = ""
    started_ns: int = 0
    crashes: int = 0
    paused: bool = False
    ended: Ended | None = None
    post_start: HookState = HookState.ABSENT
    post_start_message: str = ""
    started: bool = False
    ready: bool = False
    unhealthy: str = ""
    unhealthy_message: str = ""
    stop: Stop | None = None
    image_id: str = ""
    oom_kills: int = 0
    oom: OomReport | None = None
    resources: ResourceRequirements | None = None


class PendingReason(enum.StrEnum):
    """Why resources that are wished for are not given yet (the reasons of the condition PodResizePending)."""

    UNDECIDED = ""
    DEFERRED = "Deferred"
    INFEASIBLE = "Infeasible"


class PendingResize(Value, frozen=True, kw_only=True):
    """Resources that are wished for and not allocated: those of each container by its name.

    `tried_ns` is when that was decided last; UNDECIDED means that nobody has come so far.
    """

    resources: tuple[tuple[str, ResourceRequirements], ...]
    reason: PendingReason = PendingReason.UNDECIDED
    message: str = ""
    tried_ns: int = 0


class Resizing(Value, frozen=True, kw_only=True):
    """A resize that is allocated and not carried out to its end.

    `restarts` are the attempts that must end for it, as their container is restarted for what has changed. `error` is
    what was in its way when it was tried last, at `tried_ns`.
    """

    restarts: tuple[tuple[str, int], ...] = ()
    error: str = ""
    tried_ns: int = 0


class StartFailure(Value, frozen=True, kw_only=True):
    """Why the next attempt of a container could not be created or started; cleared when one was.

    `reason` is a waiting reason of Kubernetes: ErrImagePull, ErrImageNeverPull, InvalidImageName,
    CreateContainerConfigError, CreateContainerError, RunContainerError. `count` is failures in a row.
    """

    reason: str
    message: str
    at_ns: int
    at: str = ""
    count: int = 1


class ContainerObservation(Value, frozen=True, kw_only=True):
    """A container: its latest attempt (None: never created), the one before, and why no next one came."""

    name: str
    latest: Attempt | None = None
    previous: Attempt | None = None
    failure: StartFailure | None = None


class PodObservation(Value, frozen=True, kw_only=True):
    """A Pod. `sandbox_alive`: pause runs. `stop` is set once its termination was asked for.

    `initialized`: the init containers have come to their end once in this sandbox; they are not run again in
    it. `restarting`: all containers were ended to be restarted in place, and it is not initialized again yet.
    `sandbox_ns` is when this sandbox was made and `restarted_ns` when the last restart in place had ended all
    (0: never): attempts that ended before are of an earlier life of the Pod. `condition_times` are the last
    transitions of conditions, as (type, status, RFC 3339, CLOCK_MONOTONIC ns). `left_out` are the limits that the host
    could not give, `unreserved` the requests that were not free when it was made. `pending` and `resizing` say how far
    a change of its resources is.
    """

    uid: str
    created_at: str = ""
    created_ns: int = 0
    address: str = ""
    sandbox_alive: bool = True
    sandbox_attempt: int = 0
    sandbox_ns: int = 0
    initialized: bool = False
    restarting: bool = False
    restarted_ns: int = 0
    stop: Stop | None = None
    containers: tuple[ContainerObservation, ...] = ()
    condition_times: tuple[tuple[str, str, str, int], ...] = ()
    left_out: tuple[str, ...] = ()
    unreserved: tuple[str, ...] = ()
    pending: PendingResize | None = None
    resizing: Resizing | None = None

    def container(self, name: str) -> ContainerObservation:
        """The observation of a container; an empty one when nothing is known of it."""
        for container in self.containers:
            if container.name == name:
                return container
        return ContainerObservation(name=name)
