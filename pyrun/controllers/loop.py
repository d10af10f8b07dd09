"""A poll loop of one thread: descriptors with what is done when they are ready, and timers.

Nothing that is called from here may block. Times are nanoseconds of CLOCK_MONOTONIC, so no change of the date
moves a timer; without a timer or an event the process sleeps.
"""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable, Hashable

Callback = Callable[[], None]

MAX_SLEEP_NS = 24 * 3600 * 10**9
"""poll(2) takes milliseconds in an int: a day is far below its limit."""


class Loop:
    """Descriptors and timers. A timer is known by a key; setting it again moves it."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.clock = clock
        self._poll = select.poll()
        self._callbacks: dict[int, Callback] = {}
        self._due: dict[Hashable, tuple[int, Callback]] = {}
        self._heap: list[tuple[int, int, Hashable]] = []
        self._sequence = 0
        self.turns = 0

    def watch(self, fd: int, callback: Callback, events: int = select.POLLIN) -> None:
        """Call `callback` whenever `fd` is ready; watching it again changes events and callback."""
        self._callbacks[fd] = callback
        self._poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor; the caller closes it. One that is not watched is no error."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def at(self, key: Hashable, when_ns: int, callback: Callback) -> None:
        """Call `callback` at a time; an earlier setting of the same key is replaced."""
        known = self._due.get(key)
        self._due[key] = (when_ns, callback)
        if known is None or known[0] != when_ns:
            self._sequence += 1
            heapq.heappush(self._heap, (when_ns, self._sequence, key))

    def cancel(self, key: Hashable) -> None:
        """Forget a timer; one that is not set is no error."""
        self._due.pop(key, None)

    def is_set(self, key: Hashable) -> bool:
        """Whether a timer is set."""
        return key in self._due

    def next_due(self) -> int | None:
        """The time of the earliest timer."""
        while self._heap:
            when, _, key = self._heap[0]
            due = self._due.get(key)
            if due is not None and due[0] == when:
                return when
            heapq.heappop(self._heap)  # cancelled, or moved
        return None

    def turn(self) -> None:
        """Sleep until a descriptor is ready or a timer is due, and call what belongs to each."""
        self.turns += 1
        for fd, _ in self._poll.poll(self._timeout_ms()):
            callback = self._callbacks.get(fd)  # one called before may have forgotten it
            if callback is not None:
                callback()
        now = self.clock()
        while (when := self.next_due()) is not None and when <= now:
            _, _, key = heapq.heappop(self._heap)
            _, callback = self._due.pop(key)
            callback()

    def _timeout_ms(self) -> int | None:
        when = self.next_due()
        if when is None:
            return None
        # Rounded up: woken a moment too early, the loop would spin until the timer is due.
        return -(-min(max(when - self.clock(), 0), MAX_SLEEP_NS) // 1_000_000)
