"""Where the files of an image archive lie: in a directory, or at an offset of a tar archive.

Nothing is copied: a file of an archive is an extent of the archive's own file. Only an archive that is
itself compressed, or comes through a pipe, is written to the workspace first.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from typing import Protocol

import msgspec

from pyrun.errors import ImageError
from pyrun.images import compression

MAX_DOCUMENT = 16 << 20
MAX_MEMBERS = 100_000
MAX_LINKS = 8


class Extent(msgspec.Struct, frozen=True):
    """Bytes of a file on disk: `size` of them at `offset`."""

    path: str
    offset: int
    size: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in order. Raises ImageError when the file ends too early."""
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            left = self.size
            while left:
                data = file.read(min(left, compression.CHUNK))
                if not data:
                    raise ImageError(f"{self.path} is truncated: {left} bytes are missing")
                left -= len(data)
                yield data

    def document(self) -> bytes:
        """Return all bytes of a small file. Raises ImageError above MAX_DOCUMENT."""
        if self.size > MAX_DOCUMENT:
            raise ImageError(f"{self.path}: a document of {self.size} bytes, more than {MAX_DOCUMENT}")
        return b"".join(self.chunks())


class Source(Protocol):
    """The files of an image archive by their names inside it."""

    path: str

    def find(self, name: str) -> Extent | None:
        """Return where the file `name` lies, None when there is no such regular file."""


class Directory:
    """An OCI image layout (or skopeo's dir: layout) in a directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def find(self, name: str) -> Extent | None:
        path = os.path.join(self.path, name)
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return Extent(path, 0, status.st_size) if stat.S_ISREG(status.st_mode) else None


class Archive:
    """An uncompressed tar archive of such a directory; its table of contents is read once."""

    def __init__(self, path: str, name: str) -> None:
        self.path = name
        self._files: dict[str, Extent] = {}
        self._links: dict[str, str] = {}
        try:
            with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
                self._read(path, tar)
        except (tarfile.TarError, RecursionError, ValueError) as error:
            raise ImageError(f"{name} is not a tar archive: {error}") from error

    def _read(self, path: str, tar: tarfile.TarFile) -> None:
        end = os.stat(path).st_size
        while (member := tar.next()) is not None:
            name = posixpath.normpath(member.name)
            if len(self._files) + len(self._links) > MAX_MEMBERS:
                raise ImageError(f"{self.path}: more than {MAX_MEMBERS} files")
            if member.isreg() and member.sparse is None:
                if member.offset_data + member.size > end:
                    raise ImageError(f"{self.path} is truncated in {name!r}")
                self._files[name] = Extent(path, member.offset_data, member.size)
            elif member.issym():
                self._links[name] = posixpath.normpath(
                    posixpath.join(posixpath.dirname(name), member.linkname)
                )
            elif member.islnk():
                self._links[name] = posixpath.normpath(member.linkname)

    def find(self, name: str) -> Extent | None:
        # docker save writes a layer that occurs twice as a link to the first.
        for _ in range(MAX_LINKS):
            if name not in self._links:
                break
            name = self._links[name]
        return self._files.get(name)


def open_source(path: str, scratch: str) -> Source:
    """Open an archive or a directory; `scratch` is a path to write to when it cannot be read in place.

    Raises ImageError when it does not exist or is not readable as a tar archive.
    """
    try:
        if os.path.isdir(path):
            return Directory(path)
        with open(path, "rb", buffering=0) as file:
            in_place = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            if in_place:
                head = file.read(compression.MAGIC)
                in_place = not compression.compressed(head)
                file.seek(0)
            if in_place:
                return Archive(path, path)
            _spool(iter(lambda: file.read(compression.CHUNK), b""), scratch)
            return Archive(scratch, path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error


def _spool(chunks: Iterator[bytes], scratch: str) -> None:
    with open(scratch, "wb", buffering=0) as file:
        for chunk in compression.plain(chunks):
            file.write(chunk)
