"""What `run` and `exec` have in common: exit codes and options as people know them from container engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyrun.errors import InputError, ProgramError, PyrunError

ENGINE_FAILED = 125


@contextmanager
def as_engine_error() -> Iterator[None]:
    """Give every error of pyrun itself exit code 125; 126 and 127 speak of the program."""
    try:
        yield
    except ProgramError:
        raise
    except PyrunError as error:
        error.exit_code = ENGINE_FAILED
        raise


def variables(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return `NAME=VALUE` for each -e; a bare NAME takes the caller's value, and nothing when it has none."""
    import os

    found = []
    for text in given:
        name, equals, _ = text.partition("=")
        if not name:
            raise InputError(f'"-e {text}" has no name', hint="write -e NAME=VALUE")
        if equals:
            found.append(text)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return tuple(found)
