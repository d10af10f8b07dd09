"""A ReplicaSet in a world of its own: Pods die, creations fail, views are behind, people interfere.

The world keeps to what `Work` asks of a caller, and to nothing else: an entry is settled when its worker has
ended and the view was taken after that.
"""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyrun.controllers.headroom import Room
from pyrun.controllers.ownership import controller_of, owner_reference, pod_from_template
from pyrun.controllers.ranking import PodSummary
from pyrun.controllers.replicaset import Decision, Deletion, DesiredSet, Now, decide
from pyrun.controllers.work import Work
from pyrun.spec.pod import Container, Metadata, PodSpec, PullPolicy
from pyrun.spec.replicaset import PodTemplate, ReplicaSet, ReplicaSetSpec
from pyrun.spec.selector import Selector
from pyrun.spec.status import Condition, Phase

SECOND = 1_000_000_000
MIN_READY = 3
LABELS = {"app": "web"}
SPEC = PodSpec(containers=(Container(name="c", image="i", image_pull_policy=PullPolicy.NEVER),))
SET = ReplicaSet(
    metadata=Metadata(name="web"),
    spec=ReplicaSetSpec(
        selector=Selector(match_labels=LABELS),
        template=PodTemplate(metadata=Metadata(labels=LABELS), spec=SPEC),
        min_ready_seconds=MIN_READY,
    ),
)
OWNER = owner_reference(SET, "set")
PICK = st.integers(0, 1000)
PLENTY = 100


class Snapshot(msgspec.Struct, frozen=True):
    """All Pods as they were at one step."""

    step: int
    pods: tuple[PodSummary, ...]


class End(msgspec.Struct, frozen=True):
    """A worker that ended at a step: the creation of a name or the deletion of a uid, well or not."""

    step: int
    creation: bool
    what: str
    error: str


