"""What a Pod has on the disk, measured by walking its files; slow for many files, so for workers only."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

from pyrun.lifecycle.eviction import Usage
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.pod import EmptyDir, PodSpec

_BLOCK = 512
"""The unit of st_blocks, whatever the file system's own is; see stat(2)."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def measure(pod: PodDirectory, spec: PodSpec) -> Usage:
    """Return what a Pod has on the disk now. Raises OSError for a file system that is broken.

    Space of a file that was removed while it is open is not seen.
    """
    layout, uid = pod.layout, pod.uid
    return Usage(
        containers=tuple(
            (c.name, disk_usage(layout.container_layers(uid, c.name)) + disk_usage(layout.logs(uid, c.name)))
            for c in spec.all_containers()
        ),
        volumes=tuple(
            (volume.name, disk_usage(layout.volume(uid, volume.name)))
            for volume in spec.volumes
            if isinstance(volume.source, EmptyDir) and not volume.source.memory
        ),
    )


def disk_usage(path: str) -> int:
    """Return the bytes allocated for a directory and all below it, 0 when it is not there.

    Holes of sparse files are not counted, what has several names is once; links are not followed, other file
    systems not entered. It holds two descriptors and never a long path: the tree may be as deep as its maker likes.
    What is moved about meanwhile may be missed, and is found by the next measuring.
    """
    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        return 0
    return _Walk(fd).run()


class _Level(NamedTuple):
    """A directory on the way down: which one it is, and what below it has not been entered yet."""

    identity: tuple[int, int]
    left: list[str]


class _Walk:
    """A walk through one tree: down by name and up by `..`, with one descriptor."""

    def __init__(self, top: int) -> None:
        self.total = 0
        self._here = top
        self._device = os.fstat(top).st_dev
        self._linked: set[int] = set()
        self._way: list[_Level] = []

    def run(self) -> int:
        """Walk through all of it and return the bytes; the descriptor is closed."""
        try:
            self._look()
            while self._way:
                left = self._way[-1].left
                if left:
                    self._down(left.pop())
                elif not self._up():
                    break
        finally:
            os.close(self._here)
        return self.total

    def _down(self, name: str) -> None:
        try:
            below = os.open(name, _OPEN, dir_fd=self._here)
        except (FileNotFoundError, NotADirectoryError):
            return  # it went, or became something else
        if os.fstat(below).st_dev != self._device:
            os.close(below)
            return
        os.close(self._here)
        self._here = below
        self._look()

    def _up(self) -> bool:
        """Go back; False at the top, and where `..` leads elsewhere because the directory was moved."""
        self._way.pop()
        if not self._way:
            return False
        above = os.open("..", _OPEN, dir_fd=self._here)
        os.close(self._here)
        self._here = above
        return _identity(os.fstat(above)) == self._way[-1].identity

    def _look(self) -> None:
        """Count a directory that was entered and what lies in it; directories in it are counted when entered."""
        here = os.fstat(self._here)
        self.total += here.st_blocks * _BLOCK
        left = []
        with os.scandir(self._here) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        left.append(entry.name)
                    else:
                        self._count(found)
        self._way.append(_Level(_identity(here), left))

    def _count(self, found: os.stat_result) -> None:
        if found.st_dev != self._device or found.st_ino in self._linked:
            return
        self.total += found.st_blocks * _BLOCK
        if found.st_nlink > 1:
            self._linked.add(found.st_ino)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
