"""Hooks of a container's lifecycle: a program in it, a request to it, or a while of waiting.

Delivery is at least once: a hook whose runner was killed is run again by who carries on.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import msgspec

from pyrun.lifecycle.observation import HookState
from pyrun.plan.host import HostFacts
from pyrun.runtime.pods import ContainerKey, PodDirectory, require_pod, require_sandbox
from pyrun.runtime.probing.begin import begin_hook
from pyrun.runtime.probing.check import Check, Outcome, Verdict, target_of
from pyrun.spec.probe import HookAction, SleepAction
from pyrun.state.records import HookRecord, write_record

TICK = 0.2
"""Seconds at most until whoever drives hooks notices what was asked for meanwhile."""


class HookResult(msgspec.Struct, frozen=True):
    """How a hook has ended. `message` is what a program or server answered, or why the hook failed."""

    ok: bool
    message: str = ""

    @classmethod
    def of(cls, outcome: Outcome) -> HookResult:
        """Return what an outcome means: a hook that could not be run has failed."""
        return cls(outcome.verdict is Verdict.SUCCESS, outcome.message)


class Nap:
    """The action `sleep` as a check; who drives it asks it at every tick."""

    def __init__(self, seconds: int) -> None:
        self._deadline = time.monotonic() + seconds
        self._never = os.eventfd(0, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """A descriptor on which nothing ever happens."""
        return self._never

    def events(self) -> int:
        """What to wait for on it."""
        return select.POLLIN

    def advance(self) -> Outcome | None:
        """Success when the time is over."""
        return Outcome(Verdict.SUCCESS, "") if time.monotonic() >= self._deadline else None

    def expire(self) -> Outcome:
        """Give up before."""
        return Outcome(Verdict.FAILURE, "the sleep was cut short")

    def close(self) -> None:
        """Free the descriptor."""
        if self._never >= 0:
            os.close(self._never)
        self._never = -1


def begin(pod: PodDirectory, key: ContainerKey, action: HookAction, facts: HostFacts) -> Check | Outcome:
    """Begin a hook of an attempt without waiting for anything; an outcome when it is over at once.

    A program runs in a cgroup below the container's, and what it leaves running lives on; when it is given up all
    of it is killed.
    """
    if isinstance(action, SleepAction):
        return Nap(action.seconds)
    container = require_pod(pod).spec.container(key[0])
    return begin_hook(action, target_of(pod, require_sandbox(pod), container, key[1]), facts)


def run_hook(
    pod: PodDirectory, key: ContainerKey, action: HookAction, facts: HostFacts, deadline_ns: int
) -> HookResult:
    """Run a hook of an attempt and wait for its end; at `deadline_ns` (CLOCK_MONOTONIC) it has failed, and is
    ended with all it has started.
    """
    return _drive(begin(pod, key, action, facts), lambda: time.monotonic_ns() >= deadline_ns)


def run_post_start(pod: PodDirectory, key: ContainerKey, facts: HostFacts) -> HookResult:
    """Run the postStart hook of an attempt and record how it ended; there is none, or it was run: a success.

    It has no deadline, and is given up when the container ends or is being stopped. Takes no lock.
    """
    action = require_pod(pod).spec.container(key[0]).lifecycle.post_start
    record = pod.post_start(key)
    if action is None or (record is not None and record.state is not HookState.PENDING):
        return HookResult(
            record is None or record.state is HookState.DONE, "" if record is None else record.message
        )
    result = _drive(begin(pod, key, action, facts), lambda: _is_pointless(pod, key))
    if not _is_pointless(pod, key):
        state = HookState.DONE if result.ok else HookState.FAILED
        made = HookRecord(state=state, message="" if result.ok else result.message)
        write_record(f"{pod.container_directory(key)}/post_start.json", made)
    return result


def _is_pointless(pod: PodDirectory, key: ContainerKey) -> bool:
    """Whether an attempt is over, is being stopped, or gone with its Pod."""
    return (
        pod.container(key) is None
        or pod.exit(key) is not None
        or pod.container_stop(key) is not None
        or pod.stop() is not None
    )


def _drive(begun: Check | Outcome, is_over: Callable[[], bool]) -> HookResult:
    if isinstance(begun, Outcome):
        return HookResult.of(begun)
    try:
        while (outcome := begun.advance()) is None:
            if is_over():
                outcome = begun.expire()
                break
            poller = select.poll()
            poller.register(begun.fileno(), begun.events())
            poller.poll(TICK * 1000)
        return HookResult.of(outcome)
    finally:
        begun.close()
