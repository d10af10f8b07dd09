"""Durations as kubectl reads and prints them."""

from __future__ import annotations

from pyrun.errors import InputError
from pyrun.spec.annotations import parse_offset

FOREVER = 7 * 24 * 3600.0
"""What a negative timeout means: a week."""


def parse_duration(text: str) -> float:
    """Return a duration (`30s`, `1m30s`, `500ms`, plain seconds) in seconds. Raises InputError."""
    try:
        length = parse_offset(text)
    except ValueError as error:
        raise InputError(str(error)) from None
    return FOREVER if length < 0 else length / 1e9


_STEPS = (
    (120, 1, 0, "s"),
    (600, 60, 1, "ms"),
    (3 * 3600, 60, 0, "m"),
    (8 * 3600, 3600, 60, "hm"),
    (48 * 3600, 3600, 0, "h"),
    (8 * 86400, 86400, 3600, "dh"),
)
"""Up to how many seconds what is printed: the unit, and a finer one for the rest (0: none), with their letters."""


def human(seconds: float) -> str:
    """Return a duration as kubectl prints ages: 45s, 2m30s, 15m, 3h10m, 26h, 2d4h, 12d."""
    whole = max(int(seconds), 0)
    for limit, unit, finer, letters in _STEPS:
        if whole < limit:
            rest = whole % unit // finer if finer else 0
            return f"{whole // unit}{letters[0]}" + (f"{rest}{letters[1]}" if rest else "")
    return f"{whole // 86400}d"
