"""A root file system of its own, and no way back to the host's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import kernel
from pyrun.lab.exercise import Exercise, Finding, best
from pyrun.lab.scene import Scene
from pyrun.namespaces.table import Namespace


class OwnRoot(Exercise):
    number: ClassVar[int] = 2

    def check(self, scene: Scene) -> Iterator[Finding]:
        none = Finding(f"a process runs in the cgroup {scene.cgroup}", False, "it is empty")
        candidates = kernel.processes_in(scene.cgroup)
        yield from best((_findings(scene, process) for process in candidates), none)


def _findings(scene: Scene, process: kernel.Process) -> tuple[Finding, ...]:
    wanted = kernel.inode(scene.rootfs)
    mounts = process.namespace(Namespace.MOUNT)
    host = kernel.this()
    proc = process.mounted("/proc")
    return (
        Finding("a process runs in the exercise's cgroup", True, f"process {process.pid}"),
        Finding(
            "it has a mount namespace of its own",
            not process.shares(Namespace.MOUNT, host),
            f"{mounts}; the host's is {host.namespace(Namespace.MOUNT)}",
        ),
        Finding(f"its root is {scene.rootfs}", process.root() == wanted, f"/proc/{process.pid}/root"),
        Finding(
            "so is the root of its mount namespace: whoever joins that does not find the host",
            process.root_of_mounts() == wanted,
            "pivot_root moves it, chroot does not",
        ),
        Finding("the host's root is mounted nowhere in it", not process.mounts(kernel.inode("/"))),
        Finding(
            "it has a /proc that shows its own PID namespace, in which it is process 1",
            proc is not None and process.number_inside() == 1 and not process.shares(Namespace.PID, host),
        ),
    )
