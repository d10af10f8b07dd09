"""The Pods of an exercise: found by their label, seen through their records and the kernel, removed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import msgspec

from pyrun.errors import PyrunError, StateError
from pyrun.lab import kernel
from pyrun.lab.scene import LABEL, Scene
from pyrun.runtime.pods import PodDirectory, pod_directories
from pyrun.spec.object import StoredObject

KINDS = ("ReplicaSet", "Pod")
GONE_TIMEOUT = 30.0
"""Seconds for what was applied, and its Pods, to go."""


class LabPod(msgspec.Struct, frozen=True):
    """A Pod of the lab that is whole."""

    directory: PodDirectory
    name: str
    pause: kernel.Process

    def init(self, container: str) -> kernel.Process | None:
        """The main process of a container; None when it has ended or was never made."""
        key = self.directory.latest(container)
        record = self.directory.container(key) if key is not None else None
        return kernel.Process(record.init.pid) if record is not None and record.init.alive() else None

    def attempt(self, container: str) -> int:
        """How often a container was started again; -1 when it was never made."""
        key = self.directory.latest(container)
        return -1 if key is None else key[1]

    def exit_code(self, container: str) -> int | None:
        """How the last attempt of a container has ended; None when it has not."""
        key = self.directory.latest(container)
        ended = self.directory.exit(key) if key is not None else None
        return None if ended is None else ended.exit_code

    def processes(self, container: str) -> tuple[kernel.Process, ...]:
        """All processes of a container, as its cgroup lists them."""
        init = self.init(container)
        return () if init is None else kernel.processes_in(init.group())


def find(scene: Scene, name: str) -> LabPod | None:
    """Return a Pod of the exercise by its name, None when there is none that is whole and has its pause."""
    return next((pod for pod in whole(scene) if pod.name == name), None)


def whole(scene: Scene) -> Iterator[LabPod]:
    """Yield the Pods of the exercise that are whole and have their pause."""
    for directory in of_exercise(scene):
        record, sandbox = directory.record(), directory.sandbox()
        if record is not None and sandbox is not None and directory.complete and sandbox.pause.alive():
            yield LabPod(directory, record.pod.metadata.name, kernel.Process(sandbox.pause.pid))


def of_exercise(scene: Scene) -> tuple[PodDirectory, ...]:
    """Return the Pods with the label of the exercise, half-made ones too."""
    return tuple(pod for pod in pod_directories(scene.layout) if _labelled(pod, scene.number))


def _labelled(pod: PodDirectory, number: int) -> bool:
    try:
        record = pod.record()
    except StateError:  # whose it is cannot be proved
        return False
    return record is not None and record.pod.metadata.labels.get(LABEL) == str(number)


def remove_all(scene: Scene, tell: Callable[[str], None]) -> None:
    """Delete what was applied with the label of the exercise, and remove its Pods, running or not.

    Raises PyrunError when something does not go.
    """
    from pyrun.runtime.remove import remove_pod

    _remove_applied(scene, tell)
    for pod in of_exercise(scene):
        record = pod.record()
        remove_pod(pod, force=True)
        tell(f"removed Pod {record.pod.metadata.name if record is not None else pod.uid}")


def _remove_applied(scene: Scene, tell: Callable[[str], None]) -> None:
    from pyrun.controllers.deletion import Deletion, Victim
    from pyrun.runtime.host import read_host
    from pyrun.runtime.watch import Watch
    from pyrun.spec.network import NetworkConfig

    victims = [Victim(key=s.key, uid=s.uid, grace_seconds=0) for s in _applied(scene)]
    if not victims:
        return
    network = NetworkConfig.of(scene.layout.name, scene.layout.state, subnet=scene.subnet)
    deletion, watch = Deletion(read_host(scene.layout, network)), Watch(scene.layout)
    deadline = time.monotonic() + GONE_TIMEOUT
    try:
        for victim in victims:
            deletion.ask(victim)
        while left := [victim for victim in victims if not deletion.gone(victim)]:
            if time.monotonic() >= deadline:
                raise PyrunError(
                    f"{left[0].key} has not gone after {GONE_TIMEOUT:g} s", hint="try again; see pyrun events"
                )
            for victim in left:
                deletion.carry_out(victim)
            watch.wait(deadline)
        for victim in victims:
            tell(f"deleted {victim.key}")
    finally:
        watch.close()
        deletion.close()


def _applied(scene: Scene) -> tuple[StoredObject, ...]:
    from pyrun.store.objects import Store

    if not os.path.exists(scene.layout.store):
        return ()
    with Store.open(scene.layout.store) as store:
        found = (stored for kind in KINDS for stored in store.list(kind))
        return tuple(stored for stored in found if stored.labels.get(LABEL) == str(scene.number))


def anything_left(scene: Scene) -> bool:
    """Whether the instance has any Pod, or anything that shall be."""
    from pyrun.store.objects import Store

    if pod_directories(scene.layout):
        return True
    if not os.path.exists(scene.layout.store):
        return False
    with Store.open(scene.layout.store) as store:
        return any(store.list(kind) for kind in KINDS)