class World(RuleBasedStateMachine):
    """Pods by uid, workers that make and delete them, and the controller."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 1
        self.now_ns = 1000 * SECOND
        self.pods: dict[str, PodSummary] = {}
        self.replicas, self.generation, self.most = 0, 1, 0
        self.capacity = PLENTY
        self.bare = 0  # Pods that people have made or given matching labels: beyond the set's control
        self.conditions: tuple[Condition, ...] = ()
        self.work = Work()
        self.creating: list[str] = []
        self.deleting: list[str] = []
        self.ends: list[End] = []
        self.views: list[Snapshot] = [Snapshot(0, ())]
        self.number = 0

    # The world.

    def look(self) -> None:
        self.step += 1
        self.views.append(Snapshot(self.step, tuple(self.pods.values())))

    def replace(self, uid: str, **fields: object) -> None:
        self.pods[uid] = msgspec.structs.replace(self.pods[uid], **fields)

    def pick(self, choice: int) -> str:
        return sorted(self.pods)[choice % len(self.pods)]

    @rule(seconds=st.sampled_from([0.1, 1, 5, 70]))
    def time_passes(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)

    @initialize(replicas=st.integers(1, 9))
    def is_applied(self, replicas: int) -> None:
        self.scale(replicas)

    @rule(replicas=st.integers(0, 9))
    def scales(self, replicas: int) -> None:
        self.scale(replicas)

    def scale(self, replicas: int) -> None:
        self.replicas = replicas
        self.generation += 1
        self.most = max(self.most, replicas)

    @precondition(lambda self: self.pods)
    @rule(choice=PICK, phase=st.sampled_from([Phase.RUNNING, Phase.FAILED, Phase.SUCCEEDED, Phase.UNKNOWN]))
    def changes(self, choice: int, phase: Phase) -> None:
        """A Pod becomes ready, or is lost, or ends for good."""
        uid = self.pick(choice)
        if not self.pods[uid].finished():
            ready = phase is Phase.RUNNING
            self.replace(uid, phase=phase, ready=ready, ready_since_ns=self.now_ns)
            self.look()

    @precondition(lambda self: self.pods)
    @rule(choice=PICK)
    def is_removed_by_hand(self, choice: int) -> None:
        del self.pods[self.pick(choice)]
        self.look()

    @precondition(lambda self: self.pods)
    @rule(choice=PICK)
    def begins_to_terminate_by_hand(self, choice: int) -> None:
        self.replace(self.pick(choice), terminating=True)
        self.look()

    @precondition(lambda self: self.pods)
    @rule(choice=PICK, app=st.sampled_from(["web", "debug"]))
    def is_labelled(self, choice: int, app: str) -> None:
        uid = self.pick(choice)
        self.bare += app == "web" and self.pods[uid].labels != LABELS
        self.replace(uid, labels={"app": app})
        self.look()

    @precondition(lambda self: self.bare < 5)
    @rule()
    def somebody_makes_one(self) -> None:
        self.number += 1
        self.bare += 1
        uid = f"bare-{self.number}"
        self.pods[uid] = PodSummary(uid=uid, name=uid, labels=LABELS, created_ns=self.now_ns)
        self.look()

    @rule(capacity=st.integers(0, 12) | st.just(PLENTY))
    def has_room_for(self, capacity: int) -> None:
        """The host has room for so many Pods, whosever they are."""
        self.capacity = capacity

    def room(self, pods: tuple[PodSummary, ...]) -> Room:
        """What a view shows of the room for more."""
        held = {pod.name for pod in pods if not pod.finished()} | set(self.creating)
        count = max(self.capacity - len(held), 0)
        return Room(count=count, lacking="" if count else "all is taken")

    # Workers.

    def end(self, creation: bool, what: str, error: str = "") -> None:
        self.ends.append(End(self.step, creation, what, error))
        self.look()

    @precondition(lambda self: self.creating)
    @rule(choice=PICK)
    def a_creation_gets_so_far_that_its_pod_is_seen(self, choice: int) -> None:
        name = self.creating[choice % len(self.creating)]
        self.appears(name)

    def appears(self, name: str) -> None:
        if not any(pod.name == name for pod in self.pods.values()):
            metadata = pod_from_template(SET, "set").metadata
            self.pods[f"uid-{name}"] = PodSummary(
                uid=f"uid-{name}",
                name=name,
                labels=metadata.labels,
                owner_references=metadata.owner_references,
                created_ns=self.now_ns,
            )
            self.look()

    @precondition(lambda self: self.creating)
    @rule(choice=PICK, works=st.booleans())
    def a_creation_ends(self, choice: int, works: bool) -> None:
        name = self.creating.pop(choice % len(self.creating))
        if works:
            self.appears(name)
        else:
            self.pods.pop(f"uid-{name}", None)
        self.end(True, name, "" if works else "it cannot be made")

    @precondition(lambda self: self.deleting)
    @rule(choice=PICK, works=st.booleans())
    def a_deletion_ends(self, choice: int, works: bool) -> None:
        uid = self.deleting.pop(choice % len(self.deleting))
        if works:
            self.pods.pop(uid, None)
        self.end(False, uid, "" if works else "it cannot be deleted")

    # The controller.

    @rule(choice=PICK)
    def sync(self, choice: int) -> None:
        """Decide upon any view that is not older than the one before, and do what is decided."""
        del self.views[: choice % len(self.views)]
        self.act(Deletion.NONE)

    @rule()
    def sync_with_the_latest_view(self) -> None:
        self.views = self.views[-1:]
        self.act(Deletion.NONE)

    def act(self, deletion: Deletion) -> Decision:
        view = self.views[0]
        self.settle(view.step)
        desired = DesiredSet(
            replica_set=msgspec.structs.replace(
                SET, spec=msgspec.structs.replace(SET.spec, replicas=self.replicas)
            ),
            uid="set",
            generation=self.generation,
            deletion=deletion,
            conditions=self.conditions,
        )
        before = self.work
        room = self.room(view.pods)
        decision = decide(desired, view.pods, before, Now(self.now_ns, "now"), room)
        if deletion is Deletion.NONE:
            self.check(decision, view, before)
            assert decision.create <= room.count
        self.carry_out(decision)
        return decision

    def settle(self, step: int) -> None:
        for end in [end for end in self.ends if end.step < step]:
            self.ends.remove(end)
            match end.creation, bool(end.error):
                case True, False:
                    self.work = self.work.created(end.what)
                case True, True:
                    self.work = self.work.create_failed(end.what, end.error, self.now_ns)
                case False, False:
                    self.work = self.work.deleted(end.what)
                case _:
                    self.work = self.work.delete_failed(end.what, end.error, self.now_ns)

    def check(self, decision: Decision, view: Snapshot, before: Work) -> None:
        owned = {
            pod.uid: pod
            for pod in view.pods
            if pod.uid not in decision.release
            and (pod.uid in decision.adopt or controller_of(pod.owner_references) == OWNER)
        }
        active = {uid for uid, pod in owned.items() if pod.active() and uid not in before.deleting}
        removed = [removal.uid for removal in decision.remove]
        assert len(set(removed)) == len(removed)
        assert set(removed) <= owned.keys() - before.deleting, "only its own, and each once"
        assert len(active) - len(active & set(removed)) >= min(self.replicas, len(active))
        assert not (decision.create and active & set(removed)), "never both"
        assert not (decision.create and before.creating), "one batch at a time"
        assert decision.create <= max(2 * before.batch, 1)
        assert len(active) + decision.create <= max(self.replicas, len(active))
        assert decision.wake_ns is None or decision.wake_ns > self.now_ns
        assert decision.status.replicas == len(active)
        failing = decision.work.creation.failures or decision.work.deletion.failures
        lacking = self.room(view.pods).lacking and len(active) < self.replicas
        assert failing or lacking or not decision.status.conditions

    def carry_out(self, decision: Decision) -> None:
        for uid in {*decision.release, *decision.adopt} & self.pods.keys():
            owned = uid in decision.adopt and controller_of(self.pods[uid].owner_references) is None
            self.replace(uid, owner_references=(OWNER,) if owned else ())
        self.deleting += [removal.uid for removal in decision.remove]
        names = [f"web-{self.number + i}" for i in range(decision.create)]
        self.number += decision.create
        self.creating += names
        self.work = decision.work.begun(names)
        self.conditions = decision.status.conditions
        self.look()

    @invariant()
    def never_more_than_were_wanted_at_most(self) -> None:
        """However wrong the view: the real replicas, with those in the making. What people add is not counted."""
        made = {p.name for p in self.pods.values() if p.active() and controller_of(p.owner_references)}
        assert len(made.union(self.creating)) <= self.most + self.bare

    # The end: nothing goes wrong any more, and all must be well.

    def settle_down(self, deletion: Deletion) -> Decision:
        for _ in range(200):
            for name in self.creating:
                self.appears(name)
                self.end(True, name)
            for uid in self.deleting:
                self.pods.pop(uid, None)
                self.end(False, uid)
            self.creating, self.deleting = [], []
            for uid, pod in list(self.pods.items()):
                if pod.terminating:
                    del self.pods[uid]
                elif not pod.finished() and not pod.ready:
                    self.replace(uid, phase=Phase.RUNNING, ready=True, ready_since_ns=self.now_ns)
            self.look()
            self.views = self.views[-1:]
            decision = self.act(deletion)
            if decision.wake_ns is not None:
                self.now_ns = decision.wake_ns
            elif not (decision.create or decision.remove or decision.adopt or decision.release):
                return decision
        raise AssertionError(f"it does not come to rest: {decision}")

    def mine(self) -> list[PodSummary]:
        return [pod for pod in self.pods.values() if controller_of(pod.owner_references) == OWNER]

    def teardown(self) -> None:
        last = self.settle_down(Deletion.NONE)
        there = [pod for pod in self.mine() if pod.active()]
        assert len(there) == self.replicas or self.room(tuple(self.pods.values())).count == 0
        told = [condition.reason for condition in last.status.conditions]
        assert told == ["Unschedulable"] * (len(there) < self.replicas)
        self.capacity = PLENTY
        last = self.settle_down(Deletion.NONE)
        assert [pod.active() for pod in self.mine()] == [True] * self.replicas
        assert last.status.replicas == last.status.available_replicas == self.replicas
        assert (last.status.terminating_replicas, last.status.conditions) == (0, ())
        assert last.work == Work(generation=self.generation, missing=last.work.missing)
        strangers = {pod.uid for pod in self.pods.values()} - {pod.uid for pod in self.mine()}
        if self.number % 2:
            assert self.settle_down(Deletion.BACKGROUND).finished
            assert self.pods.keys() == strangers
        else:
            there = set(self.pods)
            assert self.settle_down(Deletion.ORPHAN).finished
            assert (self.pods.keys(), self.mine()) == (there, [])


World.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestWorld = World.TestCase
