"""A command's own directory in the store, and the collection of what a killed command has left.

A workspace is `<root>/work/<random>`, locked by flock on the directory itself for as long as the command
lives. Everything is made there and renamed into place when it is complete, so that a command killed at any
moment leaves only its workspace, whose lock is free: the next command removes it. Processes of the command
that write there die with it, but a moment later: they hold the lock of the file `helpers`, and whoever
collects waits for it. `pins/<layer>` names the layers the command relies on before an image record names
them, so that no other command collects them as unused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from pyrun.errors import ImageError
from pyrun.images import records


class Workspace:
    """A locked directory below `work`; use `workspace()` to have one."""

    def __init__(self, root: str, path: str, helpers: int = -1) -> None:
        """`helpers` is the descriptor that every process that writes here must hold."""
        self.root = root
        self.path = path
        self.helpers = helpers
        self._count = 0

    def fresh(self, stem: str) -> str:
        """Return a path in the workspace that nothing has yet."""
        self._count += 1
        return os.path.join(self.path, f"{stem}-{self._count}")

    def pin(self, layer: str) -> None:
        """Keep a layer from being collected while this workspace lives; call it with the lock held."""
        path = os.path.join(self.path, "pins", layer)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


@contextlib.contextmanager
def workspace(root: str) -> Iterator[Workspace]:
    """Collect what killed commands left, then have a workspace, which is removed at the end in any case."""
    records.prepare(root)
    collect(root)
    place = os.path.join(root, "work", os.urandom(8).hex())
    opened: list[int] = []
    try:
        # Made and locked under the store's lock: a collector must not see it unlocked.
        with records.locked(root):
            os.mkdir(place, 0o700)
            opened.append(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            fcntl.flock(opened[0], fcntl.LOCK_EX)
            os.mkdir(os.path.join(place, "pins"), 0o700)
            helpers = os.open(os.path.join(place, "helpers"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            opened.append(helpers)
            fcntl.flock(helpers, fcntl.LOCK_EX)
        space = Workspace(root, place, helpers)
        try:
            yield space
        except BaseException:
            # Layers that were complete before another one failed. The first error is the one to report.
            with contextlib.suppress(OSError, ImageError):
                sweep(space)
            raise
    finally:
        _remove_tree(place)
        for fd in opened:
            os.close(fd)


def collect(root: str) -> None:
    """Remove the workspaces of dead commands and, if there was one, whatever no image uses."""
    dead: list[tuple[str, int]] = []
    try:
        if not os.listdir(os.path.join(root, "work")):
            return
    except FileNotFoundError:
        return
    with records.locked(root):
        for name in os.listdir(os.path.join(root, "work")):
            path = os.path.join(root, "work", name)
            lock = _try_lock(path)
            if lock is not None:
                dead.append((path, lock))
    for path, _ in dead:
        _await_helpers(path)
        _remove_tree(os.path.join(path, "pins"))
    if dead:
        sweep(Workspace(root, dead[0][0]))
    for path, lock in dead:
        _remove_tree(path)
        os.close(lock)


def sweep(space: Workspace) -> None:
    """Move what no image and no other living command uses into the workspace, to be removed with it."""
    root = space.root
    with records.locked(root):
        index = records.read_index(root)
        used = _pinned(root, except_for=space.path)
        for digits in index.images:
            record = records.read(records.image_path(root, digits), records.ImageRecord)
            if record is not None:
                used.update(records.layer_name(diff_id) for diff_id in record.diff_ids)
        for folder, keep in (
            ("layers", used),
            ("facts", used),
            ("images", index.images),
            ("blobs", index.images),
        ):
            for name in os.listdir(os.path.join(root, folder)):
                if name.removesuffix(".json") not in keep:
                    os.rename(os.path.join(root, folder, name), space.fresh("trash"))


def _pinned(root: str, *, except_for: str) -> set[str]:
    pinned: set[str] = set()
    for name in os.listdir(os.path.join(root, "work")):
        path = os.path.join(root, "work", name)
        if path != except_for:
            with contextlib.suppress(FileNotFoundError):
                pinned.update(os.listdir(os.path.join(path, "pins")))
    return pinned


def _try_lock(path: str) -> int | None:
    """Lock a workspace whose command is dead; None while someone holds it, or when it has just gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _await_helpers(path: str) -> None:
    """Wait until the processes of a dead command are dead too; the kernel is killing them."""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(path, "helpers"), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def _remove_tree(path: str) -> None:
    import shutil  # only commands that change the store pay for it

    shutil.rmtree(path, ignore_errors=True)
