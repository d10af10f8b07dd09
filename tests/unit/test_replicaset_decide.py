"""The decisions of a ReplicaSet, rule by rule (section by section of Kubernetes' replica set controller)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pyrun.controllers.headroom import Room
from pyrun.controllers.ownership import adopted, owner_reference, pod_from_template, released
from pyrun.controllers.ranking import PodSummary
from pyrun.controllers.replicaset import (
    BURST,
    Decision,
    Deletion,
    DesiredSet,
    Now,
    Removal,
    decide,
    desired_set,
)
from pyrun.controllers.work import Work
from pyrun.errors import Conflict, StateError
from pyrun.spec.object import Json, ObjectKey, StoredObject
from pyrun.spec.pod import Container, Metadata, OwnerReference, Pod, PodSpec, PullPolicy
from pyrun.spec.replicaset import PodTemplate, ReplicaSet, ReplicaSetSpec
from pyrun.spec.selector import Selector
from pyrun.spec.status import Condition, Phase, ReplicaSetStatus

SECOND = 1_000_000_000
NOW = Now(1000 * SECOND, "2026-01-01T00:00:00Z")
LABELS = {"app": "web"}
SPEC = PodSpec(containers=(Container(name="c", image="i", image_pull_policy=PullPolicy.NEVER),))
TEMPLATE = PodTemplate(metadata=Metadata(labels=LABELS | {"tier": "1"}, annotations={"n": "1"}), spec=SPEC)
OTHER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="other", uid="other", controller=True)


def replica_set(**spec: Any) -> ReplicaSet:
    return ReplicaSet(
        metadata=Metadata(name="web"),
        spec=ReplicaSetSpec(**{"selector": Selector(match_labels=LABELS), "template": TEMPLATE} | spec),
    )


OWNER = owner_reference(replica_set(), "set")


def desired(replicas: int = 3, deletion: Deletion = Deletion.NONE, **spec: Any) -> DesiredSet:
    return DesiredSet(
        replica_set=replica_set(replicas=replicas, **spec), uid="set", generation=7, deletion=deletion
    )


def pod(uid: str, **fields: Any) -> PodSummary:
    """A replica that runs and has been ready for 100 s, unless it is said otherwise."""
    usual = {
        "name": f"web-{uid}",
        "labels": TEMPLATE.metadata.labels,
        "owner_references": (OWNER,),
        "phase": Phase.RUNNING,
        "ready": True,
        "ready_since_ns": NOW.ns - 100 * SECOND,
    }
    return PodSummary(uid=uid, **usual | fields)


def pods(*uids: str) -> list[PodSummary]:
    return [pod(uid) for uid in uids]


def removed(decision: Decision) -> tuple[str, ...]:
    return tuple(removal.uid for removal in decision.remove)


def after(seconds: float) -> Now:
    return Now(NOW.ns + int(seconds * SECOND), f"+{seconds:g}")


def test_as_many_as_wanted_is_nothing_to_do() -> None:
    decision = decide(desired(), pods("a", "b", "c"), Work(), NOW)
    assert decision == Decision(
        status=ReplicaSetStatus(
            replicas=3,
            fully_labeled_replicas=3,
            ready_replicas=3,
            available_replicas=3,
            observed_generation=7,
        ),
        work=Work(generation=7),
    )


# What counts as a replica, and what is done about it: wanted 2, "a" is well, and there is this one.
COUNTED = (
    ("running", {}, 0, ()),
    ("pending", {"phase": Phase.PENDING, "ready": False}, 0, ()),
    ("unknown", {"phase": Phase.UNKNOWN}, 0, ()),
    ("terminating", {"terminating": True}, 1, ()),
    ("failed is replaced and deleted", {"phase": Phase.FAILED}, 1, ("b",)),
    ("succeeded is replaced and deleted", {"phase": Phase.SUCCEEDED}, 1, ("b",)),
    ("failed and terminating", {"phase": Phase.FAILED, "terminating": True}, 1, ()),
    ("another set's", {"owner_references": (OTHER,)}, 1, ()),
    ("in another namespace", {"namespace": "test"}, 1, ()),
    ("one's own, in another namespace", {"namespace": "test", "owner_references": ()}, 1, ()),
)


@pytest.mark.parametrize(
    ("fields", "create", "gone"), [row[1:] for row in COUNTED], ids=[r[0] for r in COUNTED]
)
def test_what_counts(fields: dict[str, Any], create: int, gone: tuple[str, ...]) -> None:
    decision = decide(desired(2), [pod("a"), pod("b", **fields)], Work(), NOW)
    assert (decision.create, removed(decision)) == (create, gone)
    assert (decision.adopt, decision.release) == ((), ())
    assert decision.status.replicas == 2 - create


# Adoption and release: wanted 1, and there is only this one.
CLAIMS = (
    ("without controller is adopted", {"owner_references": ()}, ("a",), (), 0),
    (
        "an owner that does not control",
        {"owner_references": (msgspec.structs.replace(OTHER, controller=False),)},
        ("a",),
        (),
        0,
    ),
    ("labels that do not match", {"owner_references": (), "labels": {"app": "db"}}, (), (), 1),
    ("terminating is not adopted", {"owner_references": (), "terminating": True}, (), (), 1),
    ("failed is not adopted", {"owner_references": (), "phase": Phase.FAILED}, (), (), 1),
    ("its own whose labels stopped matching", {"labels": {"app": "debug"}}, (), ("a",), 1),
    ("that, failed: nor deleted", {"labels": {"app": "debug"}, "phase": Phase.FAILED}, (), ("a",), 1),
    ("that, terminating: let it go", {"labels": {}, "terminating": True}, (), (), 1),
    ("another's whose labels match", {"owner_references": (OTHER,)}, (), (), 1),
)


@pytest.mark.parametrize(
    ("fields", "adopt", "release", "create"), [row[1:] for row in CLAIMS], ids=[row[0] for row in CLAIMS]
)
def test_claims(
    fields: dict[str, Any], adopt: tuple[str, ...], release: tuple[str, ...], create: int
) -> None:
    decision = decide(desired(1), [pod("a", **fields)], Work(), NOW)
    assert (decision.adopt, decision.release, decision.create) == (adopt, release, create)
    assert decision.remove == ()


def test_an_extra_pod_that_matches_is_adopted_and_may_be_deleted_at_once() -> None:
    bare = pod("z", owner_references=(), phase=Phase.PENDING, ready=False)
    decision = decide(desired(2), [*pods("a", "b"), bare], Work(), NOW)
    assert (decision.adopt, removed(decision)) == (("z",), ("z",))


def test_too_many_go_by_their_rank() -> None:
    crowd = [*pods("a", "b"), pod("c", ready=False), pod("d", phase=Phase.PENDING, ready=False), pod("e")]
    decision = decide(desired(3), crowd, Work(), NOW)
    assert decision.remove == (
        Removal(uid="d", message="there are 5 replicas and 3 are wanted"),
        Removal(uid="c", message="there are 5 replicas and 3 are wanted"),
    )
    assert decision.work.deleting == {"c", "d"}
    assert decision.create == 0


def test_none_are_wanted() -> None:
    assert removed(decide(desired(0), pods("a", "b"), Work(), NOW)) == ("a", "b")


def test_what_is_being_deleted_counts_as_gone_even_if_it_is_still_seen() -> None:
    work = Work(deleting=frozenset("ab"))
    decision = decide(desired(3), pods("a", "b", "c", "d"), work, NOW)
    assert (removed(decision), decision.create) == ((), 1)
    assert (decision.status.replicas, decision.status.terminating_replicas) == (2, 2)


def test_while_some_are_being_created_no_other_is() -> None:
    work = Work(generation=7, creating=frozenset(("web-b", "web-x")), batch=2)
    decision = decide(desired(3), pods("a", "b"), work, NOW)
    assert (decision.create, removed(decision), decision.work) == (0, (), work)
    assert decide(desired(2), pods("a", "b"), work, NOW).remove == (), "the unseen one will be pending"
    assert removed(decide(desired(1), pods("a", "b"), work, NOW)) == ("a",)


def grow(want: DesiredSet, work: Work, there: list[PodSummary], now: Now) -> tuple[Decision, list[str]]:
    """Decide, and begin what is asked for under new names."""
    decision = decide(want, there, work, now)
    names = [f"web-{len(there) + i}" for i in range(decision.create)]
    return msgspec.structs.replace(decision, work=decision.work.begun(names)), names


def test_replicas_are_made_in_batches_that_double() -> None:
    want, work, there, sizes = desired(20), Work(), list[PodSummary](), []
    for _ in range(10):
        decision, names = grow(want, work, there, NOW)
        sizes.append(decision.create)
        assert decide(want, there, decision.work, NOW).create == 0, "one batch at a time"
        work = decision.work
        for name in names:
            work = work.created(name)
            there.append(pod(name.removeprefix("web-")))
    assert sizes == [1, 2, 4, 8, 5, 0, 0, 0, 0, 0]
    assert work == Work(generation=7, missing=5)


def test_one_decision_asks_for_500_at_most() -> None:
    assert decide(desired(3000), [], Work(generation=7, batch=400), NOW).create == BURST == 500
    many = pods(*(f"{n:04}" for n in range(1200)))
    decision = decide(desired(0), many, Work(), NOW)
    assert len(decision.remove) == 500
    assert decision.wake_ns is None
    assert len(decide(desired(0), many, decision.work, NOW).remove) == 500


def test_a_batch_that_fails_ends_the_round_and_the_next_one_waits_ever_longer() -> None:
    want, work, now, delays = desired(20), Work(), NOW, []
    for _ in range(9):
        decision, names = grow(want, work, [], now)
        assert decision.create == 1, "each round begins anew"
        work = decision.work.create_failed(names[0], "no image", now.ns)
        waiting = decide(want, [], work, now)
        assert waiting.create == 0
        assert waiting.wake_ns is not None
        delays.append((waiting.wake_ns - now.ns) / SECOND)
        assert decide(want, [], work, Now(waiting.wake_ns - 1, "")).create == 0
        now = Now(waiting.wake_ns, "")
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_failures_of_one_batch_count_once_and_are_waited_for() -> None:
    work = Work(generation=7, batch=4).begun(["web-0", "web-1", "web-2", "web-3"])
    work = work.created("web-0").create_failed("web-1", "first", NOW.ns)
    assert decide(desired(20), [], work, after(2)).create == 0, "two of the batch have not ended"
    work = work.create_failed("web-2", "second", after(3).ns).created("web-3")
    assert (work.creation.failures, work.creation.message) == (1, "second")
    assert decide(desired(20), [], work, after(3)).create == 1


def test_a_replica_that_dies_is_replaced_without_waiting_for_another_ones_failure() -> None:
    first = decide(desired(3), pods("a", "b"), Work(), NOW)
    work = first.work.begun(["web-x"]).create_failed("web-x", "no address", NOW.ns)
    assert decide(desired(3), pods("a", "b"), work, NOW).create == 0
    decision = decide(desired(3), pods("a"), work, NOW)
    assert decision.create == 1
    work = decision.work.begun(["web-y"]).create_failed("web-y", "no address", NOW.ns)
    assert (work.creation.failures, decide(desired(3), pods("a"), work, NOW).create) == (2, 0)


def test_a_changed_template_is_tried_at_once() -> None:
    work = Work(generation=6, batch=1).begun(["x"]).create_failed("x", "no image", NOW.ns)
    decision = decide(desired(1), [], work, NOW)
    assert decision.create == 1
    assert decision.status.conditions == ()


def test_failed_creations_are_a_condition_until_all_replicas_are_made() -> None:
    want = desired(2)
    work = decide(want, [], Work(), NOW).work.begun(["x"]).create_failed("x", "no image", NOW.ns)
    first = decide(want, [], work, NOW).status.conditions
    assert first == (
        Condition(
            type="ReplicaFailure",
            status="True",
            reason="FailedCreate",
            message="no image",
            last_transition_time=NOW.at,
        ),
    )
    other = Condition(type="Other", status="False")
    want = msgspec.structs.replace(want, conditions=(*first, other))
    again = decide(want, [], work, after(1))
    work = again.work.begun(["y"]).create_failed("y", "no space", after(1).ns)
    (kept, failure) = decide(want, [], work, after(1)).status.conditions
    assert kept == other
    assert (failure.message, failure.last_transition_time) == ("no space", NOW.at)
    work = decide(want, [], work, after(3)).work.begun(["z"]).created("z")
    assert len(decide(want, pods("a"), work, after(3)).status.conditions) == 2, "one is still missing"
    assert decide(want, pods("a", "b"), work, after(4)).status.conditions == (other,)


def test_no_more_are_made_than_have_room_and_the_set_says_so() -> None:
    want, full = desired(5), Room(count=0, lacking="cpu: 1 requested, 0 of 2 free")
    first = decide(want, pods("a"), Work(batch=2, generation=7), NOW, Room(count=3))
    assert (first.create, first.status.conditions) == (3, ())
    work = first.work.begun(["x", "y", "z"])
    (told,) = decide(want, pods("a"), work, NOW, full).status.conditions
    assert (told.reason, told.message) == (
        "Unschedulable",
        "no room for another Pod: cpu: 1 requested, 0 of 2 free",
    )
    rest = decide(want, pods("a"), msgspec.structs.replace(work, creating=frozenset()), NOW, full)
    assert (rest.create, rest.wake_ns) == (0, None), "whatever frees something has it decided again"
    want = msgspec.structs.replace(want, conditions=rest.status.conditions)
    later = decide(want, pods("a"), rest.work, after(5), Room(count=1))
    assert (later.create, later.status.conditions) == (1, ())
    assert decide(desired(1), pods("a"), Work(), NOW, full).status.conditions == ()


def test_what_is_being_made_and_seen_already_counts_once() -> None:
    full = Room(count=0, lacking="all")
    work = Work(generation=7).begun(["web-b"])
    assert decide(desired(2), pods("a", "b"), work, NOW, full).status.conditions == ()
    assert decide(desired(2), pods("a"), work, NOW, full).status.conditions == ()
    assert decide(desired(3), pods("a", "b"), work, NOW, full).status.conditions != ()


def test_room_forgets_failures_before_it() -> None:
    """A creation that came too late for the last room does not hold up the next."""
    work = decide(desired(1), [], Work(), NOW).work.begun(["x"]).create_failed("x", "no room", NOW.ns)
    full = decide(desired(1), [], work, NOW, Room(count=0, lacking="all"))
    assert decide(desired(1), [], full.work, NOW, Room(count=1)).create == 1


def test_failed_deletions_wait_and_are_a_condition_until_they_succeed() -> None:
    want = desired(1)
    decision = decide(want, pods("a", "b", "c"), Work(), NOW)
    work = decision.work.delete_failed("a", "busy", NOW.ns).delete_failed("b", "busy too", NOW.ns)
    waiting = decide(want, pods("a", "b", "c"), work, NOW)
    assert (waiting.remove, waiting.wake_ns) == ((), after(1).ns)
    (failure,) = waiting.status.conditions
    assert (failure.reason, failure.message) == ("FailedDelete", "busy too")
    again = decide(want, pods("a", "b", "c"), work, after(1))
    assert removed(again) == ("a", "b")
    work = again.work.delete_failed("a", "busy", after(1).ns).deleted("b")
    assert decide(want, pods("a", "c"), work, after(2)).wake_ns == after(3).ns
    done = decide(want, pods("c"), work, after(2))
    assert (done.status.conditions, done.work) == ((), Work(generation=7))


def test_failed_deletions_do_not_keep_replicas_from_being_made() -> None:
    work = Work().delete_failed("f", "busy", NOW.ns)
    decision = decide(desired(1), [pod("f", phase=Phase.FAILED)], work, NOW)
    assert (decision.create, decision.remove, decision.wake_ns) == (1, (), after(1).ns)


# minReadySeconds, how long each is ready, how many are available, when to look again.
AVAILABLE = (
    (0, (0, 5), 2, None),
    (10, (10, 9, 4), 1, 1),
    (10, (9.5, 4), 0, 0.5),
    (10, (10, 11), 2, None),
    (10, (), 0, None),
)


@pytest.mark.parametrize(("wait", "ages", "available", "wake"), AVAILABLE)
def test_a_replica_is_available_when_it_was_ready_for_long_enough(
    wait: int, ages: tuple[float, ...], available: int, wake: float | None
) -> None:
    there = [pod(f"{n}", ready_since_ns=after(-age).ns) for n, age in enumerate(ages)]
    there.append(pod("x", ready=False, ready_since_ns=0))
    decision = decide(desired(len(there), min_ready_seconds=wait), there, Work(), NOW)
    assert decision.status.ready_replicas == len(ages)
    assert decision.status.available_replicas == available
    assert decision.wake_ns == (None if wake is None else after(wake).ns)


def test_the_status_counts_what_was_seen() -> None:
    there = [
        pod("a"),
        pod("b", labels=LABELS),
        pod("c", ready=False),
        pod("d", terminating=True),
        pod("e", terminating=True, phase=Phase.FAILED),
        pod("f", phase=Phase.FAILED),
    ]
    assert decide(desired(1), there, Work(), NOW).status == ReplicaSetStatus(
        replicas=3,
        fully_labeled_replicas=2,
        ready_replicas=2,
        available_replicas=2,
        terminating_replicas=1,
        observed_generation=7,
    )


def test_a_set_that_is_deleted_takes_its_pods_with_it() -> None:
    want = desired(3, Deletion.BACKGROUND)
    there = [
        pod("a"),
        pod("b", phase=Phase.FAILED),
        pod("c", terminating=True),
        pod("d", labels={}),
        pod("bare", owner_references=()),
        pod("other", owner_references=(OTHER,)),
    ]
    decision = decide(want, there, Work(), NOW)
    assert decision.remove == tuple(
        Removal(uid=uid, message="its ReplicaSet is being deleted") for uid in ("a", "b", "d")
    )
    assert (decision.adopt, decision.release, decision.create, decision.finished) == ((), (), 0, False)
    ending = [msgspec.structs.replace(there[0], terminating=True), *there[-2:]]
    assert not decide(want, ending, decision.work, NOW).finished, "it is not gone yet"
    assert decide(want, there[-2:], Work(), NOW).finished
    assert not decide(want, there[-2:], Work().begun(["web-x"]), NOW).finished, "one is still being made"


def test_a_deleted_set_whose_pods_cannot_be_deleted_waits() -> None:
    want = desired(1, Deletion.BACKGROUND)
    work = decide(want, pods("a"), Work(), NOW).work.delete_failed("a", "busy", NOW.ns)
    decision = decide(want, pods("a"), work, NOW)
    assert (decision.remove, decision.wake_ns, decision.finished) == ((), after(1).ns, False)
    assert decision.status.conditions[0].reason == "FailedDelete"


@pytest.mark.parametrize("deletion", [Deletion.BACKGROUND, Deletion.ORPHAN])
def test_creations_that_have_failed_are_no_concern_of_a_set_that_goes(deletion: Deletion) -> None:
    work = Work(generation=7, batch=2).begun(["x", "y"]).create_failed("x", "no image", NOW.ns)
    decision = decide(desired(2, deletion), [], work, NOW)
    assert (decision.status.conditions, decision.wake_ns, decision.finished) == ((), None, False)
    late = decision.work.create_failed("y", "no image", NOW.ns)
    assert decide(desired(2, deletion), [], late, NOW).status.conditions == ()


def test_a_set_that_is_deleted_as_orphaning_releases_its_pods() -> None:
    want = desired(3, Deletion.ORPHAN)
    there = [
        pod("a"),
        pod("b", phase=Phase.FAILED),
        pod("c", terminating=True),
        pod("bare", owner_references=()),
    ]
    decision = decide(want, there, Work(), NOW)
    assert (decision.release, decision.remove, decision.adopt, decision.create) == (("a", "b"), (), (), 0)
    assert not decision.finished
    orphaned = [msgspec.structs.replace(p, owner_references=()) for p in there[:2]] + there[2:]
    assert decide(want, orphaned, Work(), NOW).finished
    assert not decide(want, orphaned, Work().begun(["web-x"]), NOW).finished
    heir = msgspec.structs.replace(desired(3), uid="heir")
    assert decide(heir, orphaned, Work(), NOW).adopt == ("a", "bare")


def test_a_replica_comes_from_the_template() -> None:
    made = pod_from_template(replica_set(), "set")
    assert made == Pod(
        metadata=Metadata(
            generate_name="web-",
            labels={"app": "web", "tier": "1"},
            annotations={"n": "1"},
            owner_references=(
                OwnerReference(
                    api_version="apps/v1",
                    kind="ReplicaSet",
                    name="web",
                    uid="set",
                    controller=True,
                    block_owner_deletion=True,
                ),
            ),
        ),
        spec=SPEC,
    )
    in_test = ReplicaSet(metadata=Metadata(name="web", namespace="test"), spec=replica_set().spec)
    assert pod_from_template(in_test, "set").metadata.namespace == "test"


def test_adopting_and_releasing_change_the_owner_alone() -> None:
    helper = msgspec.structs.replace(OTHER, uid="helper", controller=False)
    bare = Metadata(name="web-1", labels=LABELS, owner_references=(helper,))
    ours = adopted(bare, OWNER)
    assert ours.owner_references == (helper, OWNER)
    assert adopted(ours, OWNER) == ours
    assert released(ours, "set") == bare
    assert released(bare, "set") == bare
    with pytest.raises(Conflict, match='Pod "web-1" belongs to ReplicaSet "web" by now'):
        adopted(ours, OTHER)


STORED = StoredObject(
    key=ObjectKey(group="apps", kind="ReplicaSet", namespace="default", name="web"),
    version="v1",
    uid="set",
    resource_version=9,
    generation=7,
    created_at=NOW.at,
    applied=Json(b"{}"),
    spec=Json(b"{}"),
)


def test_a_stored_set_is_taken_up_where_it_was_left() -> None:
    assert desired_set(STORED, replica_set(replicas=3)) == desired()
    failing = Condition(type="ReplicaFailure", status="True", last_transition_time=NOW.at)
    status = Json(msgspec.json.encode(ReplicaSetStatus(replicas=1, conditions=(failing,))))
    known = desired_set(msgspec.structs.replace(STORED, status=status), replica_set())
    assert known.conditions == (failing,)
    going = msgspec.structs.replace(STORED, deleted_at=NOW.at)
    assert desired_set(going, replica_set()).deletion is Deletion.BACKGROUND
    orphaning = msgspec.structs.replace(going, orphan=True)
    assert desired_set(orphaning, replica_set()).deletion is Deletion.ORPHAN
    damaged = msgspec.structs.replace(STORED, status=Json(b'{"replicas":"many"}'))
    with pytest.raises(StateError, match='the status of ReplicaSet "default/web" cannot be read'):
        desired_set(damaged, replica_set())
