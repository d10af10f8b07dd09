"""Asking for the stop of a Pod or a container, and sending signals; see `terminate` for carrying a stop out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from msgspec.structs import replace

from pyrun.cgroups import group
from pyrun.errors import Conflict, InputError, NotFound
from pyrun.kernel import syscalls
from pyrun.kernel.proc import has_ended
from pyrun.lifecycle.observation import Stop
from pyrun.plan.sandbox import container_leaf
from pyrun.runtime.clock import now
from pyrun.runtime.pods import ContainerKey, PodDirectory, require_pod
from pyrun.state.locks import locked
from pyrun.state.records import SandboxRecord, read_record, write_record

STOP_TIMEOUT = 10.0
"""Seconds to wait for another process that changes a stop; it only writes a small file."""


def request_stop(
    pod: PodDirectory, grace: int | None, reason: str, message: str = "", *, remove: bool = False
) -> Stop:
    """Persist that a Pod shall be terminated; from now on nothing of it is started. `terminate_pod` carries it out.

    `grace` is in seconds, None for the Pod's own; 0 kills at once. Of several requests the first says why, the
    earliest deadline counts, and one that says `remove` is enough. Raises NotFound, and StateError for a Pod that
    is half made.
    """
    seconds = require_pod(pod).spec.termination_grace_period_seconds if grace is None else grace
    asked = replace(_asked(seconds, reason, message), remove=remove)
    under_way = [s for key in pod.attempts() if (s := pod.container_stop(key)) and not pod.closed(key)]
    if under_way:  # what has been done for the stop of one container need not be done again
        asked = replace(
            asked,
            pre_stopped=tuple(name for stop in under_way for name in stop.pre_stopped),
            signalled=tuple(name for stop in under_way for name in stop.signalled),
        )
    return _request(pod.stop_path, asked)


def request_container_stop(
    pod: PodDirectory, key: ContainerKey, grace: int, reason: str, message: str = ""
) -> Stop:
    """Persist that an attempt shall be stopped, as `request_stop` does for a Pod; see `stop_attempt`."""
    if pod.container(key) is None:
        raise NotFound(
            f'container "{key[0]}" has no attempt {key[1]}', hint="it is being made, or was removed"
        )
    return _request(container_stop_path(pod, key), _asked(grace, reason, message))


def container_stop_path(pod: PodDirectory, key: ContainerKey) -> str:
    """The stop of one attempt that was asked for."""
    return f"{pod.container_directory(key)}/stop.json"


def _asked(grace: int, reason: str, message: str) -> Stop:
    moment = time.monotonic_ns()
    return Stop(
        asked_ns=moment,
        asked_at=now(),
        deadline_ns=moment + grace * 10**9,
        grace_seconds=grace,
        reason=reason,
        message=message,
    )


def _request(path: str, asked: Stop) -> Stop:
    def merge(stop: Stop | None) -> Stop:
        if stop is None:
            return asked
        stop = replace(stop, remove=stop.remove or asked.remove)
        if asked.deadline_ns >= stop.deadline_ns:
            return stop
        # 2 s that a preStop had won belong to the deadline that it had.
        grace = min(asked.grace_seconds, stop.grace_seconds)
        return replace(stop, deadline_ns=asked.deadline_ns, grace_seconds=grace, kill_ns=0)

    return change_stop(path, merge)


def change_stop(path: str, change: Callable[[Stop | None], Stop]) -> Stop:
    """Change a persisted stop: whoever asks for it and whoever carries it out do so at the same time.

    Raises NotFound when the Pod is gone.
    """
    try:
        with locked(f"{path}.lock", f"the stop {path}", STOP_TIMEOUT):
            before = read_record(path, Stop)
            after = change(before)
            if after != before:
                write_record(path, after)
            return after
    except FileNotFoundError:
        raise NotFound("the Pod is gone", hint="another command has removed it") from None


def thaw_containers(pod: PodDirectory, sandbox: SandboxRecord, only: str | None = None) -> None:
    """Thaw the containers of a Pod, or one: a frozen process takes no signal but SIGKILL.

    The Pod's own group too, which only somebody else can have frozen: monitors in it could not tell of any end.
    """
    if group.is_frozen(sandbox.facts.cgroup):
        group.thaw(sandbox.facts.cgroup)
    for name in dict.fromkeys(name for name, _ in pod.attempts() if only in (None, name)):
        leaf = f"{sandbox.facts.cgroup}/{container_leaf(name)}"
        if group.is_frozen(leaf):
            group.thaw(leaf)


def signal_number(text: str) -> int:
    """Return the number of a signal given as `TERM`, `SIGTERM`, `SIGRTMIN+1` or `15`. Raises InputError."""
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    base, plus, offset = name.partition("+")
    if text.isdecimal() and 0 < int(text) <= signal.SIGRTMAX:
        return int(text)
    if base in signal.Signals.__members__ and (not plus or (base == "SIGRTMIN" and offset.isdecimal())):
        number = signal.Signals[base].value + (int(offset) if plus else 0)
        if number <= signal.SIGRTMAX:
            return number
    base, minus, offset = name.partition("-")
    if (
        base == "SIGRTMAX"
        and minus
        and offset.isdecimal()
        and signal.SIGRTMAX - int(offset) >= signal.SIGRTMIN
    ):
        return signal.SIGRTMAX - int(offset)
    raise InputError(f'"{text}" is not a signal', hint="see kill -l")


def kill_pod(pod: PodDirectory, signal_name: str, container: str | None) -> None:
    """Send a signal to the main process of each container, or of one. Raises NotFound, Conflict, InputError."""
    number = signal_number(signal_name)
    manifest = require_pod(pod)
    keys = [key for key in pod.attempts() if container in (None, key[0])]
    if not keys:
        known = ", ".join(c.name for c in manifest.spec.all_containers())
        raise NotFound(f'Pod {manifest.metadata.name} has no container "{container}"', hint=f"it has {known}")
    reached = [send_signal(pod, key, number) for key in keys]
    if not any(reached):
        raise Conflict(f"no container of Pod {manifest.metadata.name} runs", hint="see pyrun pod ls")


def signal_container(pod: PodDirectory, name: str, number: int) -> bool:
    """Send a signal to the main process of a container; whether it still ran."""
    key = pod.latest(name)
    return key is not None and send_signal(pod, key, number)


def send_signal(pod: PodDirectory, key: ContainerKey, number: int | None) -> bool:
    """Send a signal, or the container's own stop signal for None; whether it still ran."""
    record = pod.container(key)
    pidfd = record.init.open() if record is not None else None
    if record is None or pidfd is None:
        return False
    try:
        if has_ended(pidfd):
            return False
        syscalls.pidfd_send_signal(
            pidfd, signal_number(record.config.stop_signal) if number is None else number
        )
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True
