"""One process a container: a supervisor inside hides the crashes of what it supervises."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import kernel, pods
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene

HIDDEN, APART, CONTAINER = "lab-5-hidden", "lab-5-apart", "worker"
FIRST_WORKER = 2
"""The number of the shell's first child in the container's PID namespace; a number is not used again so soon."""


class OneProcess(Exercise):
    number: ClassVar[int] = 5

    def check(self, scene: Scene) -> Iterator[Finding]:
        hidden = pods.find(scene, HIDDEN)
        shell = hidden.init(CONTAINER) if hidden is not None else None
        yield Finding(f"the shell of {HIDDEN} runs", shell is not None)
        if shell is not None and hidden is not None:
            workers = [child.number_inside() for child in kernel.children_of(shell.pid)]
            yield Finding(
                "its worker was killed: the kernel has another one",
                any(number > FIRST_WORKER for number in workers),
                f"processes {workers} inside; the first worker was {FIRST_WORKER}",
            )
            unknown = hidden.exit_code(CONTAINER) is None and hidden.attempt(CONTAINER) == 0
            yield Finding("nobody outside has been told", unknown, "no end, no restart of the container")
        apart = pods.find(scene, APART)
        yield Finding(f"there is a Pod {APART}", apart is not None)
        if apart is not None:
            code = apart.exit_code(CONTAINER)
            yield Finding(
                "its worker was killed, and its parent outside was told by the kernel how",
                code == 128 + signal.SIGKILL,
                "it runs" if code is None else f"exit code {code}",
            )
