"""Operations on the host's side of the file system: the directories of a Pod, its volumes, hostPath checks."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from pyrun.errors import Conflict, PyrunError
from pyrun.kernel.operation import Operation, Results
from pyrun.spec.pod import HostPathType


class MakeDirectory(Operation, frozen=True, tag=True):
    """Make a directory that is pyrun's own; undo removes it with all it holds."""

    path: str
    mode: int = 0o755

    def describe(self) -> str:
        return f"mkdir -m {self.mode:04o} {self.path}"

    def apply(self, results: Results) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        os.mkdir(self.path)
        os.chmod(self.path, self.mode)  # not cut by the caller's umask

    def undo(self) -> None:
        remove_tree(self.path)


class MakeFile(Operation, frozen=True, tag=True):
    """Make an empty file that is pyrun's own; undo removes it."""

    path: str
    mode: int = 0o644

    def describe(self) -> str:
        return f"install -m {self.mode:04o} /dev/null {self.path}"

    def apply(self, results: Results) -> None:
        fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, self.mode)  # not cut by the caller's umask
        finally:
            os.close(fd)

    def undo(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


_REMOVALS = 20
"""How often a directory is removed anew because something was written into it."""


def remove_tree(path: str) -> None:
    """Remove a directory and all it holds, following no link; gone is success. Raises OSError.

    What others write into it meanwhile is removed too.
    """
    import shutil

    def tolerate(
        _function: object, _path: str, info: tuple[type[BaseException], BaseException, object]
    ) -> None:
        if not isinstance(info[1], FileNotFoundError):
            raise info[1]

    for attempts_left in reversed(range(_REMOVALS)):
        try:
            shutil.rmtree(path, onerror=tolerate)
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not attempts_left:
                raise


_TESTS = {
    HostPathType.DIRECTORY: (stat.S_ISDIR, "a directory"),
    HostPathType.DIRECTORY_OR_CREATE: (stat.S_ISDIR, "a directory"),
    HostPathType.FILE: (stat.S_ISREG, "a regular file"),
    HostPathType.FILE_OR_CREATE: (stat.S_ISREG, "a regular file"),
    HostPathType.SOCKET: (stat.S_ISSOCK, "a socket"),
    HostPathType.CHAR_DEVICE: (stat.S_ISCHR, "a character device"),
    HostPathType.BLOCK_DEVICE: (stat.S_ISBLK, "a block device"),
}


class PrepareHostPath(Operation, frozen=True, tag=True):
    """Check what stands at the path of a hostPath volume, or make it; as in Kubernetes it is never removed.

    Modes are those of the Kubernetes API: 0755 for a directory, 0644 for a file, owned by root.
    """

    volume: str
    path: str
    type: HostPathType

    def describe(self) -> str:
        return f'hostPath volume "{self.volume}": {self.path} is {self.type.value or "anything"}'

    def apply(self, results: Results) -> None:
        try:
            mode = os.stat(self.path).st_mode
        except FileNotFoundError:
            mode = self._make()
        test, words = _TESTS.get(self.type, (None, ""))
        if test is not None and not test(mode):
            raise PyrunError(
                f"{self.path} is not {words}", hint=f"correct the path or the type of volume {self.volume}"
            )

    def _make(self) -> int:
        if self.type in (HostPathType.DIRECTORY_OR_CREATE, HostPathType.ANY):
            os.makedirs(self.path, 0o755, exist_ok=True)
        elif self.type is HostPathType.FILE_OR_CREATE:
            # Kubernetes does not make the parent of a file; the error says that it is missing.
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        return os.stat(self.path).st_mode

    def undo(self) -> None:
        """Nothing: the path is the user's."""


class EnsureDirectory(Operation, frozen=True, tag=True):
    """Make a directory inside one that another operation owns and removes; it may be there already."""

    path: str

    def describe(self) -> str:
        return f"mkdir -p {self.path}"

    def apply(self, results: Results) -> None:
        os.makedirs(self.path, exist_ok=True)

    def undo(self) -> None:
        """Nothing: it goes with the directory it is in."""


def taken(name: str) -> Conflict:
    """Return the error of a name that another Pod has claimed."""
    return Conflict(
        f'a Pod named "{name}" exists already',
        hint=f"choose another name, or remove it: pyrun pod rm {name}",
    )


class ClaimName(Operation, frozen=True, tag=True):
    """Claim a name for a Pod by an exclusive file that holds the Pod's uid; link(2) makes it whole or not."""

    path: str
    uid: str

    def describe(self) -> str:
        return f"link {self.path} (exclusive: the name is this Pod's)"

    def apply(self, results: Results) -> None:
        directory, _, name = self.path.rpartition("/")
        os.makedirs(directory, exist_ok=True)
        temporary = self._temporary()
        with open(temporary, "w", encoding="ascii") as file:
            file.write(self.uid)
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            raise taken(name) from None
        finally:
            os.unlink(temporary)

    def undo(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary())
        with contextlib.suppress(FileNotFoundError):
            with open(self.path, encoding="ascii") as file:
                owner = file.read()
            if owner == self.uid:
                os.unlink(self.path)

    def _temporary(self) -> str:
        # A name of a Pod cannot hold a tilde, so this cannot be one.
        return f"{self.path}~{self.uid}"
