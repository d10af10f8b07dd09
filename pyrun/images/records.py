"""What the store keeps in small files, how they are replaced, and the lock around every change.

    <root>/lock               flock; held only while files of the store are renamed
    <root>/index.json         names and the list of complete images: its rename is the commit point
    <root>/images/<hex>.json  one image: configuration and layers, by the digest of its configuration
    <root>/blobs/<hex>        the configuration as the image brought it, byte for byte
    <root>/layers/<hex32>     an unpacked layer, an overlay lower directory as it is
    <root>/facts/<hex32>.json what is known of that layer; written before the layer is renamed into place
    <root>/work/<random>/     workspaces of running commands (workspace.py)

Readers take no lock: each file is replaced by rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from pyrun.errors import ImageError
from pyrun.spec.image import Image

FOLDERS = ("images", "blobs", "layers", "facts", "work")

T = TypeVar("T")


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """Which names mean which image (ids in hex), and which images are complete."""

    names: dict[str, str] = {}
    images: tuple[str, ...] = ()


class LayerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An unpacked layer: digest of its uncompressed tar, bytes of its files, and number of entries.

    `opaque` says that it hides everything below it: overlayfs ignores the mark on a layer's own root, so
    the store leaves the layers below out instead.
    """

    diff_id: str
    size: int = 0
    entries: int = 0
    opaque: bool = False

    @property
    def directory(self) -> str:
        """The name of its directory below `layers`."""
        return layer_name(self.diff_id)


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image as stored; `image` has neither names nor the place of the layers, which the reader adds."""

    image: Image
    diff_ids: tuple[str, ...] = ()
    os: str = ""
    architecture: str = ""


def layer_name(diff_id: str) -> str:
    """Return the name of a layer's directory: the first 32 hex digits of its diff_id."""
    return diff_id.partition(":")[2][:32]


def prepare(root: str) -> None:
    """Make the folders of a store; only root may enter, because layers hold setuid programs."""
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        for name in FOLDERS:
            os.makedirs(os.path.join(root, name), mode=0o700, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f"the image store {root} cannot be made: {error.strerror}",
            hint="run as root, or give another --root",
        ) from error


@contextlib.contextmanager
def locked(root: str) -> Iterator[None]:
    """Hold the store's lock; waits for another command's rename, never for its unpacking.

    No interruption comes while it is held: one between the end of the block and the closing of the descriptor
    would leave the lock taken, and whoever then tidies up in this process would wait for himself.
    """
    while True:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
        try:
            fd = os.open(os.path.join(root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if _try_flock(fd):
                    yield
                    return
            finally:
                os.close(fd)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        time.sleep(_LOCK_PAUSE)


_INTERRUPTIONS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_LOCK_PAUSE = 0.005


def _try_flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(path: str, kind: type[T]) -> T | None:
    """Read one record; None when it does not exist. Raises ImageError when it is not what it should be."""
    try:
        with open(path, "rb", buffering=0) as file:
            return msgspec.json.decode(file.read(), type=kind)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}", hint="run as root") from error
    except msgspec.MsgspecError as error:
        raise ImageError(
            f"{path} is damaged: {error}", hint="remove the image store and load again"
        ) from error


def read_index(root: str) -> Index:
    """Return the index; an empty one when the store is new."""
    return read(os.path.join(root, "index.json"), Index) or Index()


def image_path(root: str, digits: str) -> str:
    """Return the path of an image's record."""
    return os.path.join(root, "images", f"{digits}.json")


def facts_path(root: str, layer: str) -> str:
    """Return the path of a layer's facts."""
    return os.path.join(root, "facts", f"{layer}.json")


def layer_path(root: str, layer: str) -> str:
    """Return the path of a layer's directory."""
    return os.path.join(root, "layers", layer)


def replace(path: str, data: bytes, scratch: str) -> None:
    """Write `data` to `path` atomically: a file in the directory `scratch`, fsync, rename."""
    temporary = os.path.join(scratch, os.path.basename(path))
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)


def present_layer(root: str, diff_id: str) -> LayerFacts | None:
    """Return the facts of a layer that is unpacked already; call it with the lock held, then pin it.

    Raises ImageError when another layer has its directory: the first 128 bits of the digests are equal.
    """
    name = layer_name(diff_id)
    facts = read(facts_path(root, name), LayerFacts)
    if facts is None or not os.path.isdir(layer_path(root, name)):
        return None
    if facts.diff_id != diff_id:
        raise ImageError(f"layer {diff_id} has the directory name of another layer, {facts.diff_id}")
    return facts
