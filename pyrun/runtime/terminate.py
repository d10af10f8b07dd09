"""Carrying out a stop that was asked for: preStop, stop signal, kill, within the one deadline that is persisted.

Whoever carries it out may be killed at any moment: the next one goes on to the same deadline, because all that
has been done is in the persisted stop. What is asked for meanwhile, an earlier deadline, is noticed at each tick.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from pyrun.cgroups import group
from pyrun.errors import Busy, Conflict, NotFound, PyrunError
from pyrun.lifecycle.course import is_live
from pyrun.lifecycle.observation import HookState, PodObservation, Stop
from pyrun.lifecycle.termination import (
    Finish,
    KillNow,
    RunPreStop,
    SendSignal,
    Step,
    TerminationSteps,
    plan_stop,
    plan_termination,
)
from pyrun.plan.host import HostFacts
from pyrun.plan.sandbox import PAUSE_LEAF
from pyrun.runtime.attempts import leaf_of
from pyrun.runtime.hooks import TICK, HookResult, begin, run_post_start
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import (
    LOCK_TIMEOUT,
    ContainerKey,
    PodDirectory,
    pod_lock,
    require_pod,
    require_sandbox,
)
from pyrun.runtime.probing.check import Check, Outcome
from pyrun.runtime.remove import remove_locked
from pyrun.runtime.stop import (
    change_stop,
    container_stop_path,
    request_container_stop,
    request_stop,
    send_signal,
    thaw_containers,
)
from pyrun.state.records import SandboxRecord

KILL_TIMEOUT = 10.0
"""Seconds for what was killed to be gone, and for the monitors to record it."""

SHORT = 1.0
"""Seconds that the stop of one container waits for the Pod's lock before it looks again."""


class HookFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A hook that failed, for an event; `message` says why."""

    container: str
    attempt: int
    message: str


def stop_pod(pod: PodDirectory, grace: int | None, facts: HostFacts) -> tuple[HookFailure, ...]:
    """Stop a Pod at a person's wish: its containers, then its sandbox. Stopping a stopped Pod is no error.

    Records, logs, volumes and the address stay until the Pod is removed. `grace` as for `request_stop`.
    """
    require_sandbox(pod)
    request_stop(pod, grace, "Killing", "stopped by a command")
    return terminate_pod(pod, facts)


def terminate_pod(pod: PodDirectory, facts: HostFacts) -> tuple[HookFailure, ...]:
    """Carry out the termination of a Pod that was asked for (see `request_stop`); return the preStops that failed.

    Under the Pod's lock: 1. Frozen containers are thawed. 2. The steps of `plan_termination` are taken until
    nothing of the containers is left. 3. Pause is ended. 4. The Pod is removed, if that was asked for.

    Raises Conflict when no termination was asked for, NotFound when the Pod is gone, Busy when its lock stays
    taken beyond the deadline, PyrunError when what was killed does not go.
    """
    stop = pod.stop()
    if stop is None:
        raise Conflict(f"the termination of Pod {pod.uid} was not asked for", hint="see pyrun pod stop")
    left = max(stop.deadline_ns - time.monotonic_ns(), 0) / 1e9
    with pod_lock(pod, left + LOCK_TIMEOUT):
        sandbox = require_sandbox(pod)
        thaw_containers(pod, sandbox)
        failures = _Executor(pod, facts, _PodCourse(pod)).run()
        _end_pause(sandbox)
        stop = pod.stop()
        if stop is not None and stop.remove:
            remove_locked(pod)
    return failures


def _end_pause(sandbox: SandboxRecord) -> None:
    pause = f"{sandbox.facts.cgroup}/{PAUSE_LEAF}"
    group.kill(pause)
    group.wait_until_empty(pause)


def stop_attempt(pod: PodDirectory, key: ContainerKey, facts: HostFacts) -> tuple[HookFailure, ...]:
    """Carry out the stop of one attempt that was asked for (see `request_container_stop`).

    The Pod's lock is held only while it is killed. When the termination of the whole Pod is asked for meanwhile,
    this leaves the container to that. Returns the preStop that failed. Raises Conflict when no stop was asked for.
    """
    if pod.container_stop(key) is None:
        raise Conflict(f'the stop of container "{key[0]}" was not asked for', hint="see pyrun pod stop")
    thaw_containers(pod, require_sandbox(pod), only=key[0])
    return _Executor(pod, facts, _ContainerCourse(pod, key)).run()


def close_sandbox(pod: PodDirectory, facts: HostFacts) -> tuple[HookFailure, ...]:
    """Stop the sidecars that still run when all else has ended, in reverse order, within one grace of the Pod."""
    spec = require_pod(pod).spec
    seen = observe(pod)
    keys: list[ContainerKey] = []
    for container in reversed(spec.all_containers()):
        latest = seen.container(container.name).latest
        if latest is not None and is_live(latest):
            keys.append((container.name, latest.attempt))
    for key in keys:  # all before the first is stopped: they share one deadline
        request_container_stop(pod, key, spec.termination_grace_period_seconds, "Killing", "the Pod is over")
    return tuple(failure for key in keys for failure in stop_attempt(pod, key, facts))


def run_post_starts(pod: PodDirectory, facts: HostFacts) -> tuple[HookFailure, ...]:
    """Run the postStart hooks that wait to be run, for who makes a Pod that nobody supervises.

    A container whose hook fails is stopped. Returns the hooks that failed.
    """
    spec, failures = require_pod(pod).spec, []
    for container in spec.containers:
        key = pod.latest(container.name)
        hook = None if key is None else pod.post_start(key)
        if key is None or hook is None or hook.state is not HookState.PENDING:
            continue
        result = run_post_start(pod, key, facts)
        if not result.ok:
            failures.append(HookFailure(container=key[0], attempt=key[1], message=result.message))
            grace = spec.termination_grace_period_seconds
            request_container_stop(pod, key, grace, "FailedPostStartHook", result.message)
            stop_attempt(pod, key, facts)
    return tuple(failures)


class _PodCourse:
    """The termination of a whole Pod, whose lock the caller holds."""

    def __init__(self, pod: PodDirectory) -> None:
        self._pod = pod
        self._manifest = require_pod(pod)
        self.stop_path = pod.stop_path

    def plan(self, seen: PodObservation, now: int, running: frozenset[str]) -> TerminationSteps | None:
        """The next steps; None when there is nothing to be done any more."""
        return plan_termination(self._manifest, seen, now, running)

    def stop(self, seen: PodObservation) -> Stop | None:
        """The stop that is carried out."""
        return seen.stop

    def kill(self, names: tuple[str, ...]) -> None:
        """Kill containers, all at once."""
        for name in names:
            group.kill(leaf_of(self._pod, name))


class _ContainerCourse:
    """The stop of one attempt; the Pod's lock is free."""

    def __init__(self, pod: PodDirectory, key: ContainerKey) -> None:
        self._pod = pod
        self._key = key
        self._container = require_pod(pod).spec.container(key[0])
        self.stop_path = container_stop_path(pod, key)

    def plan(self, seen: PodObservation, now: int, running: frozenset[str]) -> TerminationSteps | None:
        """The next steps; None when the Pod is terminated, which ends this container too, or it was replaced."""
        latest = seen.container(self._key[0]).latest
        if seen.stop is not None or latest is None or latest.attempt != self._key[1]:
            return None
        return plan_stop(self._container, latest, now, running)

    def stop(self, seen: PodObservation) -> Stop | None:
        """The stop that is carried out."""
        latest = seen.container(self._key[0]).latest
        return None if latest is None else latest.stop

    def kill(self, names: tuple[str, ...]) -> None:
        """Kill the attempt, if it is still the one that its cgroup belongs to."""
        try:
            with pod_lock(self._pod, SHORT):
                if self._pod.latest(self._key[0]) == self._key and self._pod.closed(self._key) is None:
                    group.kill(leaf_of(self._pod, self._key[0]))
        except Busy:
            return  # the Pod's termination has begun, or something else ends soon: the next tick looks again


