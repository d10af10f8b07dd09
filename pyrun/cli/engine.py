"""What `run` and `exec` have in common: exit codes and options as people know them from container engines."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from pyrun.errors import InputError, Interrupted, ProgramError, PyrunError

ENGINE_FAILED = 125
READER_LEFT = 128 + signal.SIGPIPE


@contextmanager
def as_engine_error() -> Iterator[None]:
    """Give every error of pyrun itself exit code 125; 126 and 127 speak of the program.

    An interrupted command keeps its code.
    """
    try:
        with reader_may_leave():
            yield
    except (ProgramError, Interrupted):
        raise
    except PyrunError as error:
        error.exit_code = ENGINE_FAILED
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        failed = PyrunError(f"{where}{error.strerror or error}")
        failed.exit_code = ENGINE_FAILED
        raise failed from error


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End quietly, as if by SIGPIPE, when nobody reads the output of a container any more."""
    try:
        yield
    except BrokenPipeError as error:
        raise click.exceptions.Exit(READER_LEFT) from error


class EngineCommand(click.Command):
    """A command whose exit code is a program's, so that a wrong command line has code 125 as well."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _usage_as_engine_error():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _usage_as_engine_error():
            return super().invoke(ctx)


@contextmanager
def _usage_as_engine_error() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.show()
        raise click.exceptions.Exit(ENGINE_FAILED) from error


def variables(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return `NAME=VALUE` for each -e; a bare NAME takes the caller's value, and nothing when it has none."""
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
