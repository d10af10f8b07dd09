"""A group of the unified hierarchy: made, emptied by cgroup.kill, removed; frozen and thawed."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time

from pyrun.cgroups import files
from pyrun.errors import Conflict, PyrunError, Unsupported
from pyrun.kernel.operation import Operation, Results

REMOVAL_TIMEOUT = 5.0
"""Seconds until a killed group must be empty."""


class CreateCgroup(Operation, frozen=True, tag=True):
    """Make a group below `prefix`, which all Pods of an instance share and the last one removes; `name` may be a path.

    Undo kills what is in the group and below it, waits until it is empty and removes it, deepest first; then the
    prefix and what lies between, when no other group is there.
    """

    prefix: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.prefix}/{self.name}"

    def describe(self) -> str:
        return f"mkdir {self.path}"

    def apply(self, results: Results) -> None:
        while True:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            # Between the two calls the last Pod may have gone, and what it shared with it.
            with contextlib.suppress(FileNotFoundError):
                os.mkdir(self.path)
                return

    def undo(self) -> None:
        remove(self.path)
        parent = self.path
        with contextlib.suppress(OSError):  # not empty: other groups live there
            while parent != self.prefix:
                parent = os.path.dirname(parent)
                os.rmdir(parent)


class CreateLeaf(Operation, frozen=True, tag=True):
    """Make a group for processes in the group of a Pod. Undo is that of CreateCgroup.

    Raises Conflict when the Pod's group has gone, or is frozen: who is born in it would never begin.
    """

    parent: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.parent}/{self.name}"

    def describe(self) -> str:
        return f"mkdir {self.path}"

    def apply(self, results: Results) -> None:
        try:
            os.mkdir(self.path)
        except FileNotFoundError:
            raise Conflict(
                f"the cgroup {self.parent} has gone",
                hint="somebody else has removed it; remove the Pod: pyrun pod rm -f",
            ) from None
        if files.events(self.path).get("frozen", 0):
            raise Conflict(
                f"the cgroup {self.parent} is frozen, and what is started in it would not run",
                hint=f"somebody has frozen it, or a group above; thaw it: echo 0 > {self.parent}/cgroup.freeze",
            )

    def undo(self) -> None:
        remove(self.path)


def kill(group: str) -> None:
    """Send SIGKILL to every process in a group and below it (cgroup.kill); gone is success.

    Raises Unsupported before Linux 5.14.
    """
    try:
        files.write(group, "cgroup.kill", "1")
    except FileNotFoundError:
        if os.path.isdir(group):
            raise Unsupported(
                f"{group} has no cgroup.kill", hint="boot a newer kernel: Linux 5.14 has it"
            ) from None
    except OSError as error:
        if error.errno != errno.ENODEV:  # it went while its file was open
            raise


def wait_until_empty(group: str, timeout: float = REMOVAL_TIMEOUT) -> bool:
    """Wait until no process is in a group or below it; whether that came about within `timeout` seconds.

    cgroup.events announces each change by POLLPRI, so nothing is polled in between.
    """
    deadline = time.monotonic() + timeout
    try:
        fd = os.open(f"{group}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while True:
            try:
                if b"populated 0" in os.pread(fd, 256, 0):
                    return True
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return True
                raise
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poller.poll(left * 1000)
    finally:
        os.close(fd)


def remove(group: str) -> None:
    """Kill all processes of a group and below, wait until they are gone, remove it; gone is success."""
    if not os.path.isdir(group):
        return
    kill(group)
    if not wait_until_empty(group):
        held = ", ".join(str(pid) for pid in _all_processes(group))
        raise PyrunError(
            f"cgroup {group} still holds processes {held} {REMOVAL_TIMEOUT:g} s after cgroup.kill",
            hint="look at their state with ps; one in D state waits for a device or a file server",
        )
    _remove_tree(group)


def _all_processes(group: str) -> tuple[int, ...]:
    return tuple(pid for path, _, _ in os.walk(group) for pid in files.processes(path))


def _remove_tree(group: str) -> None:
    for path, _, _ in os.walk(group, topdown=False):
        # A zombie that is not yet reaped keeps its group busy for a moment.
        deadline = time.monotonic() + REMOVAL_TIMEOUT
        while True:
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
                continue
            break


def freeze(group: str) -> None:
    """Stop every process of a group and below (cgroup.freeze) and wait until all have stopped."""
    _set_frozen(group, 1)


def thaw(group: str) -> None:
    """Let every process of a frozen group go on."""
    _set_frozen(group, 0)


def is_frozen(group: str) -> bool:
    """Whether the group is frozen; a group that is gone is not."""
    return (files.find(group, "cgroup.freeze") or "").strip() == "1"


def stands_still(group: str) -> bool:
    """Whether all in the group is frozen, by itself or by a group above; a group that is gone does not."""
    try:
        return files.events(group).get("frozen", 0) == 1
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return False
        raise


def is_populated(group: str) -> bool:
    """Whether a process lives in a group or below it; a group that is gone is empty."""
    try:
        return files.events(group)["populated"] != 0
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return False
        raise


def oom_kills(group: str) -> int:
    """Return how many processes of a group and below the OOM killer has killed.

    0 for a group that is gone, and where the memory controller is not on the unified hierarchy.
    """
    try:
        text = files.read(group, "memory.events")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return 0
        raise
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def _set_frozen(group: str, wanted: int) -> None:
    files.write(group, "cgroup.freeze", str(wanted))
    deadline = time.monotonic() + REMOVAL_TIMEOUT
    fd = os.open(f"{group}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while f"frozen {wanted}".encode() not in os.pread(fd, 256, 0):
            left = deadline - time.monotonic()
            if left <= 0:
                raise PyrunError(
                    f"cgroup {group} did not become {'frozen' if wanted else 'thawed'} in {REMOVAL_TIMEOUT:g} s",
                    hint="a process in it waits in the kernel; see ps -o pid,stat,wchan",
                )
            poller.poll(left * 1000)
    finally:
        os.close(fd)
