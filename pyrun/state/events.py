"""The event log: what was decided and why, one line of JSON each, kept beyond the objects it is about.

A line is appended by one write(2) with O_APPEND, so that lines of several processes do not mix. When the file
is full it is renamed to `log.1`, whose predecessor goes; readers see both. A disk that is full or broken costs
events, never anything else.
"""

from __future__ import annotations

import enum
import os
import select
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Protocol

import msgspec

from pyrun.kernel import syscalls
from pyrun.spec.event import Event, EventType, ObjectReference
from pyrun.spec.pod import Pod
from pyrun.state.clock import now
from pyrun.state.locks import acquire

MAX_SIZE = 4 << 20
"""Bytes after which the log begins anew."""
MAX_MESSAGE = 1024
"""Characters of a message that are kept; the limit of Kubernetes."""

_BEGIN = b'{"time":"'
"""How each line begins. It cannot stand inside one, where a quote has a backslash before it."""
_CHANGES = syscalls.IN_MODIFY | syscalls.IN_CREATE | syscalls.IN_MOVED_TO


class Reason(enum.StrEnum):
    """Why something was done or has happened; the words of the kubelet where it has one."""

    PULLED = "Pulled"
    CREATED = "Created"
    STARTED = "Started"
    EXITED = "Exited"
    KILLING = "Killing"
    BACK_OFF = "BackOff"
    UNHEALTHY = "Unhealthy"
    PROBE_SUCCEEDED = "ProbeSucceeded"
    FAILED = "Failed"
    FAILED_POST_START = "FailedPostStartHook"
    FAILED_PRE_STOP = "FailedPreStopHook"
    SANDBOX_CHANGED = "SandboxChanged"
    FAILED_SANDBOX = "FailedCreatePodSandBox"
    RESTART_ALL = "RestartAllContainers"
    OOM_KILLING = "OOMKilling"
    MONITOR_LOST = "MonitorLost"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    EVICTED = "Evicted"
    REMOVED = "Removed"
    RESIZE_STARTED = "ResizeStarted"
    RESIZE_COMPLETED = "ResizeCompleted"
    RESIZE_DEFERRED = "ResizeDeferred"
    RESIZE_INFEASIBLE = "ResizeInfeasible"
    RESIZE_ERROR = "ResizeError"
    SUCCESSFUL_CREATE = "SuccessfulCreate"
    SUCCESSFUL_DELETE = "SuccessfulDelete"
    FAILED_SCHEDULING = "FailedScheduling"
    FAILED_CREATE = "FailedCreate"
    FAILED_DELETE = "FailedDelete"
    ADOPTED = "Adopted"
    RELEASED = "Released"


WARNINGS = frozenset(
    {
        Reason.BACK_OFF,
        Reason.UNHEALTHY,
        Reason.FAILED,
        Reason.FAILED_POST_START,
        Reason.FAILED_PRE_STOP,
        Reason.FAILED_SANDBOX,
        Reason.OOM_KILLING,
        Reason.MONITOR_LOST,
        Reason.DEADLINE_EXCEEDED,
        Reason.EVICTED,
        Reason.RESIZE_DEFERRED,
        Reason.RESIZE_INFEASIBLE,
        Reason.RESIZE_ERROR,
        Reason.FAILED_SCHEDULING,
        Reason.FAILED_CREATE,
        Reason.FAILED_DELETE,
    }
)
"""Reasons of what is not as it should be."""


class Recorder(Protocol):
    """Takes events. Who records one goes on whatever the answer is."""

    def append(self, event: Event) -> bool:
        """Record an event; whether it was."""


def about_pod(uid: str, pod: Pod, container: str = "") -> ObjectReference:
    """Return what an event of a Pod, or of one of its containers, is about."""
    metadata = pod.metadata
    return ObjectReference(
        kind="Pod", namespace=metadata.namespace, name=metadata.name, uid=uid, container=container
    )


def happened(about: ObjectReference, reason: str, message: str, source: str = "pyrun") -> Event:
    """Return an event of this moment; it is a warning when its reason is one."""
    kind = EventType.WARNING if reason in WARNINGS else EventType.NORMAL
    return Event(
        time=now(),
        type=kind,
        reason=str(reason),
        message=message[:MAX_MESSAGE],
        about=about,
        source=source,
    )


