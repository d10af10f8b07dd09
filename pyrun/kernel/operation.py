"""What an operation is: a value that describes, applies and undoes one effect on the kernel.

A plan is a tuple of operations. Each belongs to the room of its kernel subject, is a frozen value that
serialises to one line of JSON (so that it can be written to a journal before it is applied), and never
holds a result: what it learns (a pid, a pidfd, an address) it puts into `Results` under a name fixed by the
plan, where later operations find it.
"""

from __future__ import annotations

import os

import msgspec

from pyrun.kernel.observer import Observer, Silent


class Results:
    """What the operations of one transaction have learnt, by name.

    Values are strings or integers. File descriptors are kept apart, because they must be closed: they are
    owned by this object and live until `close`. `observer` hears of each step that is applied.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self.observer: Observer = observer or Silent()
        self._values: dict[str, str | int] = {}
        self._fds: dict[str, int] = {}

    def put(self, name: str, value: str | int) -> None:
        """Store a value under `name`; a name is given once."""
        self._values[name] = value

    def text(self, name: str) -> str:
        """Return the value of `name` as text; KeyError when no operation before has put it."""
        return str(self._values[name])

    def number(self, name: str) -> int:
        """Return the value of `name` as an integer; KeyError when no operation before has put it."""
        return int(self._values[name])

    def has(self, name: str) -> bool:
        """Whether an operation before has put a value (not a descriptor) under `name`."""
        return name in self._values

    def put_fd(self, name: str, fd: int) -> None:
        """Hand a file descriptor over to this object, which closes it in `close`."""
        self._fds[name] = fd

    def fd(self, name: str) -> int:
        """Return the file descriptor stored under `name`; it stays this object's."""
        return self._fds[name]

    def close(self) -> None:
        """Close every file descriptor."""
        while self._fds:
            os.close(self._fds.popitem()[1])


class Step(msgspec.Struct, frozen=True, tag=True, tag_field="op"):
    """One line of a plan that runs inside a new process, whose end undoes it."""

    def describe(self) -> str:
        """Return one line a person learns from: the system call or file write with its arguments."""
        raise NotImplementedError

    def apply(self, results: Results) -> None:
        """Do it. Raises OSError or PyrunError; the caller adds `describe()`."""
        raise NotImplementedError


class Operation(Step, frozen=True, tag=True):
    """One line of a plan that is journalled, and that can be undone.

    `undo` is idempotent, succeeds when `apply` never happened or only half, and uses only the fields of the
    operation (a path, a link name, a Pod uid), never a result: a crash could have lost it. What it finds
    gone already is success; what it cannot remove it raises.
    """

    def undo(self) -> None:
        """Take the effect back."""
        raise NotImplementedError
