"""The probes of one Pod in the loop: a check when one is due, and what it found into the records."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from pyrun.controllers.context import Context
from pyrun.errors import StateError
from pyrun.lifecycle.observation import Attempt, AttemptState, PodObservation
from pyrun.lifecycle.probing import (
    UNHEALTHY,
    Outcome,
    ProbeState,
    Verdicts,
    begin,
    due,
    on_result,
    verdicts,
)
from pyrun.runtime.pods import ContainerKey, PodDirectory, require_sandbox
from pyrun.runtime.probing import check as checks
from pyrun.runtime.probing.begin import begin_check
from pyrun.runtime.probing.check import Check, Verdict, target_of
from pyrun.spec.pod import Container, Pod
from pyrun.spec.probe import ProbeKind
from pyrun.state.events import about_pod
from pyrun.state.records import ProbeRecord, write_record

SECOND = 1_000_000_000

_Key = tuple[str, int, ProbeKind]

_WORDS = {
    Verdict.SUCCESS: Outcome.SUCCESS,
    Verdict.FAILURE: Outcome.FAILURE,
    Verdict.UNKNOWN: Outcome.UNKNOWN,
}


class _Followed(msgspec.Struct):
    """An attempt whose probes are asked. Its states change with each result."""

    container: Container
    attempt: Attempt
    states: dict[ProbeKind, ProbeState]
    recorded: Verdicts | None = None


class Prober:
    """Asks the probes of a Pod's running attempts; `changed` is called when a verdict has changed."""

    def __init__(self, context: Context, directory: PodDirectory, changed: Callable[[], None]) -> None:
        self._context = context
        self._directory = directory
        self._changed = changed
        self._pod: Pod | None = None
        self._terminating = False
        self._followed: dict[ContainerKey, _Followed] = {}
        self._checks: dict[_Key, Check] = {}

    def follow(self, pod: Pod, observed: PodObservation) -> None:
        """Ask what is to be asked of the Pod as it is observed now, and nothing else."""
        self._pod = pod
        self._terminating = observed.stop is not None
        running = {
            (seen.name, seen.latest.attempt): seen.latest
            for seen in observed.containers
            if seen.latest is not None
            and seen.latest.state is AttemptState.RUNNING
            and seen.latest.ended is None
        }
        for key in [key for key in self._followed if key not in running]:
            self._forget(key)
        for key, attempt in running.items():
            self._take_up(pod.spec.container(key[0]), attempt, key)
            self._schedule(key)

    def close(self) -> None:
        """Ask nothing any more."""
        for key in list(self._followed):
            self._forget(key)

    def _take_up(self, container: Container, attempt: Attempt, key: ContainerKey) -> None:
        followed = self._followed.get(key)
        if followed is None:
            now = self._context.loop.clock()
            # Found running by a supervisor that has just begun: all at once would be a burst.
            adopted = attempt.started_ns < self._context.started_ns
            jitter = int(random.random() * _shortest_period(container)) if adopted else 0
            states = begin(container, attempt, now, jitter)
            followed = _Followed(container, attempt, {state.kind: state for state in states})
            self._followed[key] = followed
        followed.attempt = attempt
        self._record(key, followed)

    def _forget(self, key: ContainerKey) -> None:
        followed = self._followed.pop(key)
        for kind in followed.states:
            self._end((*key, kind))
            self._context.loop.cancel(self._timer((*key, kind)))

    def _timer(self, key: _Key) -> tuple[str, str, _Key]:
        return ("probe", self._directory.uid, key)

    def _schedule(self, key: ContainerKey) -> None:
        followed = self._followed[key]
        for kind, state in followed.states.items():
            probe: _Key = (*key, kind)
            if probe in self._checks:
                continue
            when = due(state, followed.container, followed.attempt, self._terminating)
            if when is None:
                self._context.loop.cancel(self._timer(probe))
            else:
                self._context.loop.at(self._timer(probe), when, self._asking(probe))

    def _asking(self, key: _Key) -> Callable[[], None]:
        return lambda: self._ask(key)

    # One check

    def _ask(self, key: _Key) -> None:
        name, attempt, kind = key
        followed = self._followed.get((name, attempt))
        if followed is None:
            return
        probe = followed.states[kind].probe
        try:
            target = target_of(self._directory, require_sandbox(self._directory), followed.container, attempt)
        except StateError as error:  # a record that cannot be read says nothing about the container
            self._result(key, checks.Outcome(Verdict.UNKNOWN, error.sentence()))
            return
        check = begin_check(probe.action, target, self._context.facts)
        if isinstance(check, checks.Outcome):
            self._result(key, check)
            return
        self._checks[key] = check
        loop = self._context.loop
        loop.watch(check.fileno(), lambda: self._advance(key), check.events())
        loop.at(self._timer(key), loop.clock() + probe.timeout_seconds * SECOND, lambda: self._expire(key))

    def _advance(self, key: _Key) -> None:
        check = self._checks[key]
        before = check.fileno()
        outcome = check.advance()
        if outcome is not None:
            self._end(key)
            self._result(key, outcome)
            return
        loop = self._context.loop
        if check.fileno() != before:
            loop.forget(before)
        loop.watch(check.fileno(), lambda: self._advance(key), check.events())

    def _expire(self, key: _Key) -> None:
        check = self._checks[key]
        self._context.loop.forget(check.fileno())
        outcome = check.expire()
        self._end(key)
        self._result(key, outcome)

    def _end(self, key: _Key) -> None:
        """Let go of a check, whether it has come to its end or not."""
        check = self._checks.pop(key, None)
        if check is not None:
            self._context.loop.cancel(self._timer(key))
            self._context.loop.forget(check.fileno())
            check.close()

    def _result(self, key: _Key, outcome: checks.Outcome) -> None:
        name, attempt, kind = key
        followed = self._followed.get((name, attempt))
        if followed is None or self._pod is None:
            return
        word = _WORDS[outcome.verdict]
        step = on_result(followed.states[kind], word, outcome.message, self._context.loop.clock())
        followed.states[kind] = step.state
        if step.event:
            self._context.record(about_pod(self._directory.uid, self._pod, name), UNHEALTHY, step.event)
        self._schedule((name, attempt))
        self._record((name, attempt), followed)

    def _record(self, key: ContainerKey, followed: _Followed) -> None:
        """Write what the probes say when it has changed; without a probe the records say it without that."""
        states = tuple(followed.states.values())
        if not states:
            return
        found = verdicts(followed.container, followed.attempt, states, self._terminating)
        if found == followed.recorded:
            return
        record = ProbeRecord(
            started=found.started,
            ready=found.ready,
            unhealthy=found.unhealthy,
            unhealthy_message=found.unhealthy_message,
        )
        try:
            if record != self._directory.probes(key):
                write_record(f"{self._directory.container_directory(key)}/probes.json", record)
                self._changed()
        except StateError:
            return  # the disk is full, or the attempt was removed: written after the next result, if there is one
        followed.recorded = found


def _shortest_period(container: Container) -> int:
    """The shortest period of a container's probes in nanoseconds, 0 without a probe."""
    probes = (container.startup_probe, container.readiness_probe, container.liveness_probe)
    return min((probe.period_seconds * SECOND for probe in probes if probe is not None), default=0)
