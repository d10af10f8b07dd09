"""Resources in plans: tiers, the order from the top down, what a host cannot give."""

from __future__ import annotations

import msgspec
import pytest

from pyrun.cgroups.controllers import CONTROLLERS
from pyrun.cgroups.delegation import Owner, Place, VacateCgroup
from pyrun.cgroups.group import CreateCgroup, CreateLeaf
from pyrun.cgroups.scope import EnsureScope
from pyrun.cgroups.setting import EnableControllers, SetCgroup
from pyrun.cgroups.tier import WeighTier
from pyrun.kernel.operation import Operation
from pyrun.pause.sandbox import SpawnPause
from pyrun.plan.container import plan_container
from pyrun.plan.convert import sandbox_of
from pyrun.plan.host import HostFacts
from pyrun.plan.resources import left_out, set_oom_score
from pyrun.plan.sandbox import plan_sandbox, sandbox_facts
from pyrun.plan.session import SessionRequest, plan_session
from pyrun.process.container import SpawnContainer
from pyrun.security.oom import SetOomScore
from pyrun.spec.capability import ALL_CAPABILITIES
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.container import ContainerConfig, Process, Root
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.pod import Container, Metadata, Pod, PodSpec, PullPolicy
from pyrun.spec.resources import Capacity, ResourceList, ResourceRequirements

LAYOUT = Layout()
HOST = HostFacts(
    layout=LAYOUT,
    place=Place(parent="/cg", controllers=CONTROLLERS),
    capacity=Capacity(cpu_millis=4000, memory=16 << 30),
    capabilities=ALL_CAPABILITIES,
    limits=(),
    network=NetworkConfig.of(LAYOUT.name, LAYOUT.state),
    hostname="host",
)
NOTHING = msgspec.structs.replace(HOST, place=Place(parent="/cg"))

BOTH = ResourceList(cpu_millis=100, memory=1 << 26)
GUARANTEED = ResourceRequirements(requests=BOTH, limits=BOTH)
BURSTABLE = ResourceRequirements(requests=ResourceList(cpu_millis=100))
BEST_EFFORT = ResourceRequirements()

TIER_OF = [
    (GUARANTEED, "/cg/pyrun"),
    (BURSTABLE, "/cg/pyrun/burstable"),
    (BEST_EFFORT, "/cg/pyrun/besteffort"),
]


def pod(resources: ResourceRequirements) -> Pod:
    container = Container(name="app", image="i", image_pull_policy=PullPolicy.NEVER, resources=resources)
    return Pod(metadata=Metadata(name="p"), spec=PodSpec(containers=(container,)))


def config(resources: LinuxResources) -> ContainerConfig:
    return ContainerConfig(
        name="app",
        root=Root(layers_dir="/l", layers=("a",)),
        process=Process(args=("x",), env=()),
        resources=resources,
    )


def sandbox_plan(resources: ResourceRequirements, host: HostFacts = HOST) -> tuple[Operation, ...]:
    return plan_sandbox(sandbox_of(pod(resources), "u", host.capacity), host)


def owned(owner: Owner, *controllers: str) -> HostFacts:
    return msgspec.structs.replace(HOST, place=Place(parent="/cg", owner=owner, controllers=controllers))


@pytest.mark.parametrize(("resources", "tier"), TIER_OF)
def test_the_class_of_a_pod_is_in_the_path_of_its_cgroup(resources: ResourceRequirements, tier: str) -> None:
    facts = sandbox_facts(sandbox_of(pod(resources), "u", HOST.capacity), HOST)
    assert facts.cgroup == f"{tier}/u"
    plan = sandbox_plan(resources)
    assert CreateCgroup("/cg/pyrun", f"{tier}/u".removeprefix("/cg/pyrun/")) in plan
    assert [o.path for o in plan if isinstance(o, CreateLeaf)] == [f"{tier}/u/pause", f"{tier}/u/monitors"]


@pytest.mark.parametrize(("resources", "tier"), TIER_OF)
def test_controllers_come_from_the_top_down_to_a_pod_without_processes(
    resources: ResourceRequirements, tier: str
) -> None:
    plan = sandbox_plan(resources)
    groups = [o.group for o in plan if isinstance(o, EnableControllers)]
    assert groups == list(dict.fromkeys(("/cg", "/cg/pyrun", tier, f"{tier}/u")))
    kinds = [type(o) for o in plan]
    made, first, last = (
        kinds.index(CreateCgroup),
        kinds.index(EnableControllers),
        len(kinds) - 1 - kinds[::-1].index(EnableControllers),
    )
    assert made < first  # what is shared stays, now that a group is in it
    assert last < kinds.index(CreateLeaf) < kinds.index(SpawnPause)


def test_what_limits_need_must_come_and_the_rest_may() -> None:
    for operation in sandbox_plan(GUARANTEED):
        if isinstance(operation, EnableControllers):
            assert operation.controllers == ("cpu", "memory")
            assert set(operation.optional) == set(CONTROLLERS) - {"cpu", "memory"}
    needed = [o.controllers for o in sandbox_plan(BURSTABLE) if isinstance(o, EnableControllers)]
    assert needed == [()] * 4, "requests are no limits"


