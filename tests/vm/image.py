"""The image of a guest, kept below a cache directory.

Every image is a directory of its own, named by what it was made from: `root` is the tree (things are compiled in
it, natively), `root.ext4` the disk, `vmlinuz` and `initrd` what QEMU boots, and the file `ok` appears last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.vm.build import VmError, build, key

SUITES = ("trixie", "bookworm")
UNUSED = 7 * 86400.0
"""Seconds after which an image is no longer kept."""
IN_THE_GUEST = (
    "env",
    "-i",
    "PATH=/opt/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
)


@dataclasses.dataclass(frozen=True)
class Image:
    """A guest that can be booted."""

    directory: Path

    @property
    def root(self) -> Path:
        """The tree of the guest's root, to run its programs in natively."""
        return self.directory / "root"

    @property
    def disk(self) -> Path:
        """The file system of the guest's root."""
        return self.directory / "root.ext4"

    @property
    def kernel(self) -> Path:
        """Debian's cloud kernel."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial root."""
        return self.directory / "initrd"

    def run(self, *command: str, directory: str = "/") -> None:
        """Run a program of the guest on this machine, in the guest's root; raise VmError when it fails."""
        line = [
            "chroot",
            str(self.root),
            *IN_THE_GUEST,
            "sh",
            "-ec",
            'cd "$1"; shift; exec "$@"',
            "sh",
            directory,
        ]
        done = subprocess.run(
            [*line, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise VmError(f"{' '.join(command)} failed in {self.root}:\n{done.stdout}{done.stderr}")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from using the tree for a while."""
        with locked(self.directory / "lock"):
            yield


def image(suite: str, cache: Path) -> Image:
    """Return the image of a suite, built now if there is none that is up to date."""
    cache.mkdir(parents=True, exist_ok=True)
    directory = cache / f"{suite}-{key(suite)}"
    with locked(cache / f"{suite}.lock"):
        if not (directory / "ok").exists():
            remove_old(cache, suite)
            shutil.rmtree(directory, ignore_errors=True)
            started = time.monotonic()
            print(f"building the {suite} guest, once; log in {directory}/log", flush=True)
            build(suite, directory)
            (directory / "ok").touch()
            print(f"built in {time.monotonic() - started:.0f} s", flush=True)
        os.utime(directory / "ok")
    return Image(directory)


def remove_old(cache: Path, name: str) -> None:
    """Remove what has not been used for a week; another tree of the same user may need another image."""
    for old in cache.glob(f"{name}-*"):
        mark = old / "ok"
        used = mark.stat().st_mtime if mark.exists() else old.stat().st_mtime
        if time.time() - used > UNUSED:
            shutil.rmtree(old)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock of the machine, named by a file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
