"""Watching directories by inotify(7): which of them changed, and nothing more; whoever is told looks itself."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from pyrun.controllers.loop import Loop
from pyrun.kernel import syscalls

_EVENT = struct.Struct("=iIII")
_BUFFER = 64 * 1024

TEMPORARY = b".tmp"
"""How the names of files end that `write_atomically` has not finished."""


class Watches:
    """Directories with what is called when an entry of one appears, is renamed into place, changes or goes.

    A watch ends with its directory. Temporary files are nothing: what counts is what they are renamed to, and
    one that a full disk does not take would wake who tries to write it. When the kernel's queue overflows,
    everything is called.
    """

    MASK = syscalls.IN_CREATE | syscalls.IN_MOVED_TO | syscalls.IN_DELETE

    def __init__(self, loop: Loop) -> None:
        self._fd = syscalls.inotify_init1(syscalls.IN_NONBLOCK)
        self._loop = loop
        self._called: dict[int, Callable[[], None]] = {}
        loop.watch(self._fd, self._read)

    def add(self, path: str, callback: Callable[[], None], mask: int = MASK) -> bool:
        """Watch a directory; watching it again changes what is called. False when there is no such directory."""
        try:
            number = syscalls.inotify_add_watch(self._fd, path, mask)
        except FileNotFoundError:
            return False
        self._called[number] = callback
        return True

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.forget(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return
        changed: dict[int, None] = {}
        gone: set[int] = set()
        position = 0
        while position < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            name = data[position : position + length].rstrip(b"\0")
            position += length
            if name.endswith(TEMPORARY):
                continue
            if mask & syscalls.IN_Q_OVERFLOW:
                changed.update(dict.fromkeys(self._called))
            elif mask & syscalls.IN_IGNORED:
                gone.add(number)
            changed[number] = None
        callbacks = [self._called[number] for number in changed if number in self._called]
        for number in gone:
            self._called.pop(number, None)
        for callback in callbacks:
            callback()
