"""What can be decided about a Pod: a closed set of actions, each with its reason in words."""

from __future__ import annotations

import enum

from pyrun.spec.value import Value


class StartReason(enum.Enum):
    """Why a container is started."""

    FIRST = "first"
    RESTART = "restart"
    RETRY = "retry"


class StartContainer(Value, frozen=True, kw_only=True, tag=True):
    """Create and start attempt `attempt` of a container; `crashes` goes into its record for the next backoff."""

    container: str
    attempt: int
    crashes: int
    reason: StartReason
    message: str = ""


class RunPostStart(Value, frozen=True, kw_only=True, tag=True):
    """Run the postStart hook of an attempt that runs."""

    container: str
    attempt: int


class StopContainer(Value, frozen=True, kw_only=True, tag=True):
    """Stop an attempt: preStop, stop signal, kill at the end of the grace period, all within `grace_seconds`.

    `reason` is the reason of the event: Unhealthy (a probe gave it up), FailedPostStartHook, Killing (its Pod's
    sandbox is gone). Also given again when an attempt has a persisted stop that nobody carries out any more.
    """

    container: str
    attempt: int
    grace_seconds: int
    reason: str
    message: str


class RebuildSandbox(Value, frozen=True, kw_only=True, tag=True):
    """Pause is gone: end what is left of the containers, make a new sandbox for the same Pod."""

    message: str


class RestartAllContainers(Value, frozen=True, kw_only=True, tag=True):
    """Kill all containers without grace and preStop; sandbox, address and volumes stay; all run again in order."""

    container: str
    message: str


class MarkInitialized(Value, frozen=True, kw_only=True, tag=True):
    """Record that all init containers have succeeded (or, sidecars, started) in this sandbox; a restart of all
    containers, if that was under way, is over then.
    """


class ResizePod(Value, frozen=True, kw_only=True, tag=True):
    """Go on with a change of the Pod's resources that is wished for and not there yet."""


class TerminatePod(Value, frozen=True, kw_only=True, tag=True):
    """Begin the termination of the Pod, or carry on with it when it has begun.

    `reason` is DeadlineExceeded, Evicted, or that of the stop that was asked for.
    """

    grace_seconds: int
    reason: str
    message: str


class CloseSandbox(Value, frozen=True, kw_only=True, tag=True):
    """All containers have ended and none will run again: sidecars are stopped. Given only when some still run."""

    message: str


Action = (
    StartContainer
    | RunPostStart
    | StopContainer
    | RebuildSandbox
    | RestartAllContainers
    | MarkInitialized
    | ResizePod
    | TerminatePod
    | CloseSandbox
)


class PodActions(Value, frozen=True, kw_only=True):
    """What to do now, in this order, and when to look again (CLOCK_MONOTONIC ns; None: when something happens)."""

    actions: tuple[Action, ...] = ()
    wake_ns: int | None = None
