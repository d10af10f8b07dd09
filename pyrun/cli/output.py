"""How things are printed: columns for people, JSON and YAML for machines."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from pyrun.errors import PyrunError


class Format(enum.Enum):
    """What `-o` chooses."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, three spaces apart, the last one unpadded."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    for row in (headers, *rows):
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_yaml(value: Any) -> None:
    """Print a value as YAML, fields in their own order."""
    import yaml

    plain = msgspec.json.decode(msgspec.json.encode(value))
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


def complain(error: PyrunError) -> None:
    """Say on stderr what keeps a command from saying all, which it does otherwise."""
    click.echo(f"pyrun: {error.sentence()}", err=True)


def age(seconds: float) -> str:
    """Return a duration as kubectl prints it: 5s, 3m, 2h, 4d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"
