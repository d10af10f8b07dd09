"""The lock of an instance's shared network parts: held for milliseconds, never across a launch."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from pyrun.errors import Busy
from pyrun.spec.network import NetworkConfig

PATIENCE = 60.0
_LONGEST_PAUSE = 0.05
"""Seconds: many who wait must not take from the one who holds the lock the processor it needs."""


@contextlib.contextmanager
def network_lock(config: NetworkConfig) -> Iterator[None]:
    """Hold the exclusive flock of the instance's network; Busy after `PATIENCE` seconds of waiting."""
    os.makedirs(config.directory, mode=0o755, exist_ok=True)
    fd = os.open(config.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(fd, config.lock_file)
        yield
    finally:
        os.close(fd)  # closing releases: no process inherits this descriptor over an exec


def _acquire(fd: int, path: str) -> None:
    deadline, pause = time.monotonic() + PATIENCE, 0.002
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(
                    f"the network lock {path} was held by others for {PATIENCE:g} s",
                    hint=f"see who with: fuser -v {path}",
                ) from None
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        else:
            return
