"""Applied Pods that find no room: nobody makes them, no timer is set, and each change is told once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from pyrun.controllers.context import Context
from pyrun.controllers.desired import Desired
from pyrun.controllers.headroom import Headroom, Reservation
from pyrun.controllers.loop import Loop
from pyrun.controllers.stored_pods import StoredPods
from pyrun.controllers.workers import Failure, Job
from pyrun.manifest import dump_pod
from pyrun.spec.event import Event
from pyrun.spec.object import ObjectKey
from pyrun.spec.resources import Capacity, ResourceList
from pyrun.store.apply import apply
from pyrun.store.convert import desired_object
from pyrun.store.objects import Store
from tests.unit.test_admission import pod

SECOND = 1_000_000_000
LACK = Failure("Unschedulable", "something else came first")


class Begun:
    """Workers that have begun, and do nothing; the test says how each ends."""

    def __init__(self) -> None:
        self.ends: dict[Hashable, Callable[[Failure | None], None]] = {}

    def start(self, key: Hashable, job: Job, finished: Callable[[Failure | None], None]) -> None:
        self.ends[key] = finished


class Facts(msgspec.Struct):
    """The facts of the host that are not asked for: no worker runs."""


class World:
    """The loop over the Pods of a store, beside Pods that hold CPUs of the four there are."""

    def __init__(self, path: Path) -> None:
        self.now = SECOND
        self.events: list[Event] = []
        self.workers = Begun()
        self.loop = Loop(lambda: self.now)
        self.held: dict[str, int] = {}
        self.store = Store.open(str(path))
        self.path = path
        self.begin()

    def append(self, event: Event) -> bool:
        """Take an event, as the log would."""
        self.events.append(event)
        return True

    def begin(self) -> None:
        """Begin as a new supervisor, which knows nothing."""
        self.headroom = Headroom(Capacity(cpu_millis=4000, memory=2**30))
        context = Context(
            loop=self.loop,
            workers=cast("Any", self.workers),
            watches=cast("Any", None),
            facts=cast("Any", Facts()),
            headroom=self.headroom,
            recorder=self,
            backoff=cast("Any", None),
            started_ns=0,
            report=lambda _: None,
        )
        self.desired = Desired(context, str(self.path), lambda: None)
        self.pods = StoredPods(context, self.desired, lambda: None)

    def apply(self, name: str, cpu: int, at: str = "t0", **options: bool) -> str:
        """Apply a Pod; return its uid."""
        text = dump_pod(pod(name, cpu, **options))
        return apply(self.store, desired_object(text, text), at).object.uid

    def look(self) -> None:
        self.headroom.look(
            lambda: [Reservation(uid, ResourceList(cpu_millis=n)) for uid, n in self.held.items()]
        )
        self.pods.sync({})

    def begun(self) -> list[str]:
        """The uids of the Pods that are being made."""
        return [uid for _, uid in cast("Any", self.workers.ends)]

    def end(self, uid: str, failure: Failure | None) -> None:
        self.workers.ends.pop(("make", uid))(failure)

    def status(self, name: str) -> Any:
        key = ObjectKey(group="", kind="Pod", namespace="default", name=name)
        stored = self.store.find(key)
        return None if stored is None else msgspec.json.decode(stored.status)

    def told(self) -> list[str]:
        return [event.reason for event in self.events]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "objects.db")
    yield made
    made.desired.close()
    made.store.close()


def test_what_finds_no_room_waits_without_a_timer_and_is_made_when_there_is_some(world: World) -> None:
    uid = world.apply("a", 2000)
    world.held = {"other": 3000}
    for _ in range(3):
        world.look()
    assert (world.begun(), world.loop.next_due(), world.told()) == ([], None, ["FailedScheduling"])
    (condition,) = world.status("a")["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "PodScheduled",
        "False",
        "Unschedulable",
    )
    world.held = {"other": 3500}
    world.look()
    assert world.told() == ["FailedScheduling"] * 2, "what is lacking has changed"
    assert world.status("a")["conditions"][0]["lastTransitionTime"] == condition["lastTransitionTime"]
    world.held = {}
    world.look()
    assert world.begun() == [uid]


def test_a_new_supervisor_says_nothing_again(world: World) -> None:
    world.apply("a", 5000)
    world.look()
    world.desired.close()
    world.begin()
    world.look()
    assert world.told() == ["FailedScheduling"]


def test_in_order_of_creation_and_what_fits_may_pass(world: World) -> None:
    late = world.apply("a", 1000, "t4")
    world.apply("b", 5000, "t1")
    first = world.apply("z", 3000, "t2")
    world.apply("c", 3000, "t3")
    world.look()
    assert world.begun() == [first, late], "one after the other, each counted as soon as it is begun"
    assert world.told() == ["FailedScheduling"] * 2


def test_who_comes_too_late_waits_for_the_view_and_not_for_its_delay(world: World) -> None:
    uid = world.apply("a", 2000)
    world.look()
    world.end(uid, LACK)
    assert world.told() == ["FailedScheduling"]
    world.look()
    assert world.begun() == []
    assert world.loop.next_due() == world.now + SECOND, "by this view it fits: tried again, but not at once"
    world.held = {"other": 3000}
    world.look()
    assert world.loop.next_due() is None, "now it is seen what has come first"
    world.held = {}
    world.look()
    assert world.begun() == [uid]


def test_another_failure_is_tried_again_with_delays(world: World) -> None:
    uid = world.apply("a", 2000)
    for delay in (1, 2, 4):
        world.look()
        world.end(uid, Failure("ImageError", "no image"))
        world.look()
        assert (world.begun(), world.loop.next_due()) == ([], world.now + delay * SECOND)
        world.now += delay * SECOND
        world.loop.turn()
    assert set(world.told()) == {"FailedCreate"}


def test_best_effort_needs_no_room(world: World) -> None:
    world.held = {"other": 4000}
    world.apply("a", 9000)
    world.look()
    assert world.begun() == []
    uid = world.apply("a", 9000, best_effort=True)
    world.look()
    assert world.begun() == [uid]


def test_what_is_deleted_while_it_waits_is_gone(world: World) -> None:
    world.apply("a", 9000)
    world.look()
    key = ObjectKey(group="", kind="Pod", namespace="default", name="a")
    world.store.mark_deleted(key, "t1", 0, False)
    world.look()
    assert (world.status("a"), world.begun(), world.loop.next_due()) == (None, [], None)
