"""Records: what was made, kept to find it again. Status is derived from the kernel on read, never stored."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from pyrun.errors import StateError
from pyrun.kernel.proc import ProcessIdentity
from pyrun.process.control import ExitRecord, parse_exit_record
from pyrun.spec.container import ContainerConfig
from pyrun.spec.pod import Pod
from pyrun.spec.sandbox import SandboxFacts
from pyrun.state.files import read_if_there, write_atomically


class SandboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox that was made. `address` is empty on the host's network; `created_at` is RFC 3339 in UTC."""

    uid: str
    pod: Pod
    facts: SandboxFacts
    pause: ProcessIdentity
    address: str
    created_at: str


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a container that was created; `started_at` is empty until it was started."""

    config: ContainerConfig
    attempt: int
    init: ProcessIdentity
    monitor: ProcessIdentity
    created_at: str
    started_at: str = ""


def write_record(path: str, record: SandboxRecord | ContainerRecord) -> None:
    """Write a record atomically."""
    write_atomically(path, msgspec.json.encode(record))


def read_sandbox(path: str) -> SandboxRecord | None:
    """Return the record of a sandbox, None when there is none. Raises StateError."""
    return _decode(path, SandboxRecord)


def read_container(path: str) -> ContainerRecord | None:
    """Return the record of a container's attempt, None when there is none. Raises StateError."""
    return _decode(path, ContainerRecord)


def read_exit(path: str) -> ExitRecord | None:
    """Return the exit record, None while the container has not ended. Raises StateError."""
    data = read_if_there(path)
    return None if data is None else parse_exit_record(data)


T = TypeVar("T")


def _decode(path: str, kind: type[T]) -> T | None:
    data = read_if_there(path)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise StateError(
            f"record {path} cannot be read: {error}", hint="it is of another version of pyrun, or damaged"
        ) from error
