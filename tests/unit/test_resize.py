"""Resizing: what is refused, what restarts, in which order the kernel is told, when it is tried again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.cgroups.controllers import CONTROLLERS, settings
from pyrun.errors import ManifestError
from pyrun.lifecycle.actions import ResizePod, StartContainer
from pyrun.lifecycle.observation import PendingReason, PendingResize, Resizing, Stop
from pyrun.lifecycle.resize import (
    RESIZE,
    RETRY_NS,
    changes,
    difference,
    growth,
    next_try_ns,
    refusals,
    resources_of,
    to_restart,
    with_resources,
)
from pyrun.lifecycle.status import pod_status
from pyrun.manifest.scalars import Value
from pyrun.plan.resize import FILES, Target, in_use, plan_writes
from pyrun.spec.effective import container_limits
from pyrun.spec.linux import actual_resources, container_resources, pod_resources
from pyrun.spec.object import Json, ObjectKey
from pyrun.spec.pod import Container, Pod, PodSpec, PullPolicy, RestartPolicy
from pyrun.spec.resources import (
    Capacity,
    ResizableResource,
    ResizePolicy,
    ResourceList,
    ResourceRequirements,
    RestartOnResize,
)
from pyrun.store.immutable import refuse_changes
from pyrun.store.kept import kept_resources
from tests.unit.lifecycle_world import SETTINGS, START, World, ended, observed, pod, replace, running, seen
from tests.unit.manifest_values import resources

MI, GI = 2**20, 2**30
HOST = Capacity(cpu_millis=4000, memory=16 * GI)
NOTHING = ResourceRequirements()


def need(
    cpu: int | None = None,
    memory: int | None = None,
    cpu_limit: int | None = None,
    memory_limit: int | None = None,
    **others: Any,
) -> ResourceRequirements:
    return ResourceRequirements(
        requests=ResourceList(cpu_millis=cpu, memory=memory, **others),
        limits=ResourceList(cpu_millis=cpu_limit, memory=memory_limit),
    )


def box(resources: ResourceRequirements, name: str = "a", *policies: str, **fields: Any) -> Container:
    """A container; `policies` are the resources for which it is restarted."""
    return Container(
        name=name,
        image="i",
        image_pull_policy=PullPolicy.NEVER,
        resources=resources,
        resize_policy=tuple(
            ResizePolicy(resource=ResizableResource(one), restart=RestartOnResize.RESTART_CONTAINER)
            for one in policies
        ),
        **fields,
    )


def spec(*containers: Container, **fields: Any) -> PodSpec:
    return PodSpec(containers=containers, **fields)


WHOLE = st.sampled_from([None, need(cpu_limit=3000, memory_limit=GI), need(10**6, 2**50, 10**6, 2**50)])
PODS = st.builds(
    lambda parts, whole: pod(*(box(one, f"c{i}") for i, one in enumerate(parts)), resources=whole),
    st.lists(resources(), min_size=1, max_size=3),
    WHOLE,
)

# What is refused

PATH = "spec.containers[0].resources"
HALF = need(100, 64 * MI, memory_limit=128 * MI)
REFUSED: tuple[tuple[str, ResourceRequirements, ResourceRequirements, tuple[str, ...]], ...] = (
    ("nothing changes", HALF, HALF, ()),
    ("more and less", HALF, need(50, 32 * MI, memory_limit=GI), ()),
    ("a limit is added", HALF, need(100, 64 * MI, 500, 128 * MI), ()),
    ("a request is added", need(100), need(100, MI), ()),
    (
        "a limit is removed",
        HALF,
        need(100, 64 * MI),
        (f"{PATH}.limits[memory]: cannot be removed while the Pod runs: it is 128Mi",),
    ),
    (
        "a request is removed",
        HALF,
        need(None, 64 * MI, memory_limit=128 * MI),
        (f"{PATH}.requests[cpu]: cannot be removed while the Pod runs: it is 100m",),
    ),
    (
        "a limit below the request",
        HALF,
        need(100, 64 * MI, 50, 32 * MI),
        (
            f"{PATH}.requests[cpu]: 100m is above the limit, 50m",
            f"{PATH}.requests[memory]: 64Mi is above the limit, 32Mi",
        ),
    ),
    (
        "another resource",
        HALF,
        need(100, 64 * MI, memory_limit=128 * MI, ephemeral_storage=GI, hugepages=((2 * MI, 4 * MI),)),
        (
            f"{PATH}.requests[ephemeral-storage]: cannot change while the Pod runs: only cpu and memory can",
            f"{PATH}.requests[hugepages-2Mi]: cannot change while the Pod runs: only cpu and memory can",
        ),
    ),
    (
        "to Guaranteed",
        HALF,
        need(100, 64 * MI, 100, 64 * MI),
        ("spec: the QoS class of a Pod cannot change, and would from Burstable to Guaranteed",),
    ),
    (
        "from Guaranteed",
        need(100, MI, 100, MI),
        need(100, MI, 200, MI),
        ("spec: the QoS class of a Pod cannot change, and would from Guaranteed to Burstable",),
    ),
    (
        "from BestEffort",
        NOTHING,
        need(100),
        ("spec: the QoS class of a Pod cannot change, and would from BestEffort to Burstable",),
    ),
)


@pytest.mark.parametrize(
    ("before", "after", "expected"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_what_is_refused(
    before: ResourceRequirements, after: ResourceRequirements, expected: tuple[str, ...]
) -> None:
    assert tuple(map(str, refusals(spec(box(before)), spec(box(after))))) == expected


def test_sidecars_are_resized_and_other_init_containers_are_not() -> None:
    before = spec(
        box(HALF),
        init_containers=(box(need(10), "first"), box(need(10), "side", restart_policy=RestartPolicy.ALWAYS)),
    )
    both = (("first", need(20)), ("side", need(20)))
    after = with_resources(replace(pod(), spec=before), both).spec
    assert tuple(map(str, refusals(before, after))) == (
        "spec.initContainers[0].resources: cannot change: an init container that is no sidecar cannot be resized",
    )


def test_resources_of_the_pod_as_a_whole_are_refused_by_name() -> None:
    before, after = spec(box(need(10)), resources=need(100)), spec(box(need(10)), resources=need(200))
    assert [problem.path for problem in refusals(before, after)] == ["spec.resources"]


@given(PODS)
def test_nothing_is_refused_or_changed_by_the_same_resources(wanted: Pod) -> None:
    same = with_resources(wanted, resources_of(wanted.spec))
    assert same == wanted
    assert refusals(wanted.spec, same.spec) == changes(wanted.spec, same.spec) == ()


# What restarts


@pytest.mark.parametrize(
    ("policies", "after", "restart"),
    [
        ((), need(200, 64 * MI, memory_limit=256 * MI), False),
        (("cpu",), need(200, 64 * MI, memory_limit=128 * MI), True),
        (("cpu",), need(100, 64 * MI, memory_limit=256 * MI), False),
        (("cpu",), need(100, 64 * MI, 500, 128 * MI), True),
        (("memory",), need(100, 32 * MI, memory_limit=128 * MI), True),
        (("memory",), need(200, 64 * MI, memory_limit=128 * MI), False),
        (("cpu", "memory"), need(100, 64 * MI, memory_limit=64 * MI), True),
    ],
)
def test_a_container_restarts_for_the_resources_of_its_policy(
    policies: tuple[str, ...], after: ResourceRequirements, restart: bool
) -> None:
    running, wanted = spec(box(HALF, "a", *policies), box(HALF, "b")), spec(box(after), box(HALF, "b"))
    (found,) = changes(running, wanted)
    assert (found.container, found.before, found.after, found.restart) == ("a", HALF, after, restart)


def test_only_what_grows_needs_room() -> None:
    before, after = ResourceList(cpu_millis=100, memory=GI), ResourceList(cpu_millis=300, memory=MI)
    assert growth(before, after) == ResourceList(cpu_millis=300)
    assert difference(growth(before, after), before) == ResourceList(cpu_millis=200)
    assert growth(ResourceList(), ResourceList(memory=MI)) == ResourceList(memory=MI)
    assert growth(after, after) == ResourceList()


# The order of writes

AMOUNTS = st.tuples(st.integers(1, 4000), st.integers(1, 64).map(lambda n: n * MI))


def whole_of(*amounts: tuple[int, int]) -> Pod:
    boxes = [box(need(*one, *one), f"c{i}") for i, one in enumerate(amounts)]
    return pod(*boxes)


class Groups:
    """The groups of a Pod, as files."""

    def __init__(self, made: Pod) -> None:
        self.files: dict[str, dict[str, str]] = {}
        for target in self.targets(made):
            self.files[target.group] = {s.file: s.value for s in settings(target.wanted) if s.file in FILES}

    def targets(self, wanted: Pod) -> list[Target]:
        found = [Target("Pod", "/p", pod_resources(wanted), self.files.get("/p", {}))]
        for one in wanted.spec.containers:
            group = f"/p/{one.name}"
            resources = container_resources(wanted, one, HOST)
            found.append(Target(f'container "{one.name}"', group, resources, self.files.get(group, {})))
        return found

    def plan(self, wanted: Pod) -> list[Any]:
        whole, *parts = self.targets(wanted)
        writes = plan_writes(whole, parts, CONTROLLERS)
        return [*writes.first, *writes.last]

    def write(self, operation: Any) -> None:
        self.files[operation.group][operation.file] = operation.value

    def sums_fit(self) -> bool:
        """Whether the Pod has at least what its containers have together."""
        own, *others = self.files.values()

        def amount(files: dict[str, str], name: str) -> int:
            return int(files[name].split()[0])

        # A container has at least 1 ms of each period.
        slack = {"cpu.max": 1000 * len(others), "memory.max": 0}
        return all(
            amount(own, name) + more >= sum(amount(one, name) for one in others)
            for name, more in slack.items()
        )


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=4), st.data())
def test_the_whole_is_never_less_than_its_parts_and_a_kill_costs_nothing(
    pairs: list[tuple[tuple[int, int], tuple[int, int]]], data: st.DataObject
) -> None:
    before, after = whole_of(*(one for one, _ in pairs)), whole_of(*(two for _, two in pairs))
    groups = Groups(before)
    killed_after = data.draw(st.integers(0, 20))
    for operation in groups.plan(after)[:killed_after]:
        groups.write(operation)
        assert groups.sums_fit()
    for operation in groups.plan(after):
        groups.write(operation)
        assert groups.sums_fit()
    assert groups.files == Groups(after).files
    assert groups.plan(after) == []


def test_the_pod_grows_first_and_shrinks_last() -> None:
    before, after = whole_of((100, 10 * MI), (100, 10 * MI)), whole_of((50, 30 * MI), (100, 5 * MI))
    plan = [(one.group, one.file) for one in Groups(before).plan(after)]
    assert [where for where in plan if where[1] == "memory.max"] == [
        ("/p", "memory.max"),
        ("/p/c1", "memory.max"),
        ("/p/c0", "memory.max"),
    ]
    assert [where for where in plan if where[1] == "cpu.max"] == [("/p/c0", "cpu.max"), ("/p", "cpu.max")]


def test_a_limit_below_what_is_in_use_is_seen() -> None:
    groups = Groups(whole_of((100, 64 * MI)))
    wanted = whole_of((100, 32 * MI))
    for files in groups.files.values():
        files["memory.current"] = str(40 * MI)
    assert in_use(groups.targets(wanted), CONTROLLERS) == (
        f"the memory limit of Pod cannot be {32 * MI} bytes yet: it uses {40 * MI}",
        f'the memory limit of container "c0" cannot be {32 * MI} bytes yet: it uses {40 * MI}',
    )
    groups.files["/p/c0"]["memory.current"] = groups.files["/p"]["memory.current"] = str(32 * MI)
    assert in_use(groups.targets(wanted), CONTROLLERS) == ()
    assert in_use(groups.targets(whole_of((100, 128 * MI))), CONTROLLERS) == (), "more is always possible"


def test_without_a_controller_its_files_are_left_out() -> None:
    groups = Groups(whole_of((100, 64 * MI)))
    whole, *parts = groups.targets(whole_of((200, 32 * MI)))
    assert {one.file for one in plan_writes(whole, parts, ("cpu",)).first} == {"cpu.weight", "cpu.max"}
    assert in_use((whole, *parts), ("cpu",)) == ()


# What a container really has


@given(PODS)
def test_what_was_written_is_read_as_it_was_given(wanted: Pod) -> None:
    for one in wanted.spec.all_containers():
        files = {s.file: s.value for s in settings(container_resources(wanted, one, HOST)) if s.file in FILES}
        files = {"cpu.max": "max 100000", "memory.max": "max", "memory.low": "0"} | files
        # The kernel cuts memory to whole pages.
        files |= {
            name: str(int(files[name]) // 4096 * 4096)
            for name in files
            if files[name].isdecimal() and "memory" in name
        }
        limits = container_limits(wanted.spec, one)
        assert actual_resources(one.resources, limits, files) == one.resources
        assert actual_resources(one.resources, limits, {}) == one.resources


def test_what_the_kernel_has_counts() -> None:
    files = {"cpu.max": "25000 50000", "cpu.weight": "59", "memory.max": str(8 * MI), "memory.low": str(MI)}
    found = actual_resources(HALF, HALF.limits, files)
    assert (found.limits.cpu_millis, found.limits.memory, found.requests.memory) == (500, 8 * MI, MI)
    assert found.requests.cpu_millis is not None and 480 < found.requests.cpu_millis <= 500
    unlimited = actual_resources(HALF, HALF.limits, {"cpu.max": "max 100000", "memory.max": "max"})
    assert unlimited.limits == ResourceList()


# When to go on

STOP = Stop(asked_ns=0, deadline_ns=0, grace_seconds=1, reason=RESIZE)
PENDING = PendingResize(resources=())


@pytest.mark.parametrize(
    ("fields", "attempt", "due"),
    [
        ({}, running(), None),
        ({"pending": PENDING}, running(), 0),
        ({"pending": replace(PENDING, reason=PendingReason.DEFERRED)}, running(), None),
        ({"pending": replace(PENDING, reason=PendingReason.INFEASIBLE)}, running(), None),
        ({"resizing": Resizing()}, running(), 0),
        ({"resizing": Resizing(error="in use", tried_ns=5)}, running(), 5 + RETRY_NS),
        ({"resizing": Resizing(restarts=(("app", 0),))}, running(), 0),
        ({"resizing": Resizing(restarts=(("app", 0),))}, running(stop=STOP), None),
        ({"resizing": Resizing(restarts=(("app", 0),))}, ended(stop=STOP), 0),
        ({"resizing": Resizing(restarts=(("app", 0),))}, running(1), 0),
    ],
)
def test_when_somebody_must_go_on(fields: dict[str, Any], attempt: Any, due: int | None) -> None:
    assert next_try_ns(observed(seen("app", attempt), **fields)) == due


def test_a_resize_is_gone_on_with_and_tried_again_later() -> None:
    world = World(pod())
    world.sync()
    world.seen = replace(world.seen, resizing=Resizing())
    assert ResizePod() in world.decide().actions
    world.seen = replace(world.seen, resizing=Resizing(error="in use", tried_ns=world.now))
    decided = world.decide()
    assert (ResizePod() in decided.actions, decided.wake_ns) == (False, world.now + RETRY_NS)


@pytest.mark.parametrize("policy", [RestartPolicy.ON_FAILURE, RestartPolicy.NEVER, RestartPolicy.ALWAYS])
def test_who_was_ended_for_its_resources_comes_back_at_once_and_has_not_crashed(
    policy: RestartPolicy,
) -> None:
    world = World(pod(policy=policy))
    world.seen = observed(seen("app", ended(3, at=START, crashes=4, stop=STOP)))
    (action,) = world.decide().actions
    assert isinstance(action, StartContainer)
    assert (action.attempt, action.crashes) == (4, 4)


def test_what_is_to_be_restarted() -> None:
    resizing = Resizing(restarts=(("a", 0), ("b", 1), ("c", 0)))
    now = observed(seen("a", running()), seen("b", running(2)), seen("c", ended()), resizing=resizing)
    assert to_restart(now) == (("a", 0),)
    assert to_restart(observed()) == ()


def test_conditions_and_resources_of_the_status() -> None:
    made = pod(box(HALF, "app"))
    pending = replace(PENDING, reason=PendingReason.DEFERRED, message="no room")
    now = observed(
        seen("app", running(resources=need(50))), pending=pending, resizing=Resizing(error="in use")
    )
    status = pod_status(made, now, SETTINGS, START)
    found = {one.type: (one.status, one.reason, one.message) for one in status.conditions}
    assert found["PodResizePending"] == ("True", "Deferred", "no room")
    assert found["PodResizeInProgress"] == ("True", "Error", "in use")
    (container,) = status.container_statuses
    assert container.allocated_resources == {"cpu": "100m", "memory": "64Mi"}
    assert container.resources is not None
    assert (container.resources.requests, container.resources.limits) == ({"cpu": "50m"}, {})
    quiet = pod_status(made, observed(seen("app", running())), SETTINGS, START)
    assert not {"PodResizePending", "PodResizeInProgress"} & {one.type for one in quiet.conditions}


# Applied Pods

WEB = ObjectKey(group="", kind="Pod", namespace="default", name="web")


def spec_text(requests: str, image: str = "x") -> Json:
    return Json(
        b'{"containers":[{"name":"a","image":"%s","resources":{"requests":%s}}]}'
        % (image.encode(), requests.encode())
    )


def test_of_a_pod_in_the_store_only_resources_change() -> None:
    refuse_changes(WEB, spec_text('{"cpu":"1"}'), spec_text('{"cpu":"2"}'))
    with pytest.raises(ManifestError) as caught:
        refuse_changes(WEB, spec_text('{"cpu":"1"}'), spec_text('{"memory":"1Gi"}', "y"))
    assert [problem.path for problem in caught.value.problems] == [
        "spec.containers[0].image",
        f"{PATH}.requests[cpu]",
    ]


def texts(*resources: Value) -> list[Value]:
    return [{"spec": {"containers": [{"name": "a", "resources": one}]}} for one in resources]


def said(requests: str = "", limits: str = "") -> Value:
    """Resources as a text has them, each list as `cpu=1 memory=1Gi`."""
    lists = (("requests", requests), ("limits", limits))
    return {name: dict(pair.split("=") for pair in text.split()) for name, text in lists if text}


BOTH = said("cpu=1 memory=1Gi")
KEPT = (
    (
        "nobody else has set anything",
        said("cpu=1"),
        said("cpu=2"),
        said("cpu=1"),
        said("cpu=2"),
        said("cpu=2"),
    ),
    ("another has added memory", BOTH, said("cpu=1"), said("cpu=1"), said("cpu=1"), BOTH),
    (
        "what the text names is as it says",
        said("cpu=3"),
        said("cpu=1"),
        said("cpu=1"),
        said("cpu=1"),
        said("cpu=1"),
    ),
    ("what it no longer names goes", BOTH, said("cpu=1"), BOTH, said("cpu=1"), said("cpu=1")),
    (
        "a default follows its limit",
        said("cpu=1", "cpu=1"),
        said("cpu=2", "cpu=2"),
        said("", "cpu=1"),
        said("", "cpu=2"),
        said("cpu=2", "cpu=2"),
    ),
    (
        "a request that is set stays",
        said("cpu=1", "cpu=2"),
        said("cpu=3", "cpu=3"),
        said("", "cpu=2"),
        said("", "cpu=3"),
        said("cpu=1", "cpu=3"),
    ),
)


@pytest.mark.parametrize(
    ("live", "wanted", "before", "applied", "expected"),
    [case[1:] for case in KEPT],
    ids=[case[0] for case in KEPT],
)
def test_resources_that_somebody_else_has_set_stay(
    live: Value, wanted: Value, before: Value, applied: Value, expected: Value
) -> None:
    (of_live, of_wanted) = (one["spec"] for one in texts(live, wanted) if isinstance(one, dict))
    found = kept_resources(of_live, of_wanted, *texts(before, applied))
    assert isinstance(found, dict) and isinstance(found["containers"], list)
    assert found["containers"] == [{"name": "a", "resources": expected}]
