"""ReplicaSet: things are killed, and what is desired wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import pods, records
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene
from pyrun.state.events import EventLog, Reason

SET, CONTAINER = "lab-12", "worker"
REPLICAS = 3


class DesiredState(Exercise):
    number: ClassVar[int] = 12

    def check(self, scene: Scene) -> Iterator[Finding]:
        there = [pod for pod in pods.whole(scene) if pod.init(CONTAINER) is not None]
        yield Finding(
            f"{REPLICAS} Pods of the set run",
            len(there) == REPLICAS,
            f"pause processes {[pod.pause.pid for pod in there]}",
        )
        again = sum(pod.attempt(CONTAINER) > 0 for pod in there)
        yield Finding("a container that was killed runs again in its Pod", again > 0, f"{again} of them")
        made = _made(scene)
        yield Finding(
            "a Pod that was taken away was replaced", made > REPLICAS, f"the set has made {made} Pods"
        )


def _made(scene: Scene) -> int:
    """How many Pods the set has made since the exercise was started."""
    record = records.read(scene.record_path)
    events = EventLog(scene.layout.root).read(None if record is None else record.started_at)
    return sum(e.reason == Reason.SUCCESSFUL_CREATE and e.about.name == SET for e in events)
