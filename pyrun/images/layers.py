"""One layer from its compressed bytes to a directory of the store, verified on the way.

    parent: read, hash, decompress, hash -> pipe ->  child: chroot, read the tar, write the files
    parent: compare digests, rename the directory into place

The child is a fork that dies with its parent. Everything happens in the command's workspace; the rename is
the last act, so a layer's directory is either complete or not there.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import io
import os
import resource
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn, Protocol

import msgspec
import prctl

from pyrun.errors import ImageError
from pyrun.images import compression, records
from pyrun.images.source import Extent
from pyrun.images.tarstream import LayerStream
from pyrun.images.unpack import Limits, Refused, Unpacked, Unpacker, refusal
from pyrun.images.workspace import Workspace

DEFAULT_SIZE = 64 << 30
RESERVE = 64 << 20
CHILD_MEMORY = 1 << 30
MAX_REPORT = 1 << 16


class LayerBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of an archive: where its bytes are and what they must hash to, where the archive says it.

    `digest` is that of the bytes as they are, `diff_id` that of the uncompressed tar.
    """

    extent: Extent
    digest: str = ""
    diff_id: str = ""

    @property
    def label(self) -> str:
        """How an error names it."""
        digest = self.diff_id or self.digest
        return f"layer {digest[:19]}" if digest else f"layer {os.path.basename(self.extent.path)}"


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def install(space: Workspace, blob: LayerBlob, limits: Limits | None = None) -> records.LayerFacts:
    """Have the layer in the store and pinned by the workspace; unpack it unless it is there already.

    Raises ImageError: damaged, refused, wrong digest, or no space.
    """
    if blob.diff_id:
        with records.locked(space.root):
            present = records.present_layer(space.root, blob.diff_id)
            if present is not None:
                space.pin(present.directory)
                return present
    target = space.fresh("layer")
    os.mkdir(target, 0o755)
    found, diff_id = _unpack(target, blob, limits or _default_limits(target), space.helpers)
    facts = records.LayerFacts(diff_id=diff_id, size=found.size, entries=found.entries, opaque=found.opaque)
    with records.locked(space.root):
        present = records.present_layer(space.root, diff_id)
        if present is None:
            _put_in_place(space, target, facts)
        space.pin(facts.directory)
    return present or facts


def _put_in_place(space: Workspace, target: str, facts: records.LayerFacts) -> None:
    place = records.layer_path(space.root, facts.directory)
    if os.path.lexists(place):  # a directory whose facts are lost is not to be trusted
        os.rename(place, space.fresh("trash"))
    records.replace(records.facts_path(space.root, facts.directory), msgspec.json.encode(facts), space.path)
    os.rename(target, place)


def _default_limits(path: str) -> Limits:
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    return Limits(size=max(0, min(DEFAULT_SIZE, free - RESERVE)))


def _unpack(target: str, blob: LayerBlob, limits: Limits, helpers: int) -> tuple[Unpacked, str]:
    """Run the child over the layer's bytes; return its report and the digest of the uncompressed tar."""
    algorithm = blob.diff_id.partition(":")[0] or "sha256"
    packed = hashlib.new(blob.digest.partition(":")[0] or "sha256")
    unpacked = hashlib.new(algorithm)
    total = 0
    with _Child(target, limits, helpers=helpers, marker=not blob.diff_id) as child:
        try:
            for chunk in compression.plain(_hashing(blob.extent.chunks(), packed)):
                total += len(chunk)
                if total > limits.size:
                    raise _too_big(target, limits)
                unpacked.update(chunk)
                if not child.feed(chunk):
                    break
            report = child.report()
        except ImageError as error:
            _blame(blob)
            raise ImageError(f"{blob.label}: {error}", hint=error.hint) from error
    if isinstance(report, Refused):
        if not report.errno:
            _blame(blob)
        raise _refused(blob, target, report)
    _compare(blob, blob.digest, packed, "the bytes")
    diff_id = f"{algorithm}:{unpacked.hexdigest()}"
    _compare(blob, blob.diff_id, unpacked, "the uncompressed tar")
    return report, diff_id


