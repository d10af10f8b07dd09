"""What the host has left for new Pods, as the supervisor sees it: by this it knows when it is worth trying.

What counts is the ledger (`runtime/admission.py`), which the maker of a Pod asks under its lock. This view may be a
moment behind it. It costs no look at the disk, and whatever frees something wakes the supervisor anyway: so Pods that
wait for room need no timer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pyrun.spec.annotations import takes_best_effort
from pyrun.spec.effective import Shortage, effective_request, fits, sum_of, times
from pyrun.spec.pod import Pod
from pyrun.spec.resources import Capacity, ResourceList
from pyrun.spec.value import Value


class Reservation(NamedTuple):
    """What the Pod of a uid holds."""

    uid: str
    held: ResourceList


class Room(Value, frozen=True, kw_only=True):
    """How many more Pods of one kind have room, and in words what is lacking for another one (none left: of what)."""

    count: int
    lacking: str = ""


class Headroom:
    """The capacity of the host without what its Pods hold and without what is being made."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._seen: Callable[[], Iterable[Reservation]] = tuple
        self._begun: dict[str, ResourceList] = {}
        self._reserved: ResourceList | None = None

    def look(self, seen: Callable[[], Iterable[Reservation]]) -> None:
        """Take a new view of the Pods there are; `seen` is called when somebody asks, and only once."""
        self._seen = seen
        self._reserved = None

    def begin(self, uid: str, pod: Pod) -> None:
        """Count a Pod that is being made, until it is seen or has failed."""
        self._begun[uid] = effective_request(pod.spec)
        self._reserved = None

    def end(self, uid: str) -> None:
        """The making of a Pod has come to its end, and there is a new view if it has succeeded."""
        self._begun.pop(uid, None)
        self._reserved = None

    def shortages(self, request: ResourceList) -> tuple[Shortage, ...]:
        """Return what is lacking for a request; nothing when it fits."""
        return fits(request, self._capacity, self._all())

    def room(self, pod: Pod, most: int) -> Room:
        """Return how many Pods like this one fit, `most` at most; all of them when it takes what it can get."""
        request = effective_request(pod.spec)
        if takes_best_effort(pod) or request == ResourceList():
            return Room(count=most)
        lacking = "; ".join(map(str, self.shortages(request)))
        return Room(count=times(request, self._capacity, self._all(), most), lacking=lacking)

    def _all(self) -> ResourceList:
        if self._reserved is None:
            seen = (held for uid, held in self._seen() if uid not in self._begun)
            self._reserved = sum_of((*seen, *self._begun.values()))
        return self._reserved
