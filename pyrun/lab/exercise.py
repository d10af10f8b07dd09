"""What an exercise is: what the host must have, what is made for it, and what must be so when it is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol

import msgspec

from pyrun.lab.scene import Scene


class Finding(msgspec.Struct, frozen=True):
    """One thing that must be so: what, whether it is, and what the kernel says of it."""

    what: str
    holds: bool
    seen: str = ""


class Exercise(Protocol):
    """One exercise; its words stand in the text of the same number."""

    number: ClassVar[int]
    needs: ClassVar[str] = ""
    """What the host must have beside namespaces, in a word or two for a list."""

    def prepare(self, scene: Scene) -> None:
        """Make what a text cannot hold. Raises Unsupported when this host cannot do the exercise."""
        return

    def check(self, scene: Scene) -> Iterator[Finding]:
        """Look at the kernel and yield what must be so, each as it is now."""
        ...


def best(candidates: Iterable[tuple[Finding, ...]], none: Finding) -> tuple[Finding, ...]:
    """Return the findings of the candidate that is nearest to done; `none` when there is no candidate."""
    return max(candidates, key=lambda findings: sum(f.holds for f in findings), default=(none,))
