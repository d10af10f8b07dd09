"""The child that unpacks one layer: reads its tar from a pipe, with the layer's directory as its root.

It has chroot'ed into the new directory before the first header is read, so a path can mean nothing outside
of it. Beside that wall every path is checked: a layer with an absolute path, a `..`, a parent that is a
symbolic link, or a device that is not harmless is refused as a whole, never repaired.
Sources: OCI image specification, layer.md (whiteouts, attributes); overlayfs documentation of the kernel
(whiteouts are character devices 0:0, opaque directories carry trusted.overlay.opaque=y).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from typing import BinaryIO, cast

import msgspec

from pyrun.images.tarstream import DamagedLayer, LayerEntry, LayerStream

WHITEOUT = b".wh."
WHITEOUT_META = b".wh..wh."
OPAQUE = b".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
XATTR_PREFIX = "SCHILY.xattr."
# Labels of the machine that built the layer (security.selinux) and overlayfs's own marks are not content.
KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
DROPPED_XATTRS = ("user.overlay.",)
MAX_ID = 2**32 - 2
HARMLESS_DEVICES = frozenset(
    {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}
)  # null zero full random urandom tty console ptmx


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a layer may be: bytes of its uncompressed tar, entries, bytes of a path, parts of a path."""

    size: int
    entries: int = 2_000_000
    path: int = 3000
    depth: int = 200


