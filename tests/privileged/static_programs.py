"""What the tests of the static programs share: starting one as pyrun does, and looking at it."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyrun.process.programs import program_path


def block_all_signals() -> None:
    """What pyrun does before it executes any of these programs."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program with all signals blocked; options are those of Popen."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with all signals blocked; it is killed at the end if it still runs."""
    process = start(command, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait until the condition holds; False when it still does not after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def status(pid: int, field: str) -> str:
    """Return a field of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        return next(line.split(":", 1)[1].strip() for line in file if line.startswith(field + ":"))


def descriptors(pid: int) -> dict[int, str]:
    """Return the open descriptors of a process, and what each is."""
    folder = f"/proc/{pid}/fd"
    return {int(name): os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def is_static(name: str) -> bool:
    """Whether an ELF program needs neither an interpreter nor a dynamic section."""
    with open(program_path(name), "rb") as file:
        image = file.read()
    offset, size, count = struct.unpack_from("=Q14xHH", image, 32)
    kinds = {struct.unpack_from("=I", image, offset + index * size)[0] for index in range(count)}
    return image[:5] == b"\x7fELF\x02" and not kinds & {2, 3}


def is_small_libc(name: str) -> bool:
    """Whether a program was built with musl; glibc's fallback is some 700 KB and has no size to promise."""
    return os.path.getsize(program_path(name)) < 100_000
