"""Stopping and killing: signals through pidfds, then the cgroup."""

from __future__ import annotations

import os
import signal
import time

from pyrun.cgroups import group
from pyrun.errors import Conflict, InputError, NotFound
from pyrun.kernel import syscalls
from pyrun.kernel.proc import has_ended
from pyrun.plan.sandbox import PAUSE_LEAF, container_leaf
from pyrun.process.container import wait_for_exit
from pyrun.runtime.pods import ContainerKey, PodDirectory, pod_lock, require_pod, require_sandbox
from pyrun.state.records import SandboxRecord

RECORD_TIMEOUT = 5.0
"""Seconds for a monitor to write the exit record of a container that was killed."""


def stop_pod(pod: PodDirectory, grace: int | None) -> None:
    """Stop a Pod: 1. thaw it, 2. signal every container, 3. wait for one common grace period, 4. kill what
    is left by its cgroup, 5. end pause. Records, logs, volumes and the address stay until the Pod is removed.

    `grace` is in seconds, None for the Pod's own. Stopping a stopped Pod is no error.
    """
    with pod_lock(pod):
        sandbox = require_sandbox(pod)
        seconds = require_pod(pod).spec.termination_grace_period_seconds if grace is None else grace
        thaw_containers(pod, sandbox)
        keys = pod.attempts()
        if seconds > 0:
            for key in keys:
                _signal(pod, key, None)
        deadline = time.monotonic() + seconds
        for key in keys:
            wait_for_exit(pod.container_directory(key), deadline)
        for key in keys:
            group.kill(f"{sandbox.facts.cgroup}/{container_leaf(key[0])}")
        deadline = time.monotonic() + RECORD_TIMEOUT
        for key in keys:
            wait_for_exit(pod.container_directory(key), deadline)
        pause = f"{sandbox.facts.cgroup}/{PAUSE_LEAF}"
        group.kill(pause)
        group.wait_until_empty(pause)


def thaw_containers(pod: PodDirectory, sandbox: SandboxRecord) -> None:
    """Thaw the containers of a Pod: a frozen process takes no signal but SIGKILL."""
    for name, _ in pod.attempts():
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
    reached = [_signal(pod, key, number) for key in keys]
    if not any(reached):
        raise Conflict(f"no container of Pod {manifest.metadata.name} runs", hint="see pyrun pod ls")


def signal_container(pod: PodDirectory, name: str, number: int) -> bool:
    """Send a signal to the main process of a container; whether it still ran."""
    key = pod.latest(name)
    return key is not None and _signal(pod, key, number)


def _signal(pod: PodDirectory, key: ContainerKey, number: int | None) -> bool:
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
