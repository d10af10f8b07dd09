"""The database file: opened, made, written in transactions; what goes wrong is said in words.

SQLite is never given a chance to take a damaged file for a new one: a database is made under another name and
renamed into place once it is whole, so an empty file is a truncated one. Nothing is ever removed or rewritten
because it could not be read. Source: "How To Corrupt An SQLite Database File", "Write-Ahead Logging" (sqlite.org).
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pyrun.errors import Busy, PyrunError, StateError
from pyrun.state.locks import locked

if TYPE_CHECKING:
    import sqlite3

SCHEMA_VERSION = 1
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE objects (
    "group" TEXT NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY ("group", kind, namespace, name)
);
CREATE INDEX objects_by_kind ON objects (kind, namespace, name);
CREATE TABLE changes (
    resource_version INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    body BLOB NOT NULL
);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_HEADER_SIZE = 100
_MAKING_TIMEOUT = 10.0
_KEEP = (
    "running Pods are not touched and nothing was deleted; stop the supervisor, keep a copy of the file, and "
    "restore a backup or save what can be read: sqlite3 {path} .recover"
)


class Durability(enum.Enum):
    """What a committed change survives. A killed process, both; a power failure, only FULL."""

    FULL = "FULL"
    NORMAL = "NORMAL"


class Database:
    """One connection. It belongs to the process that opened it: a forked child must not touch it.

    SQLite's locks are those of fcntl(2), which a child does not inherit, while its memory says that it holds
    them. Opening it anew in the child is as wrong, and refused too: SQLite would find the parent's connection in
    its memory. A child that needs the store executes a program, or is forked while the store is closed.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._pid = os.getpid()
        self.path = path

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection itself; RuntimeError in a forked child: that is a mistake in pyrun."""
        if os.getpid() != self._pid:
            raise RuntimeError(f"the store was opened by process {self._pid} and is used by {os.getpid()}")
        return self._connection

    def close(self) -> None:
        """Close the connection; in a forked child do nothing, as closing there takes the parent's locks."""
        if os.getpid() == self._pid:
            self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read; one statement sees one moment. Raises StateError, Busy."""
        with _explained(self.path):
            yield self.connection

    @contextmanager
    def writing(self, durability: Durability) -> Iterator[sqlite3.Connection]:
        """Write in one transaction, to which there is only one writer at a time. Raises StateError, Busy."""
        with _explained(self.path):
            connection = self.connection
            connection.execute(f"PRAGMA synchronous = {durability.value}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself has rolled back when the disk is full
                    connection.execute("ROLLBACK")
                raise
        self._announce()

    def _announce(self) -> None:
        """Write a byte to a file beside the database, for who watches its directory.

        The database's own files tell nobody: their last write(2) comes before the commit, which others see once
        it stands in shared memory.
        """
        with suppress(OSError):
            fd = os.open(f"{self.path}-changed", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(fd, b"\n", 0)
            finally:
                os.close(fd)

    def verify(self) -> None:
        """Read and check every page. Raises StateError with what is wrong."""
        with self.reading() as connection:
            _check(connection, "integrity_check(20)", self.path)


def open_database(path: str, timeout: float) -> Database:
    """Open a database, or make it and its directory when it does not exist.

    `timeout`: seconds that a write waits for other writers before it raises Busy. Raises StateError when it is
    damaged, of a newer pyrun, or cannot be read; RuntimeError when a parent had it open at the fork.
    """
    if _is_inherited(path):
        raise RuntimeError(f"the store {path} is open since before the fork of process {os.getpid()}")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if not os.path.exists(path):
            _make(path)
        _look_before(path)
    except OSError as error:
        raise StateError(
            f"cannot make the store {path}: {error.strerror}",
            hint="check the free space and the rights of its directory",
        ) from error
    with _explained(path):
        connection = _connect(path, timeout)
        try:
            _inspect(connection, path)
        except BaseException:
            connection.close()
            raise
    return Database(connection, path)


def _is_inherited(path: str) -> bool:
    """Whether this process has the file open without the lock that an open connection always holds."""
    place = os.path.realpath(path)
    descriptors = [fd for fd in os.listdir("/proc/self/fd") if _target(fd) == place]
    return bool(descriptors) and not any(_holds_lock(fd) for fd in descriptors)


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the one that read the directory
        return ""


def _holds_lock(fd: str) -> bool:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return any(line.startswith("lock:") for line in file)


def _connect(path: str, timeout: float) -> sqlite3.Connection:
    import sqlite3  # costs start-up time

    return sqlite3.connect(path, timeout=timeout, isolation_level=None, cached_statements=64)


def _make(path: str) -> None:
    with locked(f"{os.path.dirname(path)}/lock", f"the store {path}", _MAKING_TIMEOUT), _explained(path):
        if os.path.exists(path):
            return
        if os.path.exists(f"{path}-wal"):
            # Its pages would be taken for those of the new file.
            raise _damaged(path, f"it has gone, and {path}-wal has not")
        new = f"{path}.new"
        for leftover in (new, f"{new}-wal", f"{new}-shm"):
            with suppress(FileNotFoundError):
                os.unlink(leftover)
        connection = _connect(new, 0)
        try:
            connection.executescript(_SCHEMA)
        finally:
            connection.close()
        os.rename(new, path)
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _look_before(path: str) -> None:
    """SQLite takes a file of nothing for a new database, and removes what its log holds."""
    if os.path.isfile(path) and os.path.getsize(path) < _HEADER_SIZE:
        raise _damaged(path, "it is truncated")


def _inspect(connection: sqlite3.Connection, path: str) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StateError(
            f"the store {path} has format {version}, and this pyrun knows up to {SCHEMA_VERSION}",
            hint="use the newer pyrun that has written it",
        )
    if version < SCHEMA_VERSION:
        raise _damaged(path, "it was not made by pyrun")
    _check(connection, "quick_check(objects)", path)


def _check(connection: sqlite3.Connection, pragma: str, path: str) -> None:
    findings = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}")]
    if findings != ["ok"]:
        raise _damaged(path, "; ".join(" ".join(finding.split()) for finding in findings))


def _damaged(path: str, what: str) -> StateError:
    return StateError(f"the store {path} is damaged: {what}", hint=_KEEP.format(path=path))


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn the errors of SQLite into ours."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, error) from error


def _explain(path: str, error: sqlite3.Error) -> PyrunError:
    import sqlite3

    # Errors of Python's own module, such as a text that is no UTF-8, have no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(f"the store {path} is being written by another process", hint="try again")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return _damaged(path, str(error))
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        return StateError(
            f"cannot write the store {path}: no space left on device",
            hint="free some space on its file system; what was stored before is unharmed",
        )
    name = getattr(error, "sqlite_errorname", "")
    return StateError(
        f"cannot use the store {path}: {error} ({name})",
        hint="check the rights of its directory, its file system and the kernel's log",
    )


def _is_full(path: str) -> bool:
    """Whether no page is free: SQLite says only `disk I/O error` when it cannot extend its shared memory."""
    try:
        status = os.statvfs(os.path.dirname(path))
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < 64 * 1024
