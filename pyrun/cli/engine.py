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


_UNITS = {"b": 0, "k": 10, "m": 20, "g": 30}


def memory_limit(text: str) -> int:
    """Return the bytes of `64m` as container engines mean it (binary), or of a quantity as Kubernetes does.

    Raises InputError.
    """
    if text[:-1].isdecimal() and text[-1:] in _UNITS:
        return _positive("--memory", text, int(text[:-1]) << _UNITS[text[-1]])
    return _quantity("--memory", text, 1, "give a size such as 64m, 512Mi or 1g")


def cpu_limit(text: str) -> int:
    """Return thousandths of a CPU. Raises InputError."""
    return _quantity("--cpus", text, 1000, "give a number such as 0.5 or 2")


def _quantity(option: str, text: str, parts: int, hint: str) -> int:
    from pyrun.spec.quantity import parse_quantity

    try:
        return _positive(option, text, parse_quantity(text).rounded_up(parts))
    except ValueError as error:
        raise InputError(f"{option}: {error}", hint=hint) from None


def _positive(option: str, text: str, amount: int) -> int:
    if not 0 < amount < 2**63:
        raise InputError(f"{option} {text[:64]} is no limit", hint="give more than zero, and less than 2^63")
    return amount
