"""The same as a Pod: what pause holds when nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import kernel, pods
from pyrun.lab.exercise import Exercise, Finding, best
from pyrun.lab.pods import LabPod
from pyrun.lab.scene import Scene
from pyrun.namespaces.table import Namespace

POD = "lab-4"
CONTAINERS = ("one", "two")
HELD = (Namespace.UTS, Namespace.IPC, Namespace.NETWORK, Namespace.TIME)


class WhatPauseHolds(Exercise):
    number: ClassVar[int] = 4

    def check(self, scene: Scene) -> Iterator[Finding]:
        pod = pods.find(scene, POD)
        if pod is None:
            yield Finding(f"there is a Pod {POD}, and its pause runs", False)
            return
        yield Finding(f"there is a Pod {POD}, and its pause runs", True, f"process {pod.pause.pid}")
        for name in CONTAINERS:
            yield Finding(f"its container {name} has run and has ended", pod.exit_code(name) is not None)
        none = Finding("a process of yours has joined what pause holds", False, f"{scene.cgroup} is empty")
        yield from best((_joined(pod, p) for p in kernel.processes_in(scene.cgroup)), none)


def _joined(pod: LabPod, process: kernel.Process) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            f"your process {process.pid} is in the {kind.value} namespace that pause holds",
            process.shares(kind, pod.pause),
            f"{process.namespace(kind)}; pause {pod.pause.namespace(kind)}",
        )
        for kind in HELD
    )