def _hashing(chunks: Iterator[bytes], digest: _Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _blame(blob: LayerBlob) -> None:
    """Raise the error about the digest when damage is only its consequence."""
    if blob.digest:
        digest = hashlib.new(blob.digest.partition(":")[0])
        for _ in _hashing(blob.extent.chunks(), digest):
            pass
        _compare(blob, blob.digest, digest, "the bytes")


def _compare(blob: LayerBlob, expected: str, digest: _Hash, what: str) -> None:
    found = digest.hexdigest()
    if expected and found != expected.partition(":")[2]:
        raise ImageError(
            f"{blob.label}: wrong digest: {what} should be {expected} and are {found}",
            hint="the archive is damaged or was tampered with",
        )


def _too_big(target: str, limits: Limits) -> ImageError:
    status = os.statvfs(target)
    free = status.f_bavail * status.f_frsize
    if limits.size < DEFAULT_SIZE and free < limits.size + 2 * RESERVE:
        return ImageError(
            f"more than {limits.size} bytes, and the file system of the image store has no space for it",
            hint="free some space, or give another --root",
        )
    return ImageError(f"more than {limits.size} bytes when unpacked, the limit for one layer")


def _refused(blob: LayerBlob, target: str, report: Refused) -> ImageError:
    hint = None
    if report.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = (
            f"free some space or some inodes on the file system of {os.path.dirname(os.path.dirname(target))}"
        )
    elif report.errno == errno.EPERM:
        hint = "run as root"
    elif report.errno == errno.EOPNOTSUPP:
        hint = "the file system of the image store does not support this"
    verb = "cannot be unpacked:" if report.errno else "is refused: it has"
    return ImageError(f"{blob.label} {verb} {report.reason}", hint=hint)


class _Child:
    """The unpacking process: fed through one pipe, reporting through another, killed when not finished."""

    def __init__(self, target: str, limits: Limits, *, helpers: int, marker: bool) -> None:
        data_in, self._data = os.pipe()
        self._report, report_out = os.pipe()
        self._theirs: tuple[int, ...] = (data_in, report_out)
        self._target = target
        self._limits = limits
        self._helpers = helpers
        self._marker = marker
        self.pid = 0

    def __enter__(self) -> _Child:
        # An interrupt between fork and here would leave a child that nobody kills.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            parent = os.getpid()
            self.pid = os.fork()
            if self.pid == 0:
                descriptors = (*self._theirs, self._helpers)
                _child_main(self._target, self._limits, descriptors, marker=self._marker, parent=parent)
            while self._theirs:
                os.close(self._theirs[0])
                self._theirs = self._theirs[1:]
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            self.__exit__()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close_data()
        for fd in (self._report, *self._theirs):
            os.close(fd)
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def feed(self, chunk: bytes) -> bool:
        """Hand bytes to the child; False when it has given up, and its report tells why."""
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._data, view) :]
        except BrokenPipeError:
            return False
        return True

    def report(self) -> Unpacked | Refused:
        """End the stream and wait for the child's word. Raises ImageError when it died without one."""
        self._close_data()
        record = b""
        while len(record) < MAX_REPORT and (data := os.read(self._report, MAX_REPORT)):
            record += data
        status = self._wait()
        try:
            return msgspec.json.decode(record, type=Unpacked | Refused)
        except msgspec.MsgspecError:
            raise ImageError(f"the unpacking process died with wait status {status}") from None

    def _wait(self) -> int:
        status = os.waitpid(self.pid, 0)[1]
        self.pid = 0
        return status

    def _close_data(self) -> None:
        if self._data >= 0:
            os.close(self._data)
            self._data = -1


def _child_main(
    target: str, limits: Limits, descriptors: tuple[int, ...], *, marker: bool, parent: int
) -> NoReturn:
    """The whole life of the child; never returns."""
    data, report, _helpers = descriptors
    record: Unpacked | Refused
    try:
        _enter(target, keep=descriptors, parent=parent)
        stream = LayerStream(io.BufferedReader(io.FileIO(data), compression.CHUNK))
        record = Unpacker(stream, limits).run(marker=marker)
    except BaseException as error:
        record = refusal(error)
    with contextlib.suppress(BaseException):
        os.write(report, msgspec.json.encode(record)[:MAX_REPORT])
    os._exit(0)


def _enter(target: str, keep: tuple[int, ...], parent: int) -> None:
    """Make the layer's directory the root, and leave nothing behind that leads out of it."""
    prctl.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # Ctrl-C reaches the whole group: the parent decides, and kills.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.disable()
    # The lock of helpers stays open: nobody may collect the workspace while this process writes.
    first = 0
    for fd in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        os.closerange(first, fd)
        first = fd + 1
    os.umask(0)
    os.chdir(target)
    os.chroot(".")
    _forbid_imports()
    resource.setrlimit(resource.RLIMIT_DATA, (CHILD_MEMORY, CHILD_MEMORY))


def _forbid_imports() -> None:
    """After chroot the search path leads into the layer: an import would run the layer's code."""
    sys.meta_path.clear()
    sys.path.clear()
