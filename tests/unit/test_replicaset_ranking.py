"""Which replica goes first: each rule beside two Pods that differ in nothing that decides before it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.controllers.ranking import DELETION_COST, PodSummary, deletion_cost, deletion_order
from pyrun.spec.status import Phase

SECOND = 1_000_000_000
NOW = 1 << 50
POD = PodSummary(
    uid="m", name="web", phase=Phase.RUNNING, ready=True, ready_since_ns=NOW - 512, created_ns=NOW - 4096
)


def cost(text: str) -> dict[str, dict[str, str]]:
    return {"annotations": {DELETION_COST: text}}


RULES = (
    ("pending before unknown", {"phase": Phase.PENDING}, {"phase": Phase.UNKNOWN}),
    ("unknown before running", {"phase": Phase.UNKNOWN}, {}),
    ("pending before running, whatever it costs", {"phase": Phase.PENDING} | cost("9"), {}),
    ("not ready before ready", {"ready": False}, {}),
    ("not ready before ready, whatever it costs", {"ready": False} | cost("9"), cost("-9")),
    ("cheaper before dearer", cost("-1"), {}),
    ("free before dear", {}, cost("1")),
    ("cheap before young", {"ready_since_ns": NOW - 10**9}, cost("1")),
    ("ready for less time", {"ready_since_ns": NOW - 511, "restarts": 0}, {"restarts": 5}),
    ("ready in the future is no time", {"ready_since_ns": NOW + 1}, {"ready_since_ns": NOW - 1}),
    ("more restarts, of equal readiness", {"restarts": 2, "created_ns": 0}, {"restarts": 1}),
    ("more restarts, in one power of two", {"restarts": 2}, {"ready_since_ns": NOW - 1023 + 0}),
    ("newer", {"created_ns": NOW - 4095}, {}),
    (
        "newer, neither ready, whatever they were",
        {"ready": False, "created_ns": NOW - 5, "ready_since_ns": 0},
        {"ready": False},
    ),
    ("uid, within one power of two", {"uid": "a", "created_ns": NOW - 8191}, {"uid": "b"}),
    ("uid, ready within one power of two", {"uid": "a", "ready_since_ns": NOW - 1023}, {"uid": "b"}),
)


@pytest.mark.parametrize(("first", "second"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_each_rule(first: dict[str, object], second: dict[str, object]) -> None:
    # The uids say the opposite, unless the rule is about them.
    goes = msgspec.structs.replace(POD, **{"uid": "z"} | first)
    stays = msgspec.structs.replace(POD, **{"uid": "y"} | second)
    assert deletion_order([goes, stays], NOW) == [goes, stays]
    assert deletion_order([stays, goes], NOW) == [goes, stays]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("10", 10),
        ("-10", -10),
        ("2147483647", 2147483647),
        ("-2147483648", -2147483648),
        ("2147483648", 0),
        ("99999999999999999999", 0),
        ("+1", 0),
        ("01", 0),
        ("-0", 0),
        ("1.5", 0),
        ("", 0),
        ("dear", 0),
        ("1\n", 0),
        ("٣", 0),
    ],
)
def test_the_cost_of_a_deletion(text: str, expected: int) -> None:
    assert deletion_cost(msgspec.structs.replace(POD, annotations={DELETION_COST: text})) == expected


def test_without_the_annotation_a_deletion_costs_nothing() -> None:
    assert deletion_cost(POD) == 0


PODS = st.builds(
    PodSummary,
    uid=st.uuids().map(str),
    name=st.just("web"),
    phase=st.sampled_from([Phase.PENDING, Phase.UNKNOWN, Phase.RUNNING]),
    ready=st.booleans(),
    ready_since_ns=st.integers(NOW - 8, NOW + 1),
    created_ns=st.integers(NOW - 8, NOW + 1),
    restarts=st.integers(0, 2),
    annotations=st.sampled_from([{}, {DELETION_COST: "1"}, {DELETION_COST: "-1"}]),
)


@given(pods=st.lists(PODS, max_size=12, unique_by=lambda pod: pod.uid), data=st.data())
def test_the_order_is_one_whatever_order_the_pods_come_in(
    pods: list[PodSummary], data: st.DataObject
) -> None:
    assert deletion_order(data.draw(st.permutations(pods)), NOW) == deletion_order(pods, NOW)


@pytest.mark.parametrize(
    ("phase", "terminating", "active", "finished"),
    [
        (Phase.PENDING, False, True, False),
        (Phase.RUNNING, False, True, False),
        (Phase.UNKNOWN, False, True, False),
        (Phase.RUNNING, True, False, False),
        (Phase.FAILED, False, False, True),
        (Phase.SUCCEEDED, False, False, True),
    ],
)
def test_what_counts_as_a_replica(phase: Phase, terminating: bool, active: bool, finished: bool) -> None:
    pod = msgspec.structs.replace(POD, phase=phase, terminating=terminating)
    assert (pod.active(), pod.finished()) == (active, finished)
