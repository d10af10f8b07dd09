"""Kubernetes quantities: `64Mi`, `1.5Gi`, `250m`, `1e3`, `12`.

Source: k8s.io/apimachinery/pkg/api/resource: a signed decimal number with a binary suffix (Ki to Ei), a
decimal suffix (n, u, m, k, M, G, T, P, E) or a decimal exponent. All arithmetic here is exact; what is finer
than the unit asked for is rounded up (away from zero), as Kubernetes does.
"""

from __future__ import annotations

import re

from pyrun.spec.quoting import quoted

MAX = 2**63 - 1
"""Largest quantity in whole units, as in Kubernetes."""

_QUANTITY = re.compile(r"([-+]?)([0-9]*)(?:\.([0-9]*))?(?:([eE])([-+]?[0-9]+)|([A-Za-z]*))")
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_MAX_TEXT = 64
_MAX_EXPONENT = 40


class Quantity:
    """An exact quantity: `numerator / denominator` units (bytes, CPUs)."""

    __slots__ = ("denominator", "numerator")

    def __init__(self, numerator: int, denominator: int) -> None:
        self.numerator = numerator
        self.denominator = denominator

    def rounded_up(self, parts: int = 1) -> int:
        """Return the quantity in `parts` of a unit (1000 for thousandths), rounded away from zero."""
        count = -(-abs(self.numerator) * parts // self.denominator)
        return count if self.numerator >= 0 else -count

    def is_whole(self, parts: int = 1) -> bool:
        """Whether the quantity is a whole number of `parts` of a unit."""
        return self.numerator * parts % self.denominator == 0


def parse_quantity(text: str) -> Quantity:
    """Read a quantity; raises ValueError with a sentence when it is none, or beyond 2^63 - 1 units."""
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None or not (match[2] or match[3]):
        raise ValueError(f"{quoted(text)} is not a quantity such as 64Mi, 1.5Gi, 500m or 1e3")
    sign, whole, fraction, _, exponent, suffix = match.groups(default="")
    tens, twos = _scale(exponent, suffix, text)
    tens -= len(fraction)
    numerator = int(whole + fraction) * (-1 if sign == "-" else 1) * 2**twos
    quantity = Quantity(numerator * 10 ** max(tens, 0), 10 ** max(-tens, 0))
    if abs(quantity.rounded_up()) > MAX:
        raise ValueError(f"{quoted(text)} is more than the largest quantity, {MAX}")
    return quantity


def _scale(exponent: str, suffix: str, text: str) -> tuple[int, int]:
    """Return the powers of ten and of two that the end of a quantity stands for."""
    if exponent:
        if abs(int(exponent)) > _MAX_EXPONENT:
            raise ValueError(f"{quoted(text)} has an exponent beyond {_MAX_EXPONENT}")
        return int(exponent), 0
    if suffix in _BINARY:
        return 0, _BINARY[suffix]
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], 0
    meant = _meant(suffix)
    hint = f", did you mean {meant}?" if meant else ""
    raise ValueError(f'{quoted(text)} has the unknown suffix "{suffix}"{hint}')


def _meant(suffix: str) -> str | None:
    """Return the suffix that a person who wrote `MB`, `mib` or `K` probably meant; never a fraction's."""
    bare = suffix.removesuffix("b").removesuffix("B").lower()
    larger = (*_BINARY, *(known for known, tens in _DECIMAL.items() if tens > 0))
    return next((known for known in larger if known.lower() == bare), None)


def parse_bytes(text: str) -> int:
    """Read a quantity of bytes, rounded up to a whole byte; raises ValueError."""
    return parse_quantity(text).rounded_up()


def parse_whole_bytes(text: str) -> int:
    """Read a quantity of bytes that is not cut inside one; raises ValueError."""
    quantity = parse_quantity(text)
    if not quantity.is_whole():
        megabytes = text.endswith("m") and text[:-1].isdecimal()
        hint = f', did you mean "{text[:-1]}M"?' if megabytes else ""
        raise ValueError(f"{quoted(text)} is no whole number of bytes{hint}")
    return quantity.rounded_up()


def parse_milli_cpu(text: str) -> int:
    """Read a quantity of CPUs in thousandths (`250m` and `0.25` are 250); raises ValueError for a finer one."""
    quantity = parse_quantity(text)
    if not quantity.is_whole(1000):
        raise ValueError(f"{quoted(text)} is finer than a thousandth of a CPU, 1m")
    return quantity.rounded_up(1000)


def format_milli_cpu(millis: int) -> str:
    """Write thousandths of a CPU as Kubernetes does: 250 is `250m`, 2000 is `2`."""
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def format_bytes(count: int) -> str:
    """Write a number of bytes with the largest binary suffix that is exact: 67108864 is `64Mi`."""
    for suffix, twos in reversed(_BINARY.items()):
        if count and count % 2**twos == 0:
            return f"{count // 2**twos}{suffix}"
    return str(count)


def size(count: float) -> str:
    """Return bytes as a person reads them: 512, 1.5Ki, 12Mi, 3.2Gi."""
    value, units = float(count), ["", "Ki", "Mi", "Gi", "Ti", "Pi"]
    while value >= 1023.5 and len(units) > 1:  # what is less is not rounded to 1024
        value /= 1024
        units.pop(0)
    digits = f"{value:.1f}".removesuffix(".0") if units[0] and value < 9.95 else f"{value:.0f}"
    return digits + units[0]
