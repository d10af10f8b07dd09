"""Pressure stall information: how much of the time something, or all, had to wait for a resource.

Source: Documentation/accounting/psi.rst; per group cgroup-v2.rst, `cpu.pressure`, `memory.pressure`, `io.pressure`.
"""

from __future__ import annotations

from pyrun.cgroups import files
from pyrun.spec.value import Value

RESOURCES = ("cpu", "memory", "io")


class Stall(Value, frozen=True, kw_only=True):
    """Shares of the last 10, 60 and 300 seconds, in percent, and microseconds in all."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total_us: int = 0


class Pressure(Value, frozen=True, kw_only=True):
    """`some`: at least one task waited; `full`: all of them at once (of the CPU, zero for the whole machine)."""

    some: Stall = Stall()
    full: Stall = Stall()


def pressure(group: str, resource: str) -> Pressure | None:
    """Return the pressure on one of `RESOURCES` in a group and below it; None when it is gone or PSI is off."""
    text = files.find(group, f"{resource}.pressure")
    return None if text is None else parse(text)


def parse(text: str) -> Pressure:
    """Read the text of a pressure file; a line that an older kernel does not write is all zero."""
    lines = {
        words[0]: dict(word.split("=") for word in words[1:]) for words in map(str.split, text.splitlines())
    }
    some, full = (_stall(lines.get(kind, {})) for kind in ("some", "full"))
    return Pressure(some=some, full=full)


def _stall(values: dict[str, str]) -> Stall:
    return Stall(
        avg10=float(values.get("avg10", 0)),
        avg60=float(values.get("avg60", 0)),
        avg300=float(values.get("avg300", 0)),
        total_us=int(values.get("total", 0)),
    )
