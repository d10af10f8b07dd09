"""Who watches operations while they are applied: the narrator of `--explain`, and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyrun.kernel.operation import Step


class Observer(Protocol):
    """Hears of every step, in the process that applies it and, for a child's steps, in its parent too."""

    def before(self, step: Step) -> None:
        """The step is about to be applied, in this process."""

    def after(self, step: Step, seconds: float) -> None:
        """The step has been applied, in this process."""

    def inside(self, step: Step) -> None:
        """A child is about to apply the step, and this is that child: it must not print."""

    def reported(self, step: Step, seconds: float) -> None:
        """A child of this process has applied the step."""


class Silent:
    """Watches and says nothing."""

    def before(self, step: Step) -> None:
        """Nothing."""

    def after(self, step: Step, seconds: float) -> None:
        """Nothing."""

    def inside(self, step: Step) -> None:
        """Nothing."""

    def reported(self, step: Step, seconds: float) -> None:
        """Nothing."""