class EventLog:
    """The event log of an instance, below its root. `skipped` counts the lines that could not be read."""

    def __init__(self, root: str, max_size: int = MAX_SIZE) -> None:
        self.directory = f"{root}/events"
        self.path = f"{self.directory}/log"
        self.older = f"{self.path}.1"
        self.skipped = 0
        self._max_size = max_size

    def append(self, event: Event, *more: Event) -> bool:
        """Append events in one write; False when the disk does not take them."""
        lines = b"".join(msgspec.json.encode(one) + b"\n" for one in (event, *more))
        try:
            fd = self._open_for_writing()
            try:
                whole = os.write(fd, lines) == len(lines)
                full = os.fstat(fd).st_size >= self._max_size
            finally:
                os.close(fd)
        except OSError:
            return False
        if full:
            with suppress(OSError):
                self._rotate()
        return whole

    def _open_for_writing(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            return os.open(self.path, flags, 0o600)

    def _rotate(self) -> None:
        """Rename a full log, unless somebody is doing that or has done it."""
        lock = acquire(f"{self.directory}/lock", 0)
        if lock is None:
            return
        try:
            if os.stat(self.path).st_size >= self._max_size:
                os.rename(self.path, self.older)
        finally:
            os.close(lock)

    def read(self, since: str | None = None) -> Iterator[Event]:
        """Yield what is recorded, oldest first; `since` is RFC 3339 in UTC with nanoseconds.

        What cannot be read (a line cut off by a full disk or a crash, garbage) is passed over and counted.
        """
        self.skipped = 0
        follower = EventFollower(self, watch=False)
        try:
            for event in follower.read():
                if since is None or event.time >= since:
                    yield event
        finally:
            follower.close()

    def follow(self, since: str | None = None) -> Iterator[tuple[Event, ...]]:
        """Yield what is recorded and then, again and again, what is added; waits in between, for ever."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        follower = EventFollower(self)
        try:
            while True:
                events = tuple(e for e in follower.read() if since is None or e.time >= since)
                if events:
                    yield events
                follower.wait()
        finally:
            follower.close()


class EventFollower:
    """Reads a log from its beginning on, and goes on with what is added, beyond the renaming of the file.

    `fileno` is readable when there may be something new: inotify(7).
    """

    def __init__(self, log: EventLog, *, watch: bool = True) -> None:
        self._log = log
        self._inotify = -1
        self._files: list[_File] = []
        if watch:
            self._inotify = syscalls.inotify_init1(syscalls.IN_NONBLOCK)
            syscalls.inotify_add_watch(self._inotify, log.directory, _CHANGES)

    def fileno(self) -> int:
        """The inotify descriptor."""
        return self._inotify

    def close(self) -> None:
        """Close all files; a line that has no end has been cut off."""
        while self._files:
            self._forget(self._files.pop())
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1

    def wait(self, timeout: float | None = None) -> None:
        """Wait until something may have been added, `timeout` seconds at most."""
        poller = select.poll()
        poller.register(self._inotify, select.POLLIN)
        poller.poll(None if timeout is None else timeout * 1000)
        with suppress(BlockingIOError):
            while os.read(self._inotify, 1 << 16):
                pass

    def read(self) -> Iterator[Event]:
        """Yield what was added since the last call.

        Of a file that was renamed the end is read too: who had opened it before may write to it after that.
        """
        known = {file.inode for file in self._files}
        new = self._pair()
        self._files[:0] = [file for file in new if file.inode not in known]
        for file in new:
            if file.inode in known:
                os.close(file.fd)
        # A third file is one whose place has been taken twice since: nobody writes to it any more.
        for file in reversed(self._files):
            yield from self._events(file)
        while len(self._files) > 2:
            self._forget(self._files.pop())

    def _forget(self, file: _File) -> None:
        os.close(file.fd)
        self._log.skipped += bool(file.rest)

    def _pair(self) -> list[_File]:
        """Open the log and its predecessor, the newest first; they are those of one moment."""
        while True:
            first, second = _open(self._log.path), _open(self._log.older)
            found = [file for file in (first, second) if file is not None]
            try:
                present = os.stat(self._log.path).st_ino
            except FileNotFoundError:
                present = 0
            # While it is open its inode belongs to no other file: the same one means that nothing was renamed.
            if present == (0 if first is None else first.inode):
                return found
            for file in found:
                os.close(file.fd)

    def _events(self, file: _File) -> Iterator[Event]:
        while data := os.read(file.fd, 1 << 16):
            *lines, file.rest = (file.rest + data).split(b"\n")
            for line in lines:
                event = _decode(line)
                if event is not None:
                    yield event
                if event is None or line.rfind(_BEGIN) > 0:
                    self._log.skipped += 1


class _File(msgspec.Struct):
    """A file that is read; `rest` is the beginning of a line whose end has not been written yet."""

    fd: int
    inode: int
    rest: bytes = b""


def _open(path: str) -> _File | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return _File(fd, os.fstat(fd).st_ino)


def _decode(line: bytes) -> Event | None:
    """Return the event of a line, None for what is none; what a cut line left before it is passed over."""
    begin = line.rfind(_BEGIN)
    if begin < 0:
        return None
    try:
        return msgspec.json.decode(line[begin:], type=Event)
    except msgspec.DecodeError:
        return None


class Repeated(msgspec.Struct, frozen=True):
    """An event that happened `count` times in the same words: the last of them, and the time of the first."""

    event: Event
    count: int
    first: str


def aggregate(events: Iterable[Event]) -> tuple[Repeated, ...]:
    """Put together what was said of the same object in the same words; in the order of the last times."""
    found: dict[tuple[ObjectReference, str, str], Repeated] = {}
    for event in events:
        key = (event.about, event.reason, event.message)
        before = found.pop(key, None)
        found[key] = Repeated(
            event, 1 if before is None else before.count + 1, event.time if before is None else before.first
        )
    return tuple(found.values())
