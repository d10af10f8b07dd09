"""The log of one container: records of the CRI log format, read over the files of its rotation.

The monitor writes `NAME` and renames it to `NAME.1` when it is full, that to `NAME.2`, and so on. One line of
the file is one record, `TIME STREAM TAG TEXT`: with tag F the container has written the text and a newline,
with tag P the text alone, and the line goes on in the stream's next record. Source: kubernetes/cri-api,
csrc/README.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from pyrun.process.control import Stream
from pyrun.state.files import list_directory

BLOCK = 1 << 17
LOOK_BACK = 1 << 20
"""Bytes that are searched for the beginning of a line other lines have been written into."""

_STREAMS = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}
_MORE_NUMBERS = 2  # rotations that may happen while the files are opened

Position = tuple[int, int]
"""Index of a file, oldest first, and offset in it."""


class Record(NamedTuple):
    """What the container wrote, byte for byte, and when (RFC 3339, 30 characters); `whole` ends a line."""

    time: bytes
    stream: Stream
    whole: bool
    data: bytes


def parse(line: bytes) -> Record:
    """Return the record in a line without its newline; a line of no known form is given out on stderr."""
    fields = line.split(b" ", 3)
    if len(fields) == 4 and fields[1] in _STREAMS and fields[2][:1] in (b"F", b"P"):
        whole = fields[2][:1] == b"F"
        return Record(fields[0], _STREAMS[fields[1]], whole, fields[3] + b"\n" if whole else fields[3])
    return Record(b"", Stream.STDERR, True, line + b"\n")


class LogFiles:
    """Reads one log forward: what is there, and later what has come since, across rotations."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = _open_all(path)
        self._index = 0
        self._offset = 0
        self._starts: dict[Stream, Position] = {}

    def close(self) -> None:
        """Close every file."""
        while self._files:
            os.close(self._files.pop())

    def skip_to_tail(self, lines: int) -> None:
        """Begin with the last `lines` lines, of both streams together; reads only as far back as needed."""
        if not self._files:
            return
        end = (len(self._files) - 1, os.fstat(self._files[-1]).st_size)
        starts = {Stream.STDOUT: end, Stream.STDERR: end}
        unsettled: set[Stream] = set()  # streams whose first line shown may begin further back
        settled: set[Stream] = set()
        looked = 0
        for position, record in self._backwards():
            stream = record.stream
            looked += len(record.data) if settled else 0
            if stream in settled and looked <= LOOK_BACK:
                continue
            if stream in settled:
                break
            if record.whole or stream not in unsettled:
                if lines == 0:
                    settled.add(stream)
                    unsettled.discard(stream)
                else:
                    lines -= 1
            if stream not in settled:
                unsettled.add(stream)
                starts[stream] = position
            if settled and not unsettled:
                break
        self._starts = starts
        first, self._offset = min(starts.values())
        for _ in range(first):
            self._next_file(self._offset)

    def read(self) -> Iterator[Record]:
        """Yield the records that are there now; call it again for what has come since."""
        if not self._files:
            self._files = _open_all(self._path)
        while self._files:
            yield from self._read_file(self._files[0])
            if len(self._files) == 1:
                if not self._rotated():
                    return
                # What was written between our reading and the renaming.
                yield from self._read_file(self._files[0])
                self._files += self._following()
                if len(self._files) == 1:
                    return
            self._next_file(0)

    def _next_file(self, offset: int) -> None:
        os.close(self._files.pop(0))
        self._index += 1
        self._offset = offset

    def _read_file(self, file: int) -> Iterator[Record]:
        """Yield what is behind the offset. It only moves past whole lines: half a line may still be cut off."""
        size = BLOCK
        while True:
            block = os.pread(file, size, self._offset)
            lines = block.split(b"\n")
            if len(lines) == 1:
                if len(block) < size:
                    return
                size *= 2
                continue
            for line in lines[:-1]:
                position = (self._index, self._offset)
                self._offset += len(line) + 1
                record = parse(line)
                if position >= self._starts.get(record.stream, position):
                    yield record

    def _rotated(self) -> bool:
        try:
            return os.stat(self._path).st_ino != os.fstat(self._files[0]).st_ino
        except FileNotFoundError:  # just now being renamed, or the Pod has been removed
            return False

    def _following(self) -> list[int]:
        """Return the files that were begun after the present one; all there are if that is gone already."""
        files = _open_all(self._path)
        inodes = [os.fstat(file).st_ino for file in files]
        own = os.fstat(self._files[0]).st_ino
        count = inodes.index(own) + 1 if own in inodes else 0
        for file in files[:count]:
            os.close(file)
        return files[count:]

    def _backwards(self) -> Iterator[tuple[Position, Record]]:
        for index in reversed(range(len(self._files))):
            for offset, line in _lines_backwards(self._files[index]):
                yield (index, offset), parse(line)


def _lines_backwards(file: int) -> Iterator[tuple[int, bytes]]:
    """Yield offset and text of each line that is ended by a newline, last first."""
    position = os.fstat(file).st_size
    rest: list[bytes] = []  # what follows the first newline seen so far belongs to a line begun before it
    complete = False
    while position > 0:
        size = min(BLOCK, position)
        position -= size
        block = os.pread(file, size, position)
        first, newline, others = block.partition(b"\n")
        if not newline:
            rest.insert(0, block)
            continue
        lines = (others + b"".join(rest)).split(b"\n")
        end = position + len(block) + sum(map(len, rest))
        if not complete:  # half a line, still being written
            end -= len(lines.pop()) + 1
            complete = True
        for line in reversed(lines):
            yield end - len(line), line
            end -= len(line) + 1
        rest = [first]
    if complete:
        yield 0, b"".join(rest)


def _open_all(path: str) -> list[int]:
    """Return descriptors of all files of a log, oldest first; none when it does not exist.

    Looked for from the newest on: rotation only ever moves a file to a higher number, so none is missed, and
    one that is met twice is known by its inode.
    """
    directory, _, name = path.rpartition("/")
    endings = [entry[len(name) + 1 :] for entry in list_directory(directory) if entry.startswith(f"{name}.")]
    last = max((int(ending) for ending in endings if ending.isdecimal()), default=0)
    found: dict[int, int] = {}
    for number in range(last + _MORE_NUMBERS + 1):
        try:
            file = os.open(f"{path}.{number}" if number else path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        inode = os.fstat(file).st_ino
        if inode in found:
            os.close(file)
        else:
            found[inode] = file
    return list(reversed(found.values()))
