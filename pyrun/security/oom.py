"""The OOM score of a process: whom the kernel kills first when the whole machine is out of memory.

Source: proc_pid_oom_score_adj(5). Lowering it needs CAP_SYS_RESOURCE.
"""

from __future__ import annotations

from pyrun.kernel.operation import Results, Step

LOWEST = -1000
_PATH = "/proc/self/oom_score_adj"


class SetOomScore(Step, frozen=True, tag=True):
    """Write the oom_score_adj of this process: `score`, which is above `wanted` where that may not be written."""

    wanted: int
    score: int

    def describe(self) -> str:
        why = "" if self.score == self.wanted else f" ({self.wanted} is wanted; that needs CAP_SYS_RESOURCE)"
        return f'write "{self.score}" to {_PATH}{why}'

    def apply(self, results: Results) -> None:
        _write(self.score)


def score_floor() -> int:
    """Return the lowest oom_score_adj that this process may write, found by trying; it keeps the one it has."""
    with open(_PATH, encoding="ascii") as file:
        own = int(file.read())
    if _may_write(LOWEST):
        _may_write(own)
        return LOWEST
    refused, allowed = LOWEST, own
    while allowed - refused > 1:
        middle = (refused + allowed) // 2
        if _may_write(middle):
            allowed = middle
        else:
            refused = middle
    _may_write(own)
    return allowed


def _may_write(score: int) -> bool:
    try:
        _write(score)
    except OSError:
        return False
    return True


def _write(score: int) -> None:
    with open(_PATH, "w", encoding="ascii") as file:
        file.write(str(score))
