"""The weight of a tier that Pods share: that of all its Pods' requests together, as the kubelet sets it.

Each Pod's request is kept where it counts: as an extended attribute of its group, which goes with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from pyrun.cgroups import files
from pyrun.kernel.operation import Operation, Results
from pyrun.spec.linux import weight_of

_ATTRIBUTE = "user.pyrun.cpu-millis"


class WeighTier(Operation, frozen=True, tag=True):
    """Count a Pod's request (thousandths of a CPU) for the tier that holds its group. Undo no longer counts it."""

    tier: str
    pod_uid: str
    cpu_millis: int

    def describe(self) -> str:
        return (
            f"write the cpu.weight of all requests in it, {self.cpu_millis}m more, to {self.tier}/cpu.weight"
        )

    def apply(self, results: Results) -> None:
        os.setxattr(f"{self.tier}/{self.pod_uid}", _ATTRIBUTE, str(self.cpu_millis).encode())
        self._weigh()

    def undo(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            with contextlib.suppress(OSError):
                os.removexattr(f"{self.tier}/{self.pod_uid}", _ATTRIBUTE)
            self._weigh()

    def _weigh(self) -> None:
        fd = os.open(self.tier, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # who sums up last has seen all that were counted before
            total = sum(_millis(entry.path) for entry in os.scandir(self.tier) if entry.is_dir())
            files.write(self.tier, "cpu.weight", str(weight_of(total)))
        finally:
            os.close(fd)


def _millis(group: str) -> int:
    try:
        return int(os.getxattr(group, _ATTRIBUTE))
    except OSError:  # not counted (yet), or gone meanwhile
        return 0