class _Executor:
    """Takes the steps of a course, one after the other or at the same time, until it is finished."""

    def __init__(self, pod: PodDirectory, facts: HostFacts, course: _PodCourse | _ContainerCourse) -> None:
        self._pod = pod
        self._facts = facts
        self._course = course
        self._hooks: dict[ContainerKey, Check] = {}
        self._failures: list[HookFailure] = []
        self._kill_deadline: float | None = None

    def run(self) -> tuple[HookFailure, ...]:
        """Go on until nothing is left to be done; return the hooks that failed."""
        try:
            while self._go_on():
                pass
        finally:
            for hook in self._hooks.values():
                hook.close()
        return tuple(self._failures)

    def _go_on(self) -> bool:
        seen = observe(self._pod)
        running = frozenset(name for name, _ in self._hooks)
        planned = self._course.plan(seen, time.monotonic_ns(), running)
        stop = self._course.stop(seen)
        if planned is None or stop is None or any(isinstance(step, Finish) for step in planned.steps):
            return False
        if planned.kill_ns > max(stop.kill_ns, stop.deadline_ns):
            self._note(
                lambda s: s if s.deadline_ns != stop.deadline_ns else replace(s, kill_ns=planned.kill_ns)
            )
        for step in planned.steps:
            self._take(step)
        self._wait(seen, planned.wake_ns)
        self._advance_hooks()
        return True

    def _note(self, change: Callable[[Stop], Stop]) -> None:
        def changed(stop: Stop | None) -> Stop:
            if stop is None:
                raise NotFound("the stop is gone", hint="another command has removed the Pod")
            return change(stop)

        change_stop(self._course.stop_path, changed)

    def _take(self, step: Step) -> None:
        match step:
            case RunPreStop():
                self._begin_hook((step.container, step.attempt))
            case SendSignal():
                key = (step.container, step.attempt)
                hook = self._hooks.pop(key, None)
                if hook is not None:
                    self._end_hook(key, hook.expire())
                    hook.close()
                send_signal(self._pod, key, None)
                self._note(lambda stop: replace(stop, signalled=_with(stop.signalled, step.container)))
            case KillNow():
                self._kill(step.containers)
            case Finish():
                return

    def _kill(self, names: tuple[str, ...]) -> None:
        if self._kill_deadline is None:
            self._kill_deadline = time.monotonic() + KILL_TIMEOUT
        elif time.monotonic() > self._kill_deadline:
            raise PyrunError(
                f"containers {', '.join(names)} have not ended {KILL_TIMEOUT:g} s after they were killed",
                hint="look at their state with ps; one in D state waits for a device or a file server",
            )
        self._course.kill(names)

    def _begin_hook(self, key: ContainerKey) -> None:
        action = require_pod(self._pod).spec.container(key[0]).lifecycle.pre_stop
        assert action is not None
        begun = begin(self._pod, key, action, self._facts)
        if isinstance(begun, Outcome):
            self._end_hook(key, begun)
        else:
            self._hooks[key] = begun

    def _end_hook(self, key: ContainerKey, outcome: Outcome) -> None:
        result = HookResult.of(outcome)
        if not result.ok:
            self._failures.append(HookFailure(container=key[0], attempt=key[1], message=result.message))
        self._note(lambda stop: replace(stop, pre_stopped=_with(stop.pre_stopped, key[0])))

    def _advance_hooks(self) -> None:
        for key, hook in tuple(self._hooks.items()):
            outcome = hook.advance()
            if outcome is not None:
                del self._hooks[key]
                hook.close()
                self._end_hook(key, outcome)

    def _wait(self, seen: PodObservation, wake_ns: int | None) -> None:
        """Wait until a hook or a container ends, the deadline comes, or a tick is over."""
        poller = select.poll()
        for hook in self._hooks.values():
            poller.register(hook.fileno(), hook.events())
        monitors = self._monitors(seen)
        try:
            for fd in monitors:
                poller.register(fd, select.POLLIN)
            left = TICK if wake_ns is None else min(max(wake_ns - time.monotonic_ns(), 0) / 1e9, TICK)
            poller.poll(left * 1000 + 1)
        finally:
            for fd in monitors:
                os.close(fd)

    def _monitors(self, seen: PodObservation) -> list[int]:
        found = []
        for container in seen.containers:
            if container.latest is not None and is_live(container.latest):
                record = self._pod.container((container.name, container.latest.attempt))
                pidfd = record.monitor.open() if record is not None else None
                if pidfd is not None:
                    found.append(pidfd)
        return found


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)
