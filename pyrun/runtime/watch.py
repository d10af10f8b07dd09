"""Waiting for something of an instance to change: Pods, desired state, events; inotify(7).

Who is woken looks itself. What leaves no trace in a file (a frozen container, a monitor that was killed) is seen
a second later.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from pyrun.kernel import syscalls
from pyrun.runtime.pods import pod_directories
from pyrun.spec.layout import Layout
from pyrun.state.events import EventLog

UNSEEN = 1.0
"""Seconds after which is looked at what no file tells of."""

_ENTRIES = syscalls.IN_CREATE | syscalls.IN_MOVED_TO | syscalls.IN_DELETE


class Watch:
    """Watches an instance from the moment it is made, so that what changes while it is looked at is not missed."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._inotify = syscalls.inotify_init1(syscalls.IN_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._inotify, select.POLLIN)
        self._add()

    def close(self) -> None:
        """Stop watching."""
        os.close(self._inotify)

    def wait(self, deadline: float | None = None) -> None:
        """Return when something may have changed since the last call, at the latest at `deadline` (monotonic)."""
        left = UNSEEN if deadline is None else min(UNSEEN, max(deadline - time.monotonic(), 0))
        self._poll.poll(-(-left * 1000 // 1))
        with suppress(BlockingIOError):
            while os.read(self._inotify, 1 << 16):
                pass
        self._add()

    def _add(self) -> None:
        """Watch every directory there is by now; one that is watched already stays."""
        layout = self._layout
        for path in (layout.state, layout.pods, EventLog(layout.root).directory):
            self._watch(path, _ENTRIES | syscalls.IN_MODIFY)
        self._watch(os.path.dirname(layout.store), syscalls.IN_MODIFY)
        for pod in pod_directories(layout):
            self._watch(pod.path, _ENTRIES)
            with suppress(FileNotFoundError):
                for name in os.listdir(f"{pod.path}/containers"):
                    self._watch(f"{pod.path}/containers/{name}", _ENTRIES)
            for key in pod.attempts():
                self._watch(pod.container_directory(key), _ENTRIES)

    def _watch(self, path: str, mask: int) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            syscalls.inotify_add_watch(self._inotify, path, mask)
