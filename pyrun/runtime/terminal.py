"""The caller's terminal: its size, raw mode, and the keys that detach from it."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q, as in Docker and podman."""

END_OF_INPUT = b"\x04\x04"
"""What tells a terminal the end of input: the first Ctrl-D may only end a line that was begun; termios(3)."""


def window_size(fd: int) -> tuple[int, int] | None:
    """Return rows and columns of the terminal a descriptor stands for, None when it is none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return None
    return size.lines, size.columns


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Put a terminal into raw mode inside the block; nothing for a descriptor that is no terminal."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class DetachScanner:
    """Finds the detach keys in what is typed, also when they arrive apart."""

    def __init__(self, keys: bytes = DETACH_KEYS) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what goes on to the container, and whether the keys were found after it."""
        text = self._held + data
        position = text.find(self._keys)
        if position >= 0:
            return text[:position], True
        held = next((n for n in range(len(self._keys) - 1, 0, -1) if text.endswith(self._keys[:n])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], False
