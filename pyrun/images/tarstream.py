"""A layer's tar as a stream that only goes forward, and its entries with what tarfile leaves out.

tarfile knows every tar dialect (GNU and PAX long names, big numbers, sparse files). Added here: headers are
never guessed (a bad one ends tarfile's iteration silently), their size is limited, and times keep their
nanoseconds.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Self, cast

from pyrun.images.compression import CHUNK

MAX_HEADER = 1 << 20
_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class DamagedLayer(Exception):
    """The layer is malicious or damaged; the message completes the sentence `the layer has ...`."""


class LayerStream:
    """What tarfile needs of a file object, over a pipe: reading, telling, and skipping forward."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._position = 0
        self.at_end = False

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        if size < 0 or size > MAX_HEADER + 2 * tarfile.BLOCKSIZE:
            raise DamagedLayer(f"a header of {size} bytes")
        data = self._raw.read(size)
        self._position += len(data)
        self.at_end = len(data) < size
        return data

    def tell(self) -> int:
        """Return the offset in the uncompressed tar."""
        return self._position

    def seek(self, position: int) -> None:
        """Go forward to `position`; tarfile asks for nothing else."""
        self.skip_to(position)

    def skip_to(self, position: int) -> None:
        """Read and forget. Raises DamagedLayer for a step back, or when the stream ends before."""
        if position < self._position:
            raise DamagedLayer("headers that point backwards")
        while self._position < position:
            self._position += len(self._some(position - self._position))

    def copy(self, fd: int, size: int) -> None:
        """Write the next `size` bytes to a descriptor."""
        while size:
            data = self._some(size)
            self._position += len(data)
            size -= len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

    def drain(self) -> None:
        """Read the stream to its end; what follows the end marker is padding."""
        while self._raw.read(CHUNK):
            pass

    def _some(self, size: int) -> bytes:
        data = self._raw.read(min(size, CHUNK))
        if not data:
            raise DamagedLayer("truncated data")
        return data


class LayerEntry(tarfile.TarInfo):
    """One entry of a layer."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Read the next header. A damaged one raises DamagedLayer; tarfile would take it for the end."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ in ("InvalidHeaderError", "TruncatedHeaderError"):
                raise DamagedLayer(f"a damaged header at byte {tarfile_.offset}: {error}") from error
            raise

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        # The entry point that tarfile documents for subclasses; called for every header, extended ones too.
        if self.size < 0:
            raise DamagedLayer(f"the size {self.size}")
        if self.type in _EXTENDED and self.size > MAX_HEADER:
            raise DamagedLayer(f"an extended header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]

    @property
    def mtime_ns(self) -> int:
        """The time of modification in nanoseconds; PAX gives it as a decimal fraction."""
        text = self.pax_headers.get("mtime", "")
        match = re.fullmatch(r"(-?)([0-9]{1,12})(?:\.([0-9]*))?", text)
        if match is None:
            seconds = int(self.mtime)
            if not abs(seconds) < 1 << 33:
                raise DamagedLayer(f"the time {self.mtime}")
            return seconds * 10**9
        sign, whole, fraction = match.groups()
        value = int(whole) * 10**9 + int(((fraction or "") + "0" * 9)[:9])
        return -value if sign else value

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield (offset, size) of the data in the file, in order; a file without holes is one."""
        if self.sparse is None:
            yield 0, self.size
            return
        for offset, size in cast("list[tuple[int, int]]", self.sparse):
            if offset < 0 or size < 0 or offset + size > self.size:
                raise DamagedLayer(f"a sparse map beyond the end of {self.name!r}")
            if size:
                yield offset, size
