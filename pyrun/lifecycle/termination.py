"""How a Pod, or one container, comes to its end: preStop, stop signal, kill, within one deadline.

Nothing is remembered between two calls but the persisted `Stop`, so that whoever comes next carries on. Source:
Kubernetes concepts "Pod Lifecycle" (termination of Pods) and "Sidecar Containers"; the 2 s are those of the
kubelet (minimumGracePeriodInSeconds).
"""

from __future__ import annotations

from pyrun.lifecycle.course import live_containers, runs
from pyrun.lifecycle.observation import Attempt, AttemptState, PodObservation, Stop
from pyrun.spec.pod import Container, Pod
from pyrun.spec.value import Value

MINIMUM_NS = 2 * 10**9
"""What a container gets between its signal and the kill when its preStop has used up the grace."""

_Live = tuple[Container, Attempt]


class RunPreStop(Value, frozen=True, kw_only=True, tag=True):
    """Begin the preStop hook of a container; when it has ended, well or badly, note it in `pre_stopped`."""

    container: str
    attempt: int


class SendSignal(Value, frozen=True, kw_only=True, tag=True):
    """Give up a preStop that still runs, send the stop signal to the main process, note it in `signalled`."""

    container: str
    attempt: int


class KillNow(Value, frozen=True, kw_only=True, tag=True):
    """Kill all that is left of these containers."""

    containers: tuple[str, ...]


class Finish(Value, frozen=True, kw_only=True, tag=True):
    """Nothing of it is left."""


Step = RunPreStop | SendSignal | KillNow | Finish


class TerminationSteps(Value, frozen=True, kw_only=True):
    """All that can be done now, and when to ask again if nothing happens (CLOCK_MONOTONIC ns).

    `kill_ns` is what the Stop has from now on; it is persisted before the steps are taken.
    """

    steps: tuple[Step, ...] = ()
    kill_ns: int = 0
    wake_ns: int | None = None


def plan_termination(
    pod: Pod, observed: PodObservation, now: int, pre_stop_running: frozenset[str] = frozenset()
) -> TerminationSteps:
    """Return the next steps of the termination that `observed.stop` asks for; none without one.

    1. When nothing is left: Finish.
    2. What was created and never started has no program to ask: it is killed at once.
    3. Application containers, all at once: preStop if it has one, then the signal.
    4. When the last of them is gone, sidecars (and an init container that runs) do the same one after the other,
       in reverse order of the manifest.
    5. At the deadline a preStop is given up, and what is left is killed together. A container whose preStop has
       left less than 2 s has these 2 s after its signal: then all are killed that much later.

    `pre_stop_running` names the containers whose preStop the caller runs. Grace 0 skips preStop and signal. A
    paused container must have been thawed.
    """
    stop = observed.stop
    if stop is None:
        return TerminationSteps()
    live = live_containers(pod.spec, observed)
    applications = tuple(pair for pair in live if pair[0] in pod.spec.containers)
    started_inits = tuple(pair for pair in live if pair not in applications and runs(pair[1]))
    return _plan(stop, live, applications or started_inits[-1:], now, pre_stop_running)


def plan_stop(
    container: Container, attempt: Attempt, now: int, pre_stop_running: frozenset[str] = frozenset()
) -> TerminationSteps:
    """Return the next steps of the stop that `attempt.stop` asks for, by the rules of a Pod's termination."""
    if attempt.stop is None:
        return TerminationSteps()
    live = ((container, attempt),) if attempt.ended is None else ()
    return _plan(attempt.stop, live, live, now, pre_stop_running)


def _plan(
    stop: Stop, live: tuple[_Live, ...], turn: tuple[_Live, ...], now: int, pre_stop_running: frozenset[str]
) -> TerminationSteps:
    kill_ns = max(stop.kill_ns, stop.deadline_ns)
    if not live:
        return TerminationSteps(steps=(Finish(),), kill_ns=kill_ns)
    steps: list[Step] = []
    for container, attempt in turn:
        step = _step(stop, container, attempt, now, pre_stop_running)
        if step is None:
            continue
        steps.append(step)
        if isinstance(step, SendSignal) and container.name in {*pre_stop_running, *stop.pre_stopped}:
            kill_ns = max(kill_ns, min(now, stop.deadline_ns) + MINIMUM_NS)
    if now >= kill_ns:
        everything = tuple(container.name for container, _ in live)
        return TerminationSteps(steps=(KillNow(containers=everything),), kill_ns=kill_ns)
    created = tuple(c.name for c, attempt in live if attempt.state is AttemptState.CREATED)
    if created:
        steps.append(KillNow(containers=created))
    wake = stop.deadline_ns if now < stop.deadline_ns else kill_ns
    return TerminationSteps(steps=tuple(steps), kill_ns=kill_ns, wake_ns=wake)


def _step(
    stop: Stop, container: Container, attempt: Attempt, now: int, pre_stop_running: frozenset[str]
) -> RunPreStop | SendSignal | None:
    name = container.name
    if not runs(attempt) or name in stop.signalled:
        return None
    asks = container.lifecycle.pre_stop is not None and name not in stop.pre_stopped
    if asks and stop.grace_seconds > 0 and now < stop.deadline_ns:
        if name in pre_stop_running:
            return None
        return RunPreStop(container=name, attempt=attempt.attempt)
    return SendSignal(container=name, attempt=attempt.attempt)
