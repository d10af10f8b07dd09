"""Whether a supervisor runs, and starting one beside the caller."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

import msgspec

from pyrun.errors import Conflict, PyrunError, StateError
from pyrun.kernel.proc import ProcessIdentity, has_ended
from pyrun.kernel.syscalls import pidfd_send_signal
from pyrun.spec.layout import Layout
from pyrun.state.files import read_if_there, write_atomically
from pyrun.state.locks import acquire

STOP_TIMEOUT = 10.0
"""Seconds for a supervisor to end when it is asked to."""


def lock_path(layout: Layout) -> str:
    """The file whose lock the supervisor of an instance holds as long as it lives."""
    return f"{layout.state}/supervisor.lock"


def log_path(layout: Layout) -> str:
    """What a detached supervisor says."""
    return f"{layout.state}/supervisor.log"


def take_lock(layout: Layout) -> int:
    """Become the one supervisor of an instance; returns the descriptor that must stay open. Raises Conflict."""
    os.makedirs(layout.state, mode=0o700, exist_ok=True)
    fd = acquire(lock_path(layout), 0)
    if fd is None:
        other = supervisor(layout)
        who = f" (process {other.pid})" if other is not None else ""
        raise Conflict(
            f"a supervisor of this instance runs already{who}", hint="stop it with pyrun supervise --stop"
        )
    identity = msgspec.json.encode(ProcessIdentity.of(os.getpid()))
    write_atomically(f"{layout.state}/supervisor.json", identity)
    return fd


def holds_lock(layout: Layout, fd: int) -> bool:
    """Whether the lock of an instance is still the file that `fd` has locked."""
    try:
        return os.stat(lock_path(layout)).st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def supervisor(layout: Layout) -> ProcessIdentity | None:
    """Return the process that supervises an instance, None when none does."""
    data = read_if_there(f"{layout.state}/supervisor.json")
    if data is None:
        return None
    try:
        identity = msgspec.json.decode(data, type=ProcessIdentity)
    except msgspec.DecodeError as error:
        raise StateError(
            f"record {layout.state}/supervisor.json cannot be read: {error}", hint="remove that file"
        ) from error
    return identity if identity.alive() else None


def ensure_supervisor(layout: Layout, subnet: str) -> int | None:
    """Start a supervisor unless one runs; returns the pid of one that was started, None when one runs.

    It is started in a session of its own, with its output in `supervisor.log` and no other descriptor of the
    caller's: a pipe that it kept open would keep its reader waiting. Of two that are started at the same moment
    one ends at once, because it does not get the lock.
    """
    if supervisor(layout) is not None:
        return None
    os.makedirs(layout.state, mode=0o700, exist_ok=True)
    log = os.open(log_path(layout), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    options = ["--root", layout.root, "--state", layout.state, "--subnet", subnet]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "pyrun", *options, "supervise"],
            dict(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()),
            ],
            setsid=True,
            setsigmask=(),
        )
    finally:
        os.close(log)
        os.close(null)


def _inherited() -> list[int]:
    """Return the descriptors beside stdio that a program started now would get."""
    found = []
    for fd in (int(name) for name in os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the one that listed them
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
    return found


def stop_supervisor(layout: Layout) -> bool:
    """End the supervisor of an instance and wait for it; False when none runs. Pods are left alone."""
    identity = supervisor(layout)
    pidfd = identity.open() if identity is not None else None
    if pidfd is None:
        return False
    try:
        pidfd_send_signal(pidfd, 15)
        if not has_ended(pidfd, STOP_TIMEOUT):
            raise PyrunError(
                f"the supervisor did not end within {STOP_TIMEOUT:g} s",
                hint=f"see {log_path(layout)}; SIGKILL does no harm to it or to Pods",
            )
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
    return True


def wait_for_supervisor(layout: Layout, timeout: float) -> None:
    """Wait until a supervisor that was just started has taken its lock. Raises PyrunError when none does."""
    deadline = time.monotonic() + timeout
    while supervisor(layout) is None:
        if time.monotonic() > deadline:
            raise PyrunError("the supervisor did not start", hint=f"see {log_path(layout)}")
        time.sleep(0.01)
