"""What is remembered of an exercise that was started: little, because the kernel knows the rest."""

from __future__ import annotations

import msgspec

from pyrun.errors import StateError
from pyrun.state.files import read_if_there, write_atomically


class LabRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An exercise that was started.

    `started_at` and `done_at` (empty until `check` found all done) are RFC 3339; `hints` counts those given.
    """

    started_at: str
    done_at: str = ""
    hints: int = 0


def read(path: str) -> LabRecord | None:
    """Return a record, None when the exercise was not started. Raises StateError."""
    data = read_if_there(path)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=LabRecord)
    except msgspec.DecodeError as error:
        raise StateError(
            f"record {path} cannot be read: {error}", hint="pyrun lab reset of the exercise"
        ) from error


def write(path: str, record: LabRecord) -> None:
    """Write a record atomically. Raises StateError."""
    write_atomically(path, msgspec.json.encode(record))
