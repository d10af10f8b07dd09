"""Locks: flock(2) on a file, inherited by forked children and lost by them at exec.

So a Pod's lock is free only when nobody is still making or removing something of it: not even a launcher whose
parent was killed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyrun.errors import Busy


@contextmanager
def locked(path: str, what: str, timeout: float) -> Iterator[None]:
    """Hold the lock of a file; wait for it up to `timeout` seconds, then raise Busy naming the holder."""
    fd = acquire(path, timeout)
    if fd is None:
        raise Busy(f"{what} is held by {holder_of(path)}", hint="wait for it, or end that process")
    try:
        yield
    finally:
        os.close(fd)


def acquire(path: str, timeout: float) -> int | None:
    """Return a descriptor that holds the lock, or None when it stays taken for `timeout` seconds."""
    deadline = time.monotonic() + timeout
    delay = 0.001
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            if time.monotonic() >= deadline:
                return None
            time.sleep(delay)
            delay = min(delay * 2, 0.05)
            continue
        except BaseException:
            os.close(fd)
            raise
        if _is_current(fd, path):
            return fd
        os.close(fd)  # the Pod was removed, and its lock file with it, while we waited


def _is_current(fd: int, path: str) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def holder_of(path: str) -> str:
    """Say who holds the lock of a file, from /proc/locks."""
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                    return f"process {fields[4]} ({_command_of(fields[4])})"
    except OSError:
        return "a process that has just ended"
    return "another process"


def _command_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    except OSError:
        return "it has ended; a child of it still works"