def test_settings_of_the_pod_and_the_weight_of_its_tier() -> None:
    guaranteed = [(o.group, o.file) for o in sandbox_plan(GUARANTEED) if isinstance(o, SetCgroup)]
    assert ("/cg/pyrun/u", "cpu.max") in guaranteed and ("/cg/pyrun/u", "memory.max") in guaranteed
    assert not [group for group, _ in guaranteed if group != "/cg/pyrun/u"]
    assert WeighTier("/cg/pyrun/burstable", "u", 100) in sandbox_plan(BURSTABLE)
    assert SetCgroup("/cg/pyrun/besteffort", "cpu.weight", "1") in sandbox_plan(BEST_EFFORT)


def test_a_container_has_its_settings_before_it_is_born() -> None:
    facts = sandbox_facts(sandbox_of(pod(GUARANTEED), "u", HOST.capacity), HOST)
    plan = plan_container(config(LinuxResources(memory_max=4096, pids_max=3)), facts, HOST, 0)
    written = [(o.group, o.file, o.value) for o in plan if isinstance(o, SetCgroup)]
    leaf = "/cg/pyrun/u/ctr-app"
    assert written == [(leaf, "memory.max", "4096"), (leaf, "pids.max", "3")]
    kinds = [type(o) for o in plan]
    assert kinds.index(CreateLeaf) < kinds.index(SetCgroup) < kinds.index(SpawnContainer)


@pytest.mark.parametrize(("owner", "kind"), [(Owner.CONTAINER, VacateCgroup), (Owner.SYSTEMD, EnsureScope)])
def test_who_looks_after_the_tree_is_asked_first(owner: Owner, kind: type[Operation]) -> None:
    plan = sandbox_plan(BEST_EFFORT, owned(owner, "memory"))
    kinds = [type(o) for o in plan]
    assert kinds.index(kind) < kinds.index(CreateCgroup)
    assert {VacateCgroup, EnsureScope} & set(kinds) == {kind}
    assert not {VacateCgroup, EnsureScope} & {type(o) for o in sandbox_plan(BEST_EFFORT)}


def test_nobody_is_moved_where_there_is_no_controller() -> None:
    assert VacateCgroup not in {type(o) for o in sandbox_plan(BEST_EFFORT, owned(Owner.CONTAINER))}


def test_without_controllers_nothing_is_written() -> None:
    plan = sandbox_plan(GUARANTEED, NOTHING)
    assert not [o for o in plan if isinstance(o, SetCgroup | EnableControllers | WeighTier)]
    assert CreateCgroup("/cg/pyrun", "u") in plan


@pytest.mark.parametrize(
    ("resources", "missing"),
    [
        (LinuxResources(cpu_weight=1, memory_low=5, oom_group=True, swap_max=0, oom_score_adj=1000), ()),
        (LinuxResources(memory_max=1), ("memory.max",)),
        (LinuxResources(memory_high=1), ("memory.high",)),
        (LinuxResources(memory_min=1), ("memory.min",)),
        (LinuxResources(swap_max=1), ("memory.swap.max",)),
        (LinuxResources(cpu_quota_us=1), ("cpu.max",)),
        (LinuxResources(pids_max=1), ("pids.max",)),
        (LinuxResources(cpuset_cpus="0"), ("cpuset.cpus",)),
        (LinuxResources(io_weight=1), ("io.weight",)),
        (LinuxResources(io_max=("8:0 rbps=1",)), ("io.max",)),
        (LinuxResources(hugetlb=(("2MB", 0),)), ("hugetlb.2MB.rsvd.max", "hugetlb.2MB.max")),
    ],
)
def test_limits_are_missed_and_requests_are_not(resources: LinuxResources, missing: tuple[str, ...]) -> None:
    sandbox = sandbox_of(pod(BEST_EFFORT), "u", HOST.capacity)
    found = left_out(sandbox, (config(resources),), ())
    assert tuple(one.setting.file for one in found) == missing
    assert all(one.owner == 'container "app"' for one in found)
    assert not left_out(sandbox, (config(resources),), CONTROLLERS)


def test_what_is_missing_of_the_pod_itself_is_told_as_such() -> None:
    (cpu, memory) = left_out(sandbox_of(pod(GUARANTEED), "u", HOST.capacity), (), ("pids",))
    assert str(cpu) == "Pod: cpu.max 10000 100000 (controller cpu)"
    assert str(memory) == "Pod: memory.max 67108864 (controller memory)"


@pytest.mark.parametrize(
    ("wanted", "floor", "score"), [(-997, -1000, -997), (-997, 0, 0), (500, 0, 500), (0, 100, 100)]
)
def test_oom_scores_are_as_low_as_may_be(wanted: int, floor: int, score: int) -> None:
    host = msgspec.structs.replace(HOST, oom_score_floor=floor)
    (step,) = set_oom_score(wanted, host)
    assert step == SetOomScore(wanted, score)
    assert f'write "{score}" to /proc/self/oom_score_adj' in step.describe()
    assert (f"{wanted} is wanted" in step.describe()) is (score != wanted)


def test_pause_containers_and_sessions_have_a_score() -> None:
    sandbox = sandbox_of(pod(BEST_EFFORT), "u", HOST.capacity)
    (pause,) = (o for o in plan_sandbox(sandbox, HOST) if isinstance(o, SpawnPause))
    assert pause.steps[0] == SetOomScore(-998, -998)
    given = config(LinuxResources(oom_score_adj=7))
    (spawn,) = (
        o
        for o in plan_container(given, sandbox_facts(sandbox, HOST), HOST, 0)
        if isinstance(o, SpawnContainer)
    )
    assert spawn.steps[0] == SetOomScore(7, 7)
    assert plan_session(SessionRequest(args=("x",)), given, HOST)[0] == SetOomScore(7, 7)
