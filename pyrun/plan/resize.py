"""The order in which a Pod that runs is given other resources: never more in its parts than in the whole.

What the Pod's group gets more of comes first, then its containers, those first that get less, and at the end what the
Pod's group gets less of. Source: pkg/kubelet/kuberuntime (doPodResizeAction) of Kubernetes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pyrun.cgroups.controllers import settings
from pyrun.cgroups.setting import SetCgroup
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.linux import PAGE, quota_ratio

FILES = ("cpu.weight", "cpu.max", "memory.low", "memory.max")
"""The settings that follow from requests and limits of CPU and memory."""

USE = "memory.current"

GroupFiles = Mapping[str, str]
"""What the files of one group say; those that are not there are missing."""


class Target(NamedTuple):
    """A group, whose it is (`Pod`, `container "NAME"`), what it shall have, and what its files say now."""

    owner: str
    group: str
    wanted: LinuxResources
    present: GroupFiles


class Writes(NamedTuple):
    """What is written, in this order; `last` only when no container is left that is yet to be restarted."""

    first: tuple[SetCgroup, ...]
    last: tuple[SetCgroup, ...]


class _Change(NamedTuple):
    target: Target
    file: str
    value: str

    @property
    def grows(self) -> bool:
        before = self.target.present.get(self.file)
        return before is None or _amount(self.file, self.value) > _amount(self.file, before)

    @property
    def operation(self) -> SetCgroup:
        return SetCgroup(self.target.group, self.file, self.value)


def plan_writes(pod: Target, containers: Sequence[Target], controllers: Sequence[str]) -> Writes:
    """Return what is to be written, where the files say something else."""
    whole = tuple(_changes(pod, controllers))
    parts = tuple(change for one in containers for change in _changes(one, controllers))
    ordered = (
        *(change for change in whole if change.grows),
        *(change for change in parts if not change.grows),
        *(change for change in parts if change.grows),
    )
    return Writes(
        tuple(change.operation for change in ordered),
        tuple(change.operation for change in whole if not change.grows),
    )


def in_use(targets: Sequence[Target], controllers: Sequence[str]) -> tuple[str, ...]:
    """Return whose limit of memory would be below what it uses: to write it would have its processes killed."""
    found = []
    for target in targets:
        for change in _changes(target, controllers):
            used = int(target.present.get(USE, "0"))
            if change.file == "memory.max" and not change.grows and int(change.value) < used:
                found.append(
                    f"the memory limit of {target.owner} cannot be {change.value} bytes yet: it uses {used}"
                )
    return tuple(found)


def _changes(target: Target, controllers: Sequence[str]) -> Iterator[_Change]:
    for setting in settings(target.wanted):
        if setting.file in FILES and setting.controller in controllers:
            before = target.present.get(setting.file)
            if before is None or _amount(setting.file, before) != _amount(setting.file, setting.value):
                yield _Change(target, setting.file, setting.value)


def _amount(file: str, text: str) -> float:
    """Return what a file says as a number that can be compared; the kernel counts memory in whole pages."""
    if file == "cpu.max":
        return quota_ratio(text)
    if text == "max":
        return math.inf
    return int(text) // PAGE if file.startswith("memory.") else int(text)
