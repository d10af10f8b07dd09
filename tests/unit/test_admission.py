"""The ledger of requests: what is counted, what fits, what is looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.errors import Conflict, StateError, Unschedulable
from pyrun.runtime import admission
from pyrun.runtime.pods import PodDirectory, pod_directories
from pyrun.spec.annotations import BEST_EFFORT
from pyrun.spec.effective import Shortage, fits, sum_of
from pyrun.spec.layout import Layout
from pyrun.spec.pod import Container, Metadata, Pod, PodSpec, PullPolicy
from pyrun.spec.resources import Capacity, ResourceList, ResourceRequirements
from pyrun.state.records import PodRecord, write_record

GI = 2**30
ROOM = Capacity(cpu_millis=2000, memory=4 * GI)


def pod(name: str, *cpus: int, memory: int | None = None, best_effort: bool = False) -> Pod:
    """A Pod with a container for each amount of CPU; 0 is none."""
    return Pod(
        metadata=Metadata(name=name, annotations={BEST_EFFORT: "true"} if best_effort else {}),
        spec=PodSpec(
            containers=tuple(
                Container(
                    name=f"c{index}",
                    image="box",
                    image_pull_policy=PullPolicy.IF_NOT_PRESENT,
                    resources=ResourceRequirements(
                        requests=ResourceList(cpu_millis=cpu or None, memory=memory)
                    ),
                )
                for index, cpu in enumerate(cpus)
            )
        ),
    )


def record(layout: Layout, wanted: Pod, *, unreserved: Sequence[str] = ()) -> PodDirectory:
    """Write the record of a Pod, which is half made: nothing else is there of it."""
    directory = PodDirectory(layout, f"uid-{wanted.metadata.name}")
    os.makedirs(directory.path)
    write_record(f"{directory.path}/pod.json", a_record(directory.uid, wanted, unreserved))
    return directory


def a_record(uid: str, wanted: Pod, unreserved: Sequence[str] = ()) -> PodRecord:
    return PodRecord(uid=uid, pod=wanted, created_at="", created_ns=0, unreserved=tuple(unreserved))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(str(tmp_path / "root"), str(tmp_path / "state"))


def test_what_half_made_pods_ask_for_is_reserved(layout: Layout) -> None:
    record(layout, pod("a", 300, 200, memory=GI))
    record(layout, pod("b", 250))
    record(layout, pod("c", 0))
    assert admission.reserved(layout) == ResourceList(cpu_millis=750, memory=2 * GI)
    assert admission.reserved(layout, "uid-a") == ResourceList(cpu_millis=250)
    assert admission.reserved(Layout.of("/nowhere", "/nowhere")) == ResourceList()


def test_a_pod_that_runs_without_its_requests_holds_none(layout: Layout) -> None:
    record(layout, pod("greedy", 64000), unreserved=("cpu: 64 requested, 2 of 2 free",))
    assert admission.reserved(layout) == ResourceList()


def test_what_is_lacking_is_said_of_each_resource(layout: Layout) -> None:
    record(layout, pod("a", 1500, memory=3 * GI))
    wanted = ResourceList(cpu_millis=600, memory=2 * GI)
    found = admission.shortages(wanted, ROOM, layout)
    assert found == (
        Shortage("cpu", 600, 1500, 2000),
        Shortage("memory", 2 * GI, 3 * GI, 4 * GI),
    )
    assert [str(one) for one in found] == [
        "cpu: 600m requested, 500m of 2 free",
        "memory: 2Gi requested, 1Gi of 4Gi free",
    ]
    assert admission.shortages(wanted, ROOM, layout, "uid-a") == ()


def test_more_reserved_than_there_is_leaves_nothing() -> None:
    assert str(Shortage("cpu", 1, 3000, 2000)) == "cpu: 1m requested, 0 of 2 free"


def test_who_asks_for_nothing_reads_no_record(layout: Layout) -> None:
    broken = record(layout, pod("broken", 100))
    Path(broken.path, "pod.json").write_text("{")
    assert admission.shortages(ResourceList(), ROOM, layout) == ()
    mine = PodDirectory(layout, "mine")
    os.makedirs(mine.path)
    admission.reserve(mine, a_record("mine", pod("mine", 0)), ROOM)
    assert not os.path.exists(admission.lock_path(layout))


def test_a_record_that_cannot_be_read_may_hold_anything(layout: Layout) -> None:
    broken = record(layout, pod("broken", 100))
    Path(broken.path, "pod.json").write_text("{")
    with pytest.raises(StateError, match=r"uid-broken/pod\.json"):
        admission.shortages(ResourceList(cpu_millis=1), ROOM, layout)


def test_a_refused_pod_reserves_nothing(layout: Layout) -> None:
    record(layout, pod("a", 1500))
    mine = PodDirectory(layout, "mine")
    os.makedirs(mine.path)
    with pytest.raises(Unschedulable, match=r'Pod "b": cpu: 501m requested, 500m of 2 free') as refused:
        admission.reserve(mine, a_record("mine", pod("b", 501)), ROOM)
    assert refused.value.exit_code == 3
    assert refused.value.hint is not None
    assert "remove another Pod" in refused.value.hint and "--best-effort" in refused.value.hint
    assert mine.record() is None
    admission.reserve(mine, a_record("mine", pod("b", 500)), ROOM)
    assert admission.reserved(layout) == ResourceList(cpu_millis=2000)


def test_who_asks_for_more_than_there_is_is_not_told_to_make_room() -> None:
    error = admission.unschedulable((pod("a", 9000),), (Shortage("cpu", 9000, 0, 2000),))
    assert error.hint == "ask for less than there is, or run it without a guarantee: --best-effort"


def test_best_effort_is_admitted_and_reserves_nothing(layout: Layout) -> None:
    record(layout, pod("a", 1500))
    mine = PodDirectory(layout, "mine")
    os.makedirs(mine.path)
    admission.reserve(mine, a_record("mine", pod("b", 64000, best_effort=True)), ROOM)
    written = mine.record()
    assert written is not None
    assert written.unreserved == ("cpu: 64 requested, 500m of 2 free",)
    assert admission.reserved(layout) == ResourceList(cpu_millis=1500)


def test_best_effort_that_fits_reserves_like_any_other(layout: Layout) -> None:
    mine = PodDirectory(layout, "mine")
    os.makedirs(mine.path)
    admission.reserve(mine, a_record("mine", pod("b", 1500, best_effort=True)), ROOM)
    assert admission.reserved(layout) == ResourceList(cpu_millis=1500)


def test_a_name_that_is_taken_is_told_before_a_lack_of_room(layout: Layout) -> None:
    os.makedirs(layout.names("default"))
    Path(layout.names("default"), "b").write_text("other")
    lacking = (Shortage("cpu", 2, 1, 2),)
    with pytest.raises(Conflict, match='a Pod named "b" exists already'):
        admission.refuse((pod("a", 1), pod("b", 1)), lacking, layout)
    with pytest.raises(Unschedulable, match="the 2 Pods together: cpu"):
        admission.refuse((pod("a", 1), pod("", 1)), lacking, layout)
    admission.refuse((pod("b", 1),), (), layout)


amounts_of = st.builds(
    ResourceList,
    cpu_millis=st.none() | st.integers(1, 3000),
    memory=st.none() | st.integers(1, 6 * GI),
    hugepages=st.sampled_from(((), ((2**21, 2**21),), ((2**21, 2**22), (2**30, 2**30)))),
)


@given(st.lists(amounts_of, max_size=12))
def test_in_whatever_order_pods_come_what_is_admitted_fits_together(requests: list[ResourceList]) -> None:
    room = Capacity(cpu_millis=2000, memory=4 * GI, hugepages=((2**21, 2**22),))
    held: list[ResourceList] = []
    for request in requests:
        if not fits(request, room, sum_of(held)):
            held.append(request)
    assert fits(sum_of(held), room, ResourceList()) == ()


@given(amounts_of, st.lists(amounts_of, max_size=4))
def test_a_shortage_is_of_what_was_asked_for_and_is_real(
    request: ResourceList, held: list[ResourceList]
) -> None:
    for lack in fits(request, ROOM, sum_of(held)):
        assert lack.requested > lack.capacity - lack.reserved
        assert 0 <= lack.free <= lack.capacity
        assert lack.free < lack.requested


def test_reservations_of_many_processes_never_exceed_what_there_is(layout: Layout) -> None:
    """Twelve processes that begin at the same moment, again and again; three of them fit."""
    for turn in range(5):
        begin, go = os.pipe()
        children = []
        for number in range(12):
            uid = f"{turn}-{number}"
            pid = os.fork()
            if pid == 0:
                code = 9
                try:
                    os.close(go)
                    mine = PodDirectory(layout, uid)
                    os.makedirs(mine.path)
                    os.read(begin, 1)  # until the other end is closed
                    admission.reserve(mine, a_record(uid, pod(uid, 600)), ROOM)
                    code = 0
                except Unschedulable:
                    code = 3
                finally:
                    os._exit(code)
            children.append(pid)
        os.close(begin)
        os.close(go)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)
        assert codes == [0] * 3 + [3] * 9
        assert admission.reserved(layout) == ResourceList(cpu_millis=1800)
        for directory in pod_directories(layout):
            shutil.rmtree(directory.path)
