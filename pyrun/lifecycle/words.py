"""Words that people know from Kubernetes."""

from __future__ import annotations

_UNITS = ((3600 * 10**9, "h"), (60 * 10**9, "m"))
_FRACTIONS = ((10**9, "s"), (10**6, "ms"), (10**3, "µs"), (1, "ns"))


def duration(nanoseconds: int) -> str:
    """A duration, not negative, as Go prints it: 40s, 1m20s, 5m0s, 1.5s, 250ms."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 10**9:
        unit, word = next(pair for pair in _FRACTIONS if nanoseconds >= pair[0])
        return f"{_decimal(nanoseconds, unit)}{word}"
    text = ""
    for unit, word in _UNITS:
        whole, nanoseconds = divmod(nanoseconds, unit)
        text += f"{whole}{word}" if whole or text else ""
    return f"{text}{_decimal(nanoseconds, 10**9)}s"


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    if not rest:
        return str(whole)
    places = len(str(unit)) - 1
    return f"{whole}.{rest:0{places}d}".rstrip("0")
