"""Small files written whole or not at all."""

from __future__ import annotations

import contextlib
import os

from pyrun.errors import StateError


def write_atomically(path: str, data: bytes) -> None:
    """Write a file under a temporary name and rename it into place; readers see the old or the new one."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise StateError(
            f"cannot write {path}: {error.strerror}",
            hint="check the free space and the rights of its directory",
        ) from error


def read_if_there(path: str) -> bytes | None:
    """Return the content of a file, or None when it does not exist."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def list_directory(path: str) -> list[str]:
    """Return the sorted entries of a directory; none when it does not exist."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
