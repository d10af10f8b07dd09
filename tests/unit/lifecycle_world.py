"""A Pod that is not there: builders of observations, and a world with a clock in which actions have their effect.

All that a supervisor would know is in the observation, so nothing needs to be said about its restarts: each
decision is made from nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pyrun.lifecycle.actions import (
    Action,
    CloseSandbox,
    MarkInitialized,
    PodActions,
    RebuildSandbox,
    RestartAllContainers,
    RunPostStart,
    StartContainer,
    StopContainer,
    TerminatePod,
)
from pyrun.lifecycle.decide import compute_pod_actions
from pyrun.lifecycle.observation import (
    Attempt,
    AttemptState,
    ContainerObservation,
    Ended,
    HookState,
    PodObservation,
    StartFailure,
    Stop,
)
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Container, Metadata, Pod, PodSpec, PullPolicy, RestartPolicy

SECOND = 10**9
START = 1_000 * SECOND
SETTINGS = BackoffSettings()
replace = msgspec.structs.replace


def container(name: str = "app", **fields: Any) -> Container:
    return Container(name=name, image=f"{name}:1", image_pull_policy=PullPolicy.IF_NOT_PRESENT, **fields)


def sidecar(name: str, **fields: Any) -> Container:
    return container(name, restart_policy=RestartPolicy.ALWAYS, **fields)


def pod(
    *containers: Container,
    init: tuple[Container, ...] = (),
    policy: RestartPolicy = RestartPolicy.ALWAYS,
    **fields: Any,
) -> Pod:
    spec = PodSpec(
        containers=containers or (container(),), init_containers=init, restart_policy=policy, **fields
    )
    return Pod(metadata=Metadata(name="web"), spec=spec)


def running(attempt: int = 0, at: int = START, **fields: Any) -> Attempt:
    return Attempt(
        attempt=attempt, state=AttemptState.RUNNING, started_ns=at, started_at=f"started-{attempt}", **fields
    )


def ended(attempt: int = 0, code: int = 0, ran: int = SECOND, at: int = START, **fields: Any) -> Attempt:
    """An attempt that ended at `at` after it had run for `ran`."""
    of_end = {key: fields.pop(key) for key in ("oom_kills", "lost", "message", "signal") if key in fields}
    end = Ended(exit_code=code, finished_ns=at, finished_at=f"finished-{attempt}", **of_end)
    return Attempt(
        attempt=attempt,
        state=AttemptState.STOPPED,
        started_ns=at - ran,
        started_at=f"started-{attempt}",
        ended=end,
        **fields,
    )


def created(attempt: int = 0, **fields: Any) -> Attempt:
    return Attempt(attempt=attempt, state=AttemptState.CREATED, **fields)


def seen(
    name: str,
    latest: Attempt | None = None,
    previous: Attempt | None = None,
    failure: StartFailure | None = None,
) -> ContainerObservation:
    return ContainerObservation(name=name, latest=latest, previous=previous, failure=failure)


def observed(*containers: ContainerObservation, **fields: Any) -> PodObservation:
    fields = {"created_ns": START - 100 * SECOND, "created_at": "made", "initialized": True} | fields
    return PodObservation(uid="u-1", containers=containers, **fields)


class World:
    """One Pod, what is observed of it, and the time; every event takes a nanosecond."""

    def __init__(self, manifest: Pod, settings: BackoffSettings = SETTINGS) -> None:
        self.pod = manifest
        self.settings = settings
        self.now = START
        self.seen = PodObservation(uid="u-1", created_ns=START, created_at="made")
        self.starts: list[tuple[str, int, int]] = []
        """(container, attempt, when)."""
        self.hook_result = HookState.DONE

    def decide(self) -> PodActions:
        return compute_pod_actions(self.pod, self.seen, self.settings, self.now)

    def sync(self) -> PodActions:
        """Decide and act until nothing is left to do; the last decision has the wake-up."""
        for _ in range(100):
            decided = self.decide()
            if not decided.actions:
                return decided
            for action in decided.actions:
                self.apply(action)
        raise AssertionError(f"it never comes to rest: {decided.actions}")

    def latest(self, name: str) -> Attempt | None:
        return self.seen.container(name).latest

    def live(self) -> list[str]:
        return [c.name for c in self.seen.containers if c.latest is not None and c.latest.ended is None]

    def set(self, one: ContainerObservation) -> None:
        others = tuple(c for c in self.seen.containers if c.name != one.name)
        self.seen = replace(self.seen, containers=(*others, one))

    def change(self, name: str, **fields: Any) -> None:
        """Change the latest attempt of a container."""
        one = self.seen.container(name)
        assert one.latest is not None
        self.set(replace(one, latest=replace(one.latest, **fields)))

    def end(self, name: str, code: int, **fields: Any) -> None:
        """A container ends."""
        self.now += 1
        self.change(
            name,
            state=AttemptState.STOPPED,
            ended=Ended(exit_code=code, finished_ns=self.now, **fields),
        )

    def end_all(self, code: int) -> None:
        for name in self.live():
            self.end(name, code)

    def apply(self, action: Action) -> None:
        """Give an action the effect that the runtime's verbs have."""
        self.now += 1
        match action:
            case StartContainer():
                self.start(action)
            case RunPostStart():
                self.change(action.container, post_start=self.hook_result)
            case StopContainer():
                self.end(action.container, 143)
            case RebuildSandbox():
                self.end_all(137)
                self.now += 1
                self.seen = replace(
                    self.seen,
                    sandbox_alive=True,
                    sandbox_attempt=self.seen.sandbox_attempt + 1,
                    sandbox_ns=self.now,
                    initialized=not self.pod.spec.init_containers,
                )
            case RestartAllContainers():
                self.end_all(137)
                self.now += 1
                self.seen = replace(self.seen, restarted_ns=self.now, restarting=True, initialized=False)
            case MarkInitialized():
                self.seen = replace(self.seen, initialized=True, restarting=False)
            case TerminatePod():
                self.terminate(action.grace_seconds, action.reason)
                self.end_all(143)
            case CloseSandbox():
                self.end_all(143)
        self.now += 1

    def terminate(self, grace: int = 30, reason: str = "Killing") -> None:
        """Ask for the Pod's termination; it stays asked for."""
        if self.seen.stop is None:
            deadline = self.now + grace * SECOND
            stop = Stop(asked_ns=self.now, deadline_ns=deadline, grace_seconds=grace, reason=reason)
            self.seen = replace(self.seen, stop=stop)

    def start(self, action: StartContainer) -> None:
        self.create(action)
        self.now += 1
        self.change(action.container, state=AttemptState.RUNNING, started_ns=self.now)
        self.starts.append((action.container, action.attempt, self.now))

    def create(self, action: StartContainer) -> None:
        """Create an attempt as far as it can be interrupted before its start."""
        one = self.seen.container(action.container)
        if one.latest is not None and one.latest.attempt == action.attempt:
            assert one.latest.state is AttemptState.CREATED
            assert one.latest.ended is None
            self.set(replace(one, failure=None))
            return
        assert one.latest is None or one.latest.ended is not None, "two live attempts of one container"
        assert action.attempt == (0 if one.latest is None else one.latest.attempt + 1)
        hook = self.pod.spec.container(action.container).lifecycle.post_start
        attempt = Attempt(
            attempt=action.attempt,
            state=AttemptState.CREATED,
            crashes=action.crashes,
            post_start=HookState.ABSENT if hook is None else HookState.PENDING,
        )
        self.set(replace(one, latest=attempt, previous=one.latest, failure=None))