class Unpacked(msgspec.Struct, frozen=True, kw_only=True, tag="unpacked"):
    """What the child reports at the end: bytes of file data, entries, and whether the root is opaque."""

    size: int
    entries: int
    opaque: bool


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Why the child gave up; `errno` is 0 when the layer itself is at fault."""

    reason: str
    errno: int = 0


class Unpacker:
    """Writes the entries of one layer below `/`, the child's root."""

    def __init__(self, stream: LayerStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._entries = 0
        self._size = 0
        self._opaque = False
        # Directories known to be real ones, so that their parents need no second look.
        self._directories = {b""}
        self._whiteouts: set[bytes] = set()
        # A directory changes while it is filled, and a default ACL would pass to its files: applied last.
        self._late: dict[bytes, LayerEntry] = {}

    def run(self, *, marker: bool) -> Unpacked:
        """Unpack everything. `marker` demands the two zero blocks at the end, when no digest tells a cut."""
        stream = cast(BinaryIO, self._stream)
        with tarfile.TarFile(
            fileobj=stream, tarinfo=LayerEntry, encoding="utf-8", errors="surrogateescape"
        ) as tar:
            while (entry := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # or it would remember all of them
                self._entries += 1
                if self._entries > self._limits.entries:
                    raise DamagedLayer(f"more than {self._limits.entries} entries")
                assert isinstance(entry, LayerEntry)
                self._entry(entry)
                self._stream.skip_to(tar.offset)
        if marker and self._stream.at_end:
            raise DamagedLayer("truncated: the end marker is missing")
        self._stream.drain()
        for path, entry in self._late.items():
            self._xattrs(path, entry)
            os.utime(b"/" + path, ns=(entry.mtime_ns, entry.mtime_ns))
        return Unpacked(size=self._size, entries=self._entries, opaque=self._opaque)

    def _entry(self, entry: LayerEntry) -> None:
        path = self._clean(entry.name)
        if not path:
            if not entry.isdir():
                raise DamagedLayer("the root of the layer is not a directory")
            self._attributes(path, entry)
            self._late[path] = entry
            return
        parent, _, name = path.rpartition(b"/")
        self._way_to(parent)
        if name.startswith(WHITEOUT):
            self._whiteout(parent, name)
        elif entry.isdir():
            self._directory(path, entry)
        elif entry.isreg():
            self._file(path, entry)
        elif entry.islnk():
            target = self._clean(entry.linkname)
            self._way_to(target.rpartition(b"/")[0], make=False)
            self._make(path, lambda: os.link(b"/" + target, b"/" + path, follow_symlinks=False))
        else:
            self._special(path, entry)

    def _clean(self, name: str) -> bytes:
        """Return the path without `.` and doubled slashes; refuse what could point out of the layer."""
        raw = name.encode("utf-8", "surrogateescape")
        if raw.startswith(b"/"):
            raise DamagedLayer(f"the absolute path {name!r}")
        parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise DamagedLayer(f"the path {name!r} with ..")
        if b"\0" in raw:
            raise DamagedLayer(f"the path {name!r} with a null byte")
        if len(raw) > self._limits.path or len(parts) > self._limits.depth:
            raise DamagedLayer(f"a path of {len(raw)} bytes and {len(parts)} parts, which is too long")
        return b"/".join(parts)

    def _way_to(self, parent: bytes, *, make: bool = True) -> None:
        """Make sure that every part of `parent` is a real directory; missing ones are made, mode 0755."""
        if parent in self._directories:
            return
        upper = parent.rpartition(b"/")[0]
        self._way_to(upper, make=make)
        try:
            mode = os.lstat(b"/" + parent).st_mode
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(b"/" + parent, 0o755)
        else:
            if parent in self._whiteouts and make:
                self._replace_whiteout(parent)
            elif stat.S_ISLNK(mode):
                raise DamagedLayer(f"a path through the symbolic link {_shown(parent)}")
            elif not stat.S_ISDIR(mode):
                raise DamagedLayer(f"a path through {_shown(parent)}, which is not a directory")
        self._directories.add(parent)

    def _replace_whiteout(self, path: bytes) -> None:
        """Put a directory where this layer hides the one below: opaque, so that it stays hidden."""
        self._whiteouts.discard(path)
        os.unlink(b"/" + path)
        os.mkdir(b"/" + path, 0o755)
        os.setxattr(b"/" + path, OPAQUE_XATTR, b"y")

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        if name == OPAQUE:
            self._opaque = self._opaque or not parent
            os.setxattr(b"/" + parent, OPAQUE_XATTR, b"y")
            return
        if name.startswith(WHITEOUT_META):
            return  # aufs's own bookkeeping
        hidden = name.removeprefix(WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise DamagedLayer(f"the whiteout {_shown(name)} of nothing")
        path = parent + b"/" + hidden if parent else hidden
        try:
            os.mknod(b"/" + path, stat.S_IFCHR, os.makedev(0, 0))
            self._whiteouts.add(path)
        except FileExistsError:
            # A whiteout hides what lower layers have; this layer's own entry stays, and hides it alone.
            if path not in self._whiteouts and stat.S_ISDIR(os.lstat(b"/" + path).st_mode):
                os.setxattr(b"/" + path, OPAQUE_XATTR, b"y")

    def _make(self, path: bytes, make: Callable[[], object]) -> None:
        """Make something new; an earlier entry of this name gives way, because the last one counts."""
        try:
            make()
        except FileExistsError:
            self._remove(path)
            make()

    def _remove(self, path: bytes) -> None:
        self._whiteouts.discard(path)
        self._late.pop(path, None)
        if not stat.S_ISDIR(os.lstat(b"/" + path).st_mode):
            os.unlink(b"/" + path)
            return
        shutil.rmtree(b"/" + path)
        below = path + b"/"
        self._directories = {d for d in self._directories if d != path and not d.startswith(below)}
        self._whiteouts = {w for w in self._whiteouts if not w.startswith(below)}
        self._late = {d: entry for d, entry in self._late.items() if not d.startswith(below)}

    def _directory(self, path: bytes, entry: LayerEntry) -> None:
        if path not in self._directories:
            try:
                os.mkdir(b"/" + path, 0o700)
            except FileExistsError:
                if path in self._whiteouts:
                    self._replace_whiteout(path)
                elif not stat.S_ISDIR(os.lstat(b"/" + path).st_mode):
                    self._remove(path)
                    os.mkdir(b"/" + path, 0o700)
            self._directories.add(path)
        self._attributes(path, entry)
        self._late.pop(path, None)
        self._late[path] = entry

    def _file(self, path: bytes, entry: LayerEntry) -> None:
        descriptors: list[int] = []
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._make(path, lambda: descriptors.append(os.open(b"/" + path, flags, 0o600)))
        fd = descriptors[0]
        try:
            self._stream.skip_to(entry.offset_data)
            for offset, size in entry.extents():
                os.lseek(fd, offset, os.SEEK_SET)
                self._stream.copy(fd, size)
                self._size += size
            if entry.sparse is not None:
                os.ftruncate(fd, entry.size)
            # The owner first: chown takes the setuid bit and the file capability away.
            os.fchown(fd, _owner(entry.uid), _owner(entry.gid))
            os.fchmod(fd, entry.mode & 0o7777)
            self._xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _special(self, path: bytes, entry: LayerEntry) -> None:
        if entry.issym():
            target = entry.linkname.encode("utf-8", "surrogateescape")
            self._make(path, lambda: os.symlink(target, b"/" + path))
        elif entry.isfifo():
            self._make(path, lambda: os.mkfifo(b"/" + path, 0o600))
        elif entry.ischr() and (entry.devmajor, entry.devminor) in HARMLESS_DEVICES:
            device = os.makedev(entry.devmajor, entry.devminor)
            self._make(path, lambda: os.mknod(b"/" + path, stat.S_IFCHR | 0o600, device))
        elif entry.isdev():
            kind = "block" if entry.isblk() else "character"
            raise DamagedLayer(
                f"the {kind} device {entry.devmajor}:{entry.devminor} at {_shown(path)}, which is not allowed"
            )
        else:
            raise DamagedLayer(f"an entry of the unknown type {entry.type!r} at {_shown(path)}")
        self._attributes(path, entry, xattrs=True)
        os.utime(b"/" + path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _attributes(self, path: bytes, entry: LayerEntry, *, xattrs: bool = False) -> None:
        full = b"/" + path
        os.chown(full, _owner(entry.uid), _owner(entry.gid), follow_symlinks=False)
        if not entry.issym():
            os.chmod(full, entry.mode & 0o7777)
        if xattrs:
            self._xattrs(path, entry)

    def _xattrs(self, target: bytes | int, entry: LayerEntry) -> None:
        for key, text in entry.pax_headers.items():
            name = key.removeprefix(XATTR_PREFIX)
            if name == key or not name.startswith(KEPT_XATTRS) or name.startswith(DROPPED_XATTRS):
                continue
            value = text.encode("utf-8", "surrogateescape")
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, value)
                else:
                    os.setxattr(b"/" + target, name, value, follow_symlinks=False)
            except OSError as error:
                raise OSError(error.errno, f"setxattr {name}: {error.strerror}", entry.name) from error


def _owner(number: int) -> int:
    if not 0 <= number <= MAX_ID:
        raise DamagedLayer(f"the owner {number}, which is not a user or group id")
    return number


def _shown(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace"))


def refusal(error: BaseException) -> Refused:
    """Turn what stopped the child into its report."""
    if isinstance(error, DamagedLayer):
        return Refused(reason=str(error))
    if isinstance(error, tarfile.TarError):
        return Refused(reason=f"damaged headers: {error}")
    if isinstance(error, OSError):
        name = error.filename
        shown = _shown(name) if isinstance(name, bytes) else repr(name) if name is not None else "a file"
        return Refused(reason=f"{shown}: {error.strerror}", errno=error.errno or errno.EIO)
    return Refused(reason=f"damaged headers: {type(error).__name__} {error}")
