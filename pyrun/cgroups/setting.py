"""Settings of a group: values in its files, and which controllers its children have.

Source: Documentation/admin-guide/cgroup-v2.rst, "Organizing Processes and Threads", "Controlling Controllers".
"""

from __future__ import annotations

import errno
import os
import time

from pyrun.cgroups import files
from pyrun.errors import Conflict, Unsupported
from pyrun.kernel.operation import Operation, Results

EMPTYING = 1.0
"""Seconds that a group may need to become free of processes that are just being moved out of it."""


_NO_SWAP = ("memory.swap.max", "0")
"""A kernel without this file has no swap, and nothing is left to forbid."""


class SetCgroup(Operation, frozen=True, tag=True):
    """Write a value to a file of a group. Nothing to undo: the value goes with its group."""

    group: str
    file: str
    value: str

    def describe(self) -> str:
        return f'write "{self.value}" to {self.group}/{self.file}'

    def apply(self, results: Results) -> None:
        try:
            files.write(self.group, self.file, self.value)
        except FileNotFoundError:
            if not os.path.isdir(self.group):
                raise
            if (self.file, self.value) == _NO_SWAP:
                return
            raise Unsupported(
                f"{self.group} has no {self.file}",
                hint="its controller is not enabled in the group above, or this kernel does not have the file",
            ) from None

    def undo(self) -> None:
        """Nothing."""


class EnableControllers(Operation, frozen=True, tag=True):
    """Give the children of a group controllers, one write each, so that one missing does not take the others along.

    All of `controllers` must come; of `optional` those that do. Nothing to undo: it goes with its group, and above
    that it takes nothing from anybody. Raises Conflict while the group itself holds processes, which only the root
    may beside children with controllers; Unsupported for a controller that is not there.
    """

    group: str
    controllers: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def describe(self) -> str:
        wanted = " ".join(f"+{name}" for name in (*self.controllers, *self.optional))
        return f'write "{wanted}" to {self.group}/cgroup.subtree_control'

    def apply(self, results: Results) -> None:
        enabled = files.enabled(self.group)
        for name in self.controllers:
            if name not in enabled:
                self._enable(name)
        for name in self.optional:
            if name not in enabled:
                _try_to_enable(self.group, name)

    def _enable(self, name: str) -> None:
        deadline = time.monotonic() + EMPTYING
        while (number := _try_to_enable(self.group, name)) == errno.EBUSY and time.monotonic() < deadline:
            time.sleep(0.005)
        if number in (errno.ENOENT, errno.EINVAL):
            raise Unsupported(
                f"the controller {name} cannot be enabled in {self.group}",
                hint="enable it in cgroup.subtree_control of the group above",
            )
        if number == errno.EBUSY:
            held = ", ".join(map(str, files.processes(self.group))) or "of a realtime policy"
            raise Conflict(
                f"the controller {name} cannot be enabled in {self.group}: it holds processes ({held})",
                hint="move them to a child of it: a group has processes, or children with controllers",
            )
        if number:
            raise OSError(
                number, f'write "+{name}": {os.strerror(number)}', f"{self.group}/cgroup.subtree_control"
            )

    def undo(self) -> None:
        """Nothing."""


def _try_to_enable(group: str, name: str) -> int:
    """Enable one controller for the children of a group; return 0 or the errno."""
    try:
        files.write(group, "cgroup.subtree_control", f"+{name}")
    except OSError as error:
        return error.errno or errno.EIO
    return 0
