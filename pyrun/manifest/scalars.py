"""What the text of a manifest can hold, and how a plain YAML scalar becomes one of it.

Kubernetes reads YAML with sigs.k8s.io/yaml, that is go-yaml version 2: the booleans of YAML 1.1 (yes, no,
on, off, y, n), octal and hexadecimal integers, floats with or without a point (`1e3`), but no sexagesimal
numbers (`22:30` is a string) and no dates (they stay strings). PyYAML's own resolver differs in all of the
last three, so it is not used.
"""

from __future__ import annotations

import math
import re
from typing import TypeAlias

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
"""One value of a manifest, as in JSON. Integers are those of 64 bits, signed or unsigned."""

_TRUE = frozenset(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"))
_FALSE = frozenset(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NUMBER_START = frozenset("+-.0123456789")
_BASES = (16, 2, 8, 10)
_MAX_DIGITS = 64  # of an integer in binary; anything longer is no integer of 64 bits in any base


def resolve_plain(text: str) -> Value:
    """Return what a plain (unquoted, untagged) YAML scalar means; whatever is nothing else is a string."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] not in _NUMBER_START:
        return text
    if _SPECIAL_FLOAT.fullmatch(text):
        return float(text.replace(".", "", 1))
    number = resolve_number(text if text[0] == "." else text.replace("_", ""))
    return text if number is None else number


def resolve_number(text: str) -> int | float | None:
    """Return the number that `text` spells, or None: not a number, or beyond a float's range."""
    match = _INTEGER.fullmatch(text)
    if match is not None:
        digits, base = next(
            (group, base) for group, base in zip(match.groups()[1:], _BASES, strict=True) if group is not None
        )
        digits = digits.lstrip("0") or "0"
        if len(digits) <= _MAX_DIGITS:
            number = int(digits, base) * (-1 if match[1] == "-" else 1)
            if -(2**63) <= number < 2**64:
                return number
    if _FLOAT.fullmatch(text):
        real = float(text)
        return real if math.isfinite(real) else None
    return None


def describe(value: Value) -> str:
    """Return what `value` is, in words for an error: `a list`, `boolean true`, `number 80`."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean {str(value).lower()}"
        case int() | float():
            return f"number {value}"
        case str():
            return "a string"
        case list():
            return "a list"
    return "a mapping"
