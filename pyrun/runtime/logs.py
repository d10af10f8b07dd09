"""What containers have written: the whole of it, its end, or what comes from now on."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from pyrun.errors import Conflict, InputError, NotFound
from pyrun.kernel import syscalls
from pyrun.kernel.proc import has_ended
from pyrun.process.control import Stream
from pyrun.runtime.clock import parse_rfc3339, rfc3339
from pyrun.runtime.logfiles import LogFiles, Record
from pyrun.runtime.pods import PodDirectory, require_pod
from pyrun.spec.annotations import parse_offset
from pyrun.state.files import list_directory

_CHANGES = syscalls.IN_MODIFY | syscalls.IN_CREATE | syscalls.IN_MOVED_FROM
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is read. `tail` is lines, None for all; `since` nanoseconds since 1970, None for the beginning."""

    follow: bool = False
    previous: bool = False
    tail: int | None = None
    since: int | None = None


class Piece(NamedTuple):
    """A line of a container, or a part of one; `begins` says that it is the beginning of a line."""

    time: bytes
    container: str
    stream: Stream
    begins: bool
    data: bytes


def containers_of(pod: PodDirectory, name: str | None, everything: bool) -> tuple[str, ...]:
    """Return the containers meant: the one named, all, or the only one. Raises InputError, NotFound."""
    manifest = require_pod(pod)
    names = tuple(container.name for container in manifest.spec.all_containers())
    title = manifest.metadata.name
    if everything:
        return names
    if name is None and len(names) > 1:
        raise InputError(
            f"Pod {title} has {len(names)} containers: {', '.join(names)}",
            hint="say which with -c NAME, or give --all-containers",
        )
    if name is not None and name not in names:
        raise NotFound(f'Pod {title} has no container "{name}"', hint=f"it has {', '.join(names)}")
    return names if name is None else (name,)


def read_logs(
    pod: PodDirectory, containers: Sequence[str], options: LogOptions, *, merged: bool
) -> Iterator[Iterator[Piece]]:
    """Yield what the containers have written; with `follow` again and again, until all of them have ended.

    Each item holds what is there now and must be consumed before the next, which may be waited for. Not
    `merged` (one container): pieces as they were written, an unterminated line too. `merged`: whole lines in
    the order of their times, each ended by a newline. Raises Conflict, NotFound, StateError.
    """
    sources: list[_Source] = []
    watch: _Watch | None = None
    try:
        for name in containers:
            sources.append(_Source(pod, name, options))
        if options.follow:
            watch = _Watch(sources)
        while True:
            # Asked first: what a container writes before its end is then read, the monitor sees to that.
            ended = [not options.follow or source.ended() for source in sources]
            if merged:
                from heapq import merge

                lines = [source.lines(final) for source, final in zip(sources, ended, strict=True)]
                yield merge(*lines, key=lambda piece: piece.time)
            else:
                yield sources[0].pieces()
            if watch is None or all(ended):
                return
            watch.wait([source for source, end in zip(sources, ended, strict=True) if not end])
    finally:
        for source in sources:
            source.close()
        if watch is not None:
            watch.close()


def parse_since(text: str, now: int) -> int:
    """Return the time that a duration before `now` (`10s`, `1h30m`) or an RFC 3339 time means.

    Times are nanoseconds since 1970. Raises InputError.
    """
    try:
        if match := _RFC3339.fullmatch(text.upper()):
            seconds = int(parse_rfc3339(match[1] + match[3]))
            return seconds * 10**9 + int((match[2] or "0").ljust(9, "0"))
        ago = parse_offset(text)
    except ValueError:
        ago = -1
    if ago < 0:
        raise InputError(
            f'"{text}" is neither a duration nor a time', hint="write 10s, 1h30m or 2026-01-31T10:00:00Z"
        )
    return now - ago


class _Source:
    """The log of one container, and the monitor that writes it."""

    def __init__(self, pod: PodDirectory, container: str, options: LogOptions) -> None:
        self.container = container
        number = _attempt(pod, container, options.previous)
        self.directory = pod.layout.logs(pod.uid, container)
        record = pod.container((container, number))
        self.monitor = record.monitor.open() if record is not None else None
        self._log = LogFiles(f"{self.directory}/{number}.log")
        if options.tail is not None:
            self._log.skip_to_tail(options.tail)
        self._since = b"" if options.since is None else rfc3339(max(options.since, 0)).encode()
        self._shown = dict.fromkeys(Stream, True)  # whether the line a stream is in shall be shown
        self._inside = dict.fromkeys(Stream, False)
        self._held: dict[Stream, list[Piece]] = {stream: [] for stream in Stream}

    def close(self) -> None:
        """Close log and pidfd."""
        self._log.close()
        if self.monitor is not None:
            os.close(self.monitor)
            self.monitor = None

    def ended(self) -> bool:
        """Whether nobody writes this log any more."""
        return self.monitor is None or has_ended(self.monitor)

    def pieces(self) -> Iterator[Piece]:
        """Yield what is there now, as it was written."""
        for record in self._log.read():
            begins = not self._inside[record.stream]
            if begins:
                self._shown[record.stream] = self._is_recent(record)
            self._inside[record.stream] = not record.whole
            if self._shown[record.stream]:
                yield Piece(record.time, self.container, record.stream, begins, record.data)

    def _is_recent(self, record: Record) -> bool:
        return not record.time or record.time >= self._since

    def lines(self, final: bool) -> Iterator[Piece]:
        """Yield the whole lines that are there now; with `final` what is held back of an unended one too."""
        for piece in self.pieces():
            held = self._held[piece.stream]
            held.append(piece)
            if piece.data.endswith(b"\n"):
                yield _joined(held)
        if final:
            for held in self._held.values():
                if held:
                    yield _joined(held)


def _joined(held: list[Piece]) -> Piece:
    """Return the parts of a line as one, and forget them."""
    data = b"".join(piece.data for piece in held)
    line = held[0]._replace(begins=True, data=data if data.endswith(b"\n") else data + b"\n")
    held.clear()
    return line


def _attempt(pod: PodDirectory, container: str, previous: bool) -> int:
    """Return the number of the attempt whose log is meant."""
    latest = pod.latest(container)
    if latest is None:
        raise Conflict(f'container "{container}" has not been created yet', hint="see pyrun pod inspect")
    number = latest[1]
    if not previous:
        return number
    logs = list_directory(pod.layout.logs(pod.uid, container))
    if not any(entry.partition(".")[0] == str(number - 1) for entry in logs):
        raise NotFound(
            f'container "{container}" has no previous attempt', hint="it was never restarted; leave out -p"
        )
    return number - 1


class _Watch:
    """Waits until a log may have grown, or a monitor has ended; inotify(7), pidfd_open(2)."""

    def __init__(self, sources: Sequence[_Source]) -> None:
        self._inotify = syscalls.inotify_init1(syscalls.IN_NONBLOCK)
        for source in sources:
            syscalls.inotify_add_watch(self._inotify, source.directory, _CHANGES)

    def close(self) -> None:
        """Stop watching."""
        os.close(self._inotify)

    def wait(self, writing: Sequence[_Source]) -> None:
        """Return once a log has changed since the last call, or one of those `writing` has ended."""
        poller = select.poll()
        poller.register(self._inotify, select.POLLIN)
        for source in writing:
            if source.monitor is not None:
                poller.register(source.monitor, select.POLLIN)
        poller.poll()
        try:
            while os.read(self._inotify, 1 << 16):
                pass
        except BlockingIOError:
            return
