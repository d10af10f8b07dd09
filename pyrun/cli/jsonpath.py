"""The part of kubectl's JSONPath that names one value: `{.status.containerStatuses[0].ready}`."""

from __future__ import annotations

import re
from typing import Any

from pyrun.errors import InputError

_STEP = re.compile(r"\.(?P<name>(?:[A-Za-z0-9_-]|\\.)+)|\[(?P<index>-?\d+)\]|\['(?P<quoted>[^']+)'\]")


def parse_path(text: str) -> tuple[str | int, ...]:
    """Return the steps of a path. Raises InputError."""
    body = text.strip()
    body = body[1:-1].strip() if body.startswith("{") and body.endswith("}") else body
    body = body.removeprefix("$")
    steps: list[str | int] = []
    position = 0
    while position < len(body):
        match = _STEP.match(body, position)
        if match is None:
            break
        name = match["name"]
        steps.append(
            int(match["index"])
            if match["index"] is not None
            else match["quoted"] or re.sub(r"\\(.)", r"\1", name)
        )
        position = match.end()
    if position < len(body) or not steps:
        raise InputError(
            f'"{text}" is not a path that pyrun knows',
            hint="write {.status.phase}, {.status.containerStatuses[0].ready} or {.metadata.labels['a.b/c']}",
        )
    return tuple(steps)


def value_at(value: Any, path: tuple[str | int, ...]) -> str | None:
    """Return the value at a path as text, None when there is none."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
