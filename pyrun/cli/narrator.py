"""`--explain`: each operation with its description and its time, as it is applied."""

from __future__ import annotations

import sys

from pyrun.kernel.operation import Step


class Narrator:
    """Prints every operation once it has been applied; the steps of a child below the one that made it."""

    def before(self, step: Step) -> None:
        """Print what a new process is made by, ahead of that process's own steps."""
        if hasattr(step, "steps"):
            self._print("", step.describe())

    def after(self, step: Step, seconds: float) -> None:
        """Print an operation of this process."""
        self._print(_milliseconds(seconds), "  (in all)" if hasattr(step, "steps") else step.describe())

    def inside(self, step: Step) -> None:
        """Nothing: this is the child."""

    def reported(self, step: Step, seconds: float) -> None:
        """Print a step a child has applied."""
        self._print(_milliseconds(seconds), f"    {step.describe()}")

    def _print(self, took: str, text: str) -> None:
        print(f"{took:>10}  {text}", file=sys.stderr, flush=True)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
