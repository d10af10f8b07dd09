"""Why a Pod is as it is: one sentence, and the next command to try.

Each rule looks at one kind of cause and knows nothing of the others; the first one that finds something speaks.
Their order is that of causation: what was done to the Pod as a whole, then what keeps a container from starting,
then how one ended, then what is waited for.
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pyrun.lifecycle.observation import Attempt, AttemptState, ContainerObservation, Ended, HookState
from pyrun.lifecycle.probing import UNHEALTHY
from pyrun.lifecycle.restart import RestartVerdict, needs_supervision, wants_restart
from pyrun.runtime.history import SAME_MOMENT, History, how_it_ended, seconds
from pyrun.runtime.wording import capital, log_choice, probe_command, sentence, several, since, span
from pyrun.spec.event import EventType
from pyrun.spec.pod import Container, is_sidecar
from pyrun.spec.status import Phase
from pyrun.state.events import Reason

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
DEADLINE = "DeadlineExceeded"


class Verdict(NamedTuple):
    """The cause as a sentence (upper case, full stop), and a command line; empty when there is nothing to do."""

    sentence: str
    command: str = ""


class _Seen(NamedTuple):
    """A container of the manifest with what is known of it. `end` is how it ended last, `ending` the attempt."""

    container: Container
    observed: ContainerObservation
    reason: str
    ending: Attempt | None

    @property
    def title(self) -> str:
        return f'Container "{self.container.name}"'

    @property
    def end(self) -> Ended | None:
        return None if self.ending is None else self.ending.ended

    @property
    def running(self) -> bool:
        latest = self.observed.latest
        return latest is not None and latest.state is AttemptState.RUNNING


def _containers(history: History) -> Iterator[_Seen]:
    if history.pod is None or history.observed is None:
        return
    for container in history.pod.spec.all_containers():
        observed = history.observed.container(container.name)
        status = history.container_status(container.name)
        waiting = status.state.waiting if status is not None else None
        ending = next((a for a in (observed.latest, observed.previous) if a is not None and a.ended), None)
        yield _Seen(container, observed, waiting.reason if waiting is not None else "", ending)


def verdict(history: History) -> Verdict:
    """Return the cause that the rules find."""
    return next(found for rule in RULES if (found := rule(history)) is not None)


def _not_here(history: History) -> Verdict | None:
    """It was applied, and nothing of it is on this host."""
    status = history.status
    if history.pod is not None or status is None:
        return None
    if status.phase in (Phase.SUCCEEDED, Phase.FAILED):
        why = f" ({status.reason}: {status.message.rstrip('. ')})" if status.reason else ""
        text = f"Pod {history.name} has come to its end, {status.phase.value}{why}, and is not made again"
        return Verdict(sentence(text), f"pyrun get pod {history.name} -o yaml")
    why = f": {status.message}" if status.message else ""
    text = f"Pod {history.name} was applied and has not been made yet{why}"
    lacks = any((c.type, c.status) == ("PodScheduled", "False") for c in status.conditions)
    return _with_supervisor(history, text, "pyrun check" if lacks else f"pyrun events --for {history.name}")


def _gone(history: History) -> Verdict | None:
    """Only events are left of it."""
    if history.pod is not None:
        return None
    removal = (
        history.last_event("", Reason.REMOVED, Reason.SUCCESSFUL_DELETE)
        or history.last_event("", Reason.KILLING, Reason.DEADLINE_EXCEEDED, Reason.EVICTED)
        or history.events[-1]
    )
    before = next(
        (e for e in reversed(history.events) if e.type is EventType.WARNING and e.time < removal.time), None
    )
    where = f'container "{before.about.container}": ' if before and before.about.container else ""
    cause = "" if before is None else f"; the last that went wrong before: {where}{before.message}"
    return Verdict(
        sentence(f"Pod {history.name} is gone ({removal.reason}: {removal.message}){cause}"),
        f"pyrun events --for {history.name}",
    )


def _deadline(history: History) -> Verdict | None:
    """activeDeadlineSeconds has passed."""
    stop = history.observed.stop if history.observed is not None else None
    reason = history.status.reason if history.status is not None else ""
    if DEADLINE not in (reason, stop.reason if stop is not None else ""):
        return None
    limit = history.pod.spec.active_deadline_seconds if history.pod is not None else None
    return Verdict(
        f"Pod {history.name} was ended because it was active for longer than its activeDeadlineSeconds, {limit} s.",
        f"pyrun logs {history.name}{log_choice(history)}",
    )


def _evicted(history: History) -> Verdict | None:
    """It took more of the disk than its limits allow."""
    stop = history.observed.stop if history.observed is not None else None
    if stop is None or stop.reason != Reason.EVICTED:
        return None
    return Verdict(
        sentence(f"Pod {history.name} was evicted: {stop.message.rstrip()}"),
        f"pyrun logs {history.name}{log_choice(history)}",
    )


def _terminating(history: History) -> Verdict | None:
    """Its end was asked for."""
    stop = history.observed.stop if history.observed is not None else None
    if stop is None:
        return None
    running = [f'"{seen.container.name}"' for seen in _containers(history) if seen.running]
    why = f" ({stop.message})" if stop.message else ""
    left = (stop.deadline_ns - history.now_ns) / 1e9
    if not running:
        return Verdict(f"Pod {history.name} was ended as it was asked{why}: all its containers have ended.")
    still = f"{several('container', running)} still {'run' if len(running) > 1 else 'runs'}"
    if left > 0:
        return Verdict(
            f"Pod {history.name} is being ended as it was asked{why}; {still} and is killed in {span(left)}.",
            f"pyrun wait --for=delete pod/{history.name} --timeout {int(left) + 5}s",
        )
    return Verdict(
        f"Pod {history.name} was to be ended {span(-left)} ago{why}, but {still}: who was doing it has gone.",
        f"pyrun pod rm -f {history.name}",
    )


def _cannot_start(history: History) -> Verdict | None:
    """The next attempt of a container cannot be created."""
    for seen in _containers(history):
        failure = seen.observed.failure
        if seen.running or (failure is None and seen.reason not in IMAGE_REASONS):
            continue
        event = history.last_event(seen.container.name, Reason.FAILED)
        reason = seen.reason or (failure.reason if failure is not None else "")
        message = failure.message if failure is not None else event.message if event is not None else ""
        message = message.rstrip(".")
        why = f"{reason}: {message}" if message else reason
        if reason in IMAGE_REASONS or (failure is not None and failure.reason in IMAGE_REASONS):
            never = "ErrImageNeverPull" in (reason, failure.reason if failure is not None else "")
            command = "pyrun image ls" if never else f"pyrun image pull {shlex.quote(seen.container.image)}"
            return Verdict(
                sentence(f"{seen.title} waits for its image {seen.container.image} ({why})"), command
            )
        return Verdict(
            sentence(f"{seen.title} cannot be started ({why})"), f"pyrun describe pod {history.name}"
        )
    return None


def _sandbox(history: History) -> Verdict | None:
    """Pause has gone under containers that shall run."""
    observed, status = history.observed, history.status
    if observed is None or status is None or observed.sandbox_alive:
        return None
    if status.phase in (Phase.SUCCEEDED, Phase.FAILED):
        return None
    return _with_supervisor(
        history,
        f"The sandbox of Pod {history.name} is gone (its pause process was killed) and is to be made anew",
        f"pyrun describe pod {history.name}",
    )


def _ended(history: History) -> Verdict | None:
    """A container has ended badly and does not run now, or has ended again and again."""
    for seen in _containers(history):
        end, ending = seen.end, seen.ending
        if end is None or ending is None or (seen.running and _is_well(seen)):
            continue
        waits = seen.reason == "CrashLoopBackOff"
        if end.exit_code == 0 and not end.lost and not waits:
            continue
        if seen.running and end.exit_code == 0:
            continue
        cause, command = _cause_of(history, seen, ending, end)
        if seen.running:
            return Verdict(
                sentence(f"{cause}; it runs again (attempt {_number(seen)}) and is not ready"), command
            )
        if waits:
            ends = f"it has ended {ending.crashes + 1} times in a row and " if ending.crashes else "it "
            again = f"{cause}; {ends}waits to be started again"
            return _with_supervisor(history, again, command)
        if _is_restarted(history, seen, end):
            return _with_supervisor(history, f"{cause}; it is to be started again", command)
        return Verdict(sentence(cause), command)
    return None


def _is_restarted(history: History, seen: _Seen, end: Ended) -> bool:
    pod, observed, status = history.pod, history.observed, history.status
    if pod is None or observed is None or observed.stop is not None:
        return False
    if status is None or status.phase in (Phase.SUCCEEDED, Phase.FAILED):
        return False
    return wants_restart(pod.spec, seen.container, end) is not RestartVerdict.NO


def _number(seen: _Seen) -> int:
    return seen.observed.latest.attempt if seen.observed.latest is not None else 0


def _is_well(seen: _Seen) -> bool:
    latest = seen.observed.latest
    return latest is not None and latest.started and latest.ready


def _cause_of(history: History, seen: _Seen, ending: Attempt, end: Ended) -> tuple[str, str]:
    """Return what ended an attempt, as the beginning of a sentence, and the command to look further."""
    name, container = history.name, seen.container
    # The log of the attempt that ended: that of the one before when the next runs already.
    previous = " -p" if seen.observed.latest is not ending else ""
    logs = f"pyrun logs {name} -c {container.name}{previous}"
    said = f' and left the message "{end.message.strip()}"' if end.message.strip() else ""
    if end.lost:
        return f"{seen.title} was ended by the end of its monitor, which somebody killed", "dmesg | tail"
    if end.oom_kills:
        return (
            f"{seen.title} ran out of memory: {how_it_ended(end)}",
            "dmesg | grep -i 'killed process'",
        )
    given_up, message = _failed_probe(ending)
    if given_up:
        probe = container.startup_probe if given_up == "startup" else container.liveness_probe
        why = f" ({message})" if message else ""
        words = f"{seen.title} was ended because its {given_up} probe failed{why}"
        return words, (seen.running and probe_command(history, container, probe)) or logs
    if ending.post_start is HookState.FAILED:
        message = f" ({ending.post_start_message})" if ending.post_start_message else ""
        return f"{seen.title} was ended because its postStart hook failed{message}", logs
    if ending.stop is not None:
        stop = ending.stop
        return f"{seen.title} was stopped ({stop.reason}: {stop.message}) and {how_it_ended(end)}{said}", logs
    rebuilt = end.signal == signal.SIGKILL and _rebuilt(history, end)
    how = "was ended because the sandbox of the Pod was made anew (pause was gone)" if rebuilt else ""
    return f"{seen.title} {how or how_it_ended(end) + said}", logs


def _rebuilt(history: History, end: Ended) -> bool:
    """Whether the sandbox was made anew when something ended; killing what is left is part of that."""
    event, at = history.last_event("", Reason.SANDBOX_CHANGED), seconds(end.finished_at)
    told = seconds(event.time) if event is not None else None
    return at is not None and told is not None and abs(at - told) < SAME_MOMENT


def _failed_probe(ending: Attempt) -> tuple[str, str]:
    """Return which probe has given an attempt up, with what it said; of one that is over the stop tells it."""
    if ending.unhealthy:
        return ending.unhealthy, ending.unhealthy_message
    if ending.stop is None or ending.stop.reason != UNHEALTHY:
        return "", ""
    words, _, message = ending.stop.message.partition(" probe: ")
    return ("startup" if words.endswith("startup") else "liveness"), message


def _initializing(history: History) -> Verdict | None:
    """Containers wait for an init container before them."""
    pod, observed = history.pod, history.observed
    if pod is None or observed is None or observed.initialized or not pod.spec.init_containers:
        return None
    for number, seen in enumerate(_containers(history), 1):
        if number > len(pod.spec.init_containers):
            return None
        latest = seen.observed.latest
        sidecar = is_sidecar(pod.spec, seen.container)
        ready = latest is not None and latest.started and seen.running
        done = latest is not None and latest.ended is not None and latest.ended.exit_code == 0
        if ready if sidecar else done:
            continue
        what = "sidecar" if sidecar else "init container"
        place = f"{number} of {len(pod.spec.init_containers)}"
        time = since(history, latest.started_at) if latest is not None and seen.running else ""
        state = "which has not been started yet" if latest is None else f"which runs{time}"
        waits = f'Pod {history.name} waits for its {what} "{seen.container.name}" ({place}), {state}'
        command = "" if latest is None else f"pyrun logs {history.name} -c {seen.container.name} -f"
        return _with_supervisor(history, waits, command or f"pyrun describe pod {history.name}")
    return None


def _paused(history: History) -> Verdict | None:
    """Somebody has frozen a container."""
    frozen = [
        f'"{s.container.name}"'
        for s in _containers(history)
        if s.observed.latest and s.observed.latest.paused
    ]
    if not frozen:
        return None
    verb = "are" if len(frozen) > 1 else "is"
    return Verdict(
        capital(f"{several('container', frozen)} {verb} paused."), f"pyrun pod unpause {history.name}"
    )


def _unready(history: History) -> Verdict | None:
    """A container runs and is not ready."""
    for seen in _containers(history):
        latest = seen.observed.latest
        if latest is None or not seen.running or (latest.started and latest.ready):
            continue
        event = history.last_event(seen.container.name, Reason.UNHEALTHY)
        said = f" ({event.message})" if event is not None else ""
        if latest.post_start is HookState.PENDING:
            text = f"{seen.title} is not ready because its postStart hook has not ended"
            return _with_supervisor(history, text, f"pyrun logs {history.name} -c {seen.container.name}")
        word, probe = ("readiness", seen.container.readiness_probe)
        if not latest.started and seen.container.startup_probe is not None:
            word, probe = ("startup", seen.container.startup_probe)
        command = probe_command(history, seen.container, probe)
        text = f"{seen.title} runs and is not ready: its {word} probe has not succeeded{said}"
        return _with_supervisor(
            history, text, command or f"pyrun logs {history.name} -c {seen.container.name}"
        )
    return None


def _pending(history: History) -> Verdict | None:
    """A container has not been made yet."""
    waiting = [f'"{seen.container.name}"' for seen in _containers(history) if seen.observed.latest is None]
    if not waiting:
        return None
    verb = "have" if len(waiting) > 1 else "has"
    text = capital(f"{several('container', waiting)} {verb} not been made yet")
    return _with_supervisor(history, text, f"pyrun describe pod {history.name}")


def _well(history: History) -> Verdict:
    """Nothing is wrong."""
    status = history.status
    if status is not None and status.phase is Phase.SUCCEEDED:
        return Verdict(
            f"Pod {history.name} has finished well: every container ended with exit code 0.",
            f"pyrun logs {history.name}{log_choice(history)}",
        )
    restarted = max(
        (s for s in _containers(history) if s.end is not None and _number(s) > 0), key=_number, default=None
    )
    if restarted is not None and restarted.ending is not None and restarted.end is not None:
        cause, command = _cause_of(history, restarted, restarted.ending, restarted.end)
        number = _number(restarted)
        text = f"Pod {history.name} runs and is ready; restart {number}: {cause[0].lower()}{cause[1:]}"
        return Verdict(sentence(text), command)
    text = f"Pod {history.name} runs and is ready; nothing is wrong with it"
    if history.pod is not None and needs_supervision(history.pod):
        return _with_supervisor(history, text, "")
    return Verdict(sentence(text))


Rule = Callable[[History], Verdict | None]
RULES: tuple[Rule, ...] = (
    _not_here,
    _gone,
    _deadline,
    _evicted,
    _terminating,
    _paused,
    _cannot_start,
    _sandbox,
    _ended,
    _initializing,
    _unready,
    _pending,
    _well,
)


def _with_supervisor(history: History, text: str, command: str) -> Verdict:
    """What somebody must do is not done while no supervisor runs."""
    if history.supervised:
        return Verdict(sentence(text), command)
    return Verdict(sentence(f"{text}; no supervisor runs"), "pyrun supervise --detach")
