"""What the supervisor sees of the room for more Pods, and what it says of those that find none."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from pyrun.controllers.headroom import Headroom, Reservation, Room
from pyrun.controllers.refusal import refused_status
from pyrun.controllers.workers import Failure
from pyrun.spec.object import Json
from pyrun.spec.resources import Capacity, ResourceList
from pyrun.spec.status import Phase
from tests.unit.test_admission import GI, pod

ROOM = Capacity(cpu_millis=4000, memory=4 * GI)


def cpus(millis: int) -> ResourceList:
    return ResourceList(cpu_millis=millis)


def test_what_is_seen_and_what_is_begun_is_taken() -> None:
    headroom = Headroom(ROOM)
    assert headroom.room(pod("x", 1000), 9) == Room(count=4)
    headroom.look(lambda: (Reservation("a", cpus(1000)), Reservation("b", cpus(500))))
    assert headroom.room(pod("x", 1000), 9) == Room(count=2)
    headroom.begin("c", pod("c", 2500))
    assert headroom.room(pod("x", 1000), 9) == Room(count=0, lacking="cpu: 1 requested, 0 of 4 free")
    headroom.end("c")
    assert headroom.shortages(cpus(2500)) == ()


def test_what_is_being_made_and_is_seen_already_counts_once() -> None:
    headroom = Headroom(ROOM)
    headroom.begin("a", pod("a", 3000))
    headroom.look(lambda: (Reservation("a", cpus(3000)),))
    assert headroom.room(pod("x", 1000), 9).count == 1
    headroom.end("a")
    assert headroom.room(pod("x", 1000), 9).count == 1


def test_nobody_is_asked_for_what_is_not_needed() -> None:
    asked: list[int] = []

    def seen() -> Iterator[Reservation]:
        asked.append(1)
        yield Reservation("a", cpus(1))

    headroom = Headroom(ROOM)
    headroom.look(seen)
    assert (
        headroom.room(pod("x", 0), 7) == headroom.room(pod("x", 9000, best_effort=True), 7) == Room(count=7)
    )
    assert not asked
    for _ in range(3):
        headroom.room(pod("x", 1), 7)
    assert len(asked) == 1


NOTHING = Json(b"{}")


@pytest.mark.parametrize(
    ("kind", "reason", "conditions"),
    [
        ("Unschedulable", "", {"PodScheduled": ("False", "Unschedulable")}),
        ("Unsupported", "FailedCreate", {"PodScheduled": ("False", "Unschedulable")}),
        (
            "ControllersMissing",
            "FailedCreate",
            {
                "pyrun.io/ResourcesApplied": ("False", "ControllersMissing"),
                "PodScheduled": ("False", "Unschedulable"),
            },
        ),
        (
            "ImageError",
            "FailedCreate",
            {"PodReadyToStartContainers": ("False", "FailedCreate"), "PodScheduled": ("True", "")},
        ),
    ],
)
def test_a_refusal_is_a_condition(kind: str, reason: str, conditions: dict[str, tuple[str, str]]) -> None:
    status = refused_status(Failure(kind, "why"), NOTHING, "t1")
    assert (status.phase, status.reason, status.message) == (Phase.PENDING, reason, "why")
    assert {c.type: (c.status, c.reason) for c in status.conditions} == conditions
    assert all(c.message == "why" for c in status.conditions if c.status == "False")


def test_a_condition_keeps_the_time_since_when_it_holds() -> None:
    first = refused_status(Failure("Unschedulable", "one"), NOTHING, "t1")
    second = refused_status(Failure("Unschedulable", "two"), Json(msgspec.json.encode(first)), "t2")
    assert [(c.message, c.last_transition_time) for c in second.conditions] == [("two", "t1")]
    third = refused_status(Failure("ImageError", "no"), Json(msgspec.json.encode(second)), "t3")
    assert [c.last_transition_time for c in third.conditions] == ["t3", "t3"]
    assert refused_status(Failure("ImageError", "no"), Json(b"damaged"), "t4").conditions
