"""From requests, limits and annotations to the settings of cgroups: tables of the rules, and what holds always."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal, localcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.effective import (
    Shortage,
    container_limits,
    effective_limits,
    effective_request,
    filled,
    fits,
    sum_of,
    times,
)
from pyrun.spec.linux import (
    BEST_EFFORT_OOM_SCORE_ADJ,
    GUARANTEED_OOM_SCORE_ADJ,
    INFRA_OOM_SCORE_ADJ,
    container_resources,
    oom_score_adj,
    pod_resources,
    quota_of,
    shares_of,
    weight_of,
)
from pyrun.spec.pod import Container, Metadata, Pod, PodSpec, PullPolicy, RestartPolicy
from pyrun.spec.qos import QosClass, qos_class
from pyrun.spec.resources import Capacity, ResourceList, ResourceRequirements

MI, GI = 2**20, 2**30
HOST = Capacity(cpu_millis=4000, memory=16 * GI)
NOTHING = ResourceRequirements()


def amounts_of(cpu: int | None = None, memory: int | None = None, **others: object) -> ResourceList:
    return ResourceList(cpu_millis=cpu, memory=memory, **others)  # type: ignore[arg-type]


def asks(cpu: int | None = None, memory: int | None = None) -> ResourceRequirements:
    return ResourceRequirements(requests=amounts_of(cpu, memory))


def limited(cpu: int | None = None, memory: int | None = None) -> ResourceRequirements:
    """Limits, and the requests that default to them."""
    return ResourceRequirements(requests=amounts_of(cpu, memory), limits=amounts_of(cpu, memory))


def container(
    resources: ResourceRequirements = NOTHING, name: str = "c", *, sidecar: bool = False
) -> Container:
    return Container(
        name=name,
        image="i",
        image_pull_policy=PullPolicy.NEVER,
        resources=resources,
        restart_policy=RestartPolicy.ALWAYS if sidecar else None,
    )


def spec_of(
    *resources: ResourceRequirements,
    inits: tuple[Container, ...] = (),
    whole: ResourceRequirements | None = None,
) -> PodSpec:
    containers = tuple(container(one, f"c{i}") for i, one in enumerate(resources))
    return PodSpec(containers=containers, init_containers=inits, resources=whole)


def pod(spec: PodSpec, **annotations: str) -> Pod:
    return Pod(metadata=Metadata(name="web", annotations=annotations), spec=spec)


# The curve of weights


@pytest.mark.parametrize(
    ("millis", "weight"),
    [
        (0, 1),
        (1, 1),
        (2, 1),
        (10, 4),
        (50, 11),
        (100, 17),
        (200, 29),
        (250, 35),
        (500, 59),
        (1000, 100),
        (2000, 174),
        (4000, 303),
        (8000, 532),
        (64000, 3023),
        (256000, 10000),
        (10**9, 10000),
    ],
)
def test_the_weight_of_a_request(millis: int, weight: int) -> None:
    assert weight_of(millis) == weight


def exact_weight(shares: int) -> int:
    """The curve with fifty digits."""
    with localcontext() as context:
        context.prec = 50
        bits = Decimal(shares).ln() / Decimal(2).ln()
        exact = 10 ** ((bits * bits + 125 * bits) / 612 - Decimal(7) / 34)
        nearest = exact.to_integral_value()
        return int(
            nearest if abs(exact - nearest) < Decimal("1e-40") else exact.to_integral_value(ROUND_CEILING)
        )


@given(st.integers(0, 300_000))
def test_the_float_never_leaves_the_curve(millis: int) -> None:
    assert weight_of(millis) == exact_weight(shares_of(millis))


@pytest.mark.parametrize("twos", range(1, 19))
def test_the_float_is_exact_at_powers_of_two(twos: int) -> None:
    millis = math.ceil(2**twos * 1000 / 1024)
    assert shares_of(millis) == 2**twos
    assert weight_of(millis) == exact_weight(2**twos)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_who_asks_for_more_never_weighs_less(left: int, right: int) -> None:
    low, high = sorted((left, right))
    assert 1 <= weight_of(low) <= weight_of(high) <= 10_000
    assert 2 <= shares_of(low) <= shares_of(high) <= 262_144


@pytest.mark.parametrize(
    ("millis", "quota"),
    [
        (None, None),
        (1, 1000),
        (9, 1000),
        (10, 1000),
        (11, 1100),
        (500, 50_000),
        (1000, 100_000),
        (2500, 250_000),
    ],
)
def test_the_quota_of_a_limit(millis: int | None, quota: int | None) -> None:
    assert quota_of(millis) == quota


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_who_may_use_more_never_gets_less(left: int, right: int) -> None:
    low, high = (quota_of(millis) or 0 for millis in sorted((left, right)))
    assert 1000 <= low <= high


# The class of a Pod

SMALL, LARGE = amounts_of(100, 64 * MI), amounts_of(200, 128 * MI)
RISING = ResourceRequirements(requests=SMALL, limits=LARGE)
STORAGE = ResourceRequirements(limits=amounts_of(ephemeral_storage=GI))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (spec_of(NOTHING), QosClass.BEST_EFFORT),
        (spec_of(NOTHING, NOTHING), QosClass.BEST_EFFORT),
        (spec_of(STORAGE), QosClass.BEST_EFFORT),
        (spec_of(limited(100, MI)), QosClass.GUARANTEED),
        (spec_of(limited(100, MI), limited(200, GI)), QosClass.GUARANTEED),
        (spec_of(limited(100, MI), NOTHING), QosClass.BURSTABLE),
        (spec_of(limited(100)), QosClass.BURSTABLE),
        (spec_of(limited(memory=MI)), QosClass.BURSTABLE),
        (spec_of(asks(100, MI)), QosClass.BURSTABLE),
        (spec_of(RISING), QosClass.BURSTABLE),
        # Init containers and sidecars count as every container does.
        (spec_of(limited(100, MI), inits=(container(),)), QosClass.BURSTABLE),
        (spec_of(limited(100, MI), inits=(container(limited(1, MI)),)), QosClass.GUARANTEED),
        (spec_of(NOTHING, inits=(container(asks(1), sidecar=True),)), QosClass.BURSTABLE),
        # The Pod's own resources are looked at alone.
        (spec_of(NOTHING, whole=limited(100, MI)), QosClass.GUARANTEED),
        (spec_of(RISING, whole=limited(300, GI)), QosClass.GUARANTEED),
        (spec_of(limited(100, MI), whole=asks(100, MI)), QosClass.BURSTABLE),
        (spec_of(NOTHING, whole=limited(100)), QosClass.BURSTABLE),
    ],
)
def test_the_class_of_a_pod(spec: PodSpec, expected: QosClass) -> None:
    assert qos_class(spec) is expected


# What a Pod asks for as a whole


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (spec_of(NOTHING), amounts_of()),
        (spec_of(asks(100, MI), asks(200)), amounts_of(300, MI)),
        # The largest init container, or all that runs later.
        (spec_of(asks(100, MI), inits=(container(asks(500)),)), amounts_of(500, MI)),
        (spec_of(asks(100, MI), inits=(container(asks(50, GI)), container(asks(70)))), amounts_of(100, GI)),
        # A sidecar runs beside those after it, and beside the application.
        (spec_of(asks(100), inits=(container(asks(50), sidecar=True),)), amounts_of(150)),
        (
            spec_of(asks(100), inits=(container(asks(50), sidecar=True), container(asks(500)))),
            amounts_of(550),
        ),
        (
            spec_of(asks(100), inits=(container(asks(500)), container(asks(50), sidecar=True))),
            amounts_of(500),
        ),
        (
            spec_of(
                asks(100),
                inits=(
                    container(asks(10), sidecar=True),
                    container(asks(200)),
                    container(asks(20), sidecar=True),
                    container(asks(300)),
                ),
            ),
            amounts_of(330),
        ),
        # The Pod's own request replaces the sum, resource by resource.
        (spec_of(asks(100, MI), whole=asks(1000)), amounts_of(1000, MI)),
        (spec_of(asks(100, MI), whole=asks(1000, GI)), amounts_of(1000, GI)),
        (
            spec_of(
                ResourceRequirements(requests=amounts_of(1, MI, hugepages=((2 * MI, 4 * MI),))),
                ResourceRequirements(
                    requests=amounts_of(1, hugepages=((2 * MI, 2 * MI), (GI, GI)), ephemeral_storage=5)
                ),
            ),
            amounts_of(2, MI, hugepages=((2 * MI, 6 * MI), (GI, GI)), ephemeral_storage=5),
        ),
    ],
)
def test_the_request_of_a_pod(spec: PodSpec, expected: ResourceList) -> None:
    assert effective_request(spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (spec_of(NOTHING), amounts_of()),
        (spec_of(limited(100, MI), limited(200, MI)), amounts_of(300, 2 * MI)),
        (spec_of(limited(100, MI), limited(200)), amounts_of(300)),
        (spec_of(limited(100, MI), NOTHING), amounts_of()),
        (spec_of(limited(100, MI), inits=(container(limited(memory=GI)),)), amounts_of(memory=GI)),
        (spec_of(limited(100), inits=(container(limited(900)),)), amounts_of(900)),
        (spec_of(NOTHING, whole=limited(500, GI)), amounts_of(500, GI)),
        (spec_of(limited(100, MI), limited(200, MI), whole=limited(memory=GI)), amounts_of(300, GI)),
        (spec_of(STORAGE, STORAGE), amounts_of(ephemeral_storage=2 * GI)),
        (spec_of(STORAGE, NOTHING), amounts_of()),
    ],
)
def test_the_limits_of_a_pod_are_those_that_every_container_has(
    spec: PodSpec, expected: ResourceList
) -> None:
    assert effective_limits(spec) == expected


def test_a_container_without_a_limit_has_that_of_the_pod() -> None:
    spec = spec_of(limited(100), STORAGE, whole=limited(500, GI))
    first, second = spec.containers
    assert container_limits(spec, first) == amounts_of(100, GI)
    assert container_limits(spec, second) == amounts_of(500, GI, ephemeral_storage=GI)
    assert container_limits(spec_of(limited(100)), first) == amounts_of(100)


LISTS = st.builds(
    ResourceList,
    cpu_millis=st.none() | st.integers(1, 10**6),
    memory=st.none() | st.integers(1, 2**40),
    ephemeral_storage=st.none() | st.integers(1, 2**40),
    hugepages=st.sampled_from([(), ((2 * MI, 2 * MI),), ((2 * MI, 8 * MI), (GI, GI))]),
)


@given(st.lists(LISTS, max_size=4), st.lists(st.tuples(LISTS, st.booleans()), max_size=4))
def test_a_pod_asks_for_at_least_what_runs_at_any_time(
    apps: list[ResourceList], inits: list[tuple[ResourceList, bool]]
) -> None:
    containers = tuple(container(ResourceRequirements(requests=one), sidecar=always) for one, always in inits)
    spec = spec_of(*(ResourceRequirements(requests=one) for one in apps), inits=containers)
    whole = effective_request(spec)
    room = Capacity(cpu_millis=0, memory=0, ephemeral_storage=0)
    room = msgspec.structs.replace(
        room, **{name: getattr(whole, name) or 0 for name in room.__struct_fields__[:3]}
    )
    room = msgspec.structs.replace(room, hugepages=whole.hugepages)
    sidecars: list[ResourceList] = []
    for one, always in inits:
        assert fits(sum_of((*sidecars, one)), room, ResourceList()) == ()
        sidecars += [one] if always else []
    assert fits(sum_of((*sidecars, *apps)), room, ResourceList()) == ()
    assert sum_of((whole, ResourceList())) == filled(whole, ResourceList()) == whole


# Room


def test_what_fits() -> None:
    room = Capacity(cpu_millis=4000, memory=GI, ephemeral_storage=GI, hugepages=((2 * MI, 4 * MI),))
    everything = amounts_of(4000, GI, ephemeral_storage=GI, hugepages=((2 * MI, 4 * MI),))
    assert fits(everything, room, ResourceList()) == ()
    assert fits(ResourceList(), room, amounts_of(9000, 9 * GI)) == ()
    assert fits(amounts_of(1000), room, amounts_of(3000, 9 * GI)) == ()


def test_what_lacks_is_told_with_figures() -> None:
    room = Capacity(cpu_millis=4000, memory=GI, ephemeral_storage=GI)
    wanted = amounts_of(1001, GI, ephemeral_storage=GI, hugepages=((2 * MI, 2 * MI),))
    assert fits(wanted, room, amounts_of(3000, 1, ephemeral_storage=1)) == (
        Shortage("cpu", 1001, 3000, 4000),
        Shortage("memory", GI, 1, GI),
        Shortage("ephemeral-storage", GI, 1, GI),
        Shortage("hugepages-2Mi", 2 * MI, 0, 0),
    )


def test_storage_is_not_counted_where_it_is_not_known() -> None:
    assert fits(amounts_of(ephemeral_storage=2**60), HOST, ResourceList()) == ()


@given(LISTS, LISTS, st.lists(LISTS, max_size=3))
def test_less_fits_wherever_more_does(
    wanted: ResourceList, more: ResourceList, taken: list[ResourceList]
) -> None:
    room, reserved = Capacity(cpu_millis=10**6, memory=2**39, ephemeral_storage=2**39), sum_of(taken)
    lacking = {one.resource for one in fits(wanted, room, reserved)}
    assert lacking <= {one.resource for one in fits(sum_of((wanted, more)), room, reserved)}


@given(LISTS, st.lists(LISTS, max_size=3), st.integers(0, 20))
def test_how_often_something_fits(wanted: ResourceList, taken: list[ResourceList], most: int) -> None:
    room, reserved = Capacity(cpu_millis=4 * 10**6, memory=2**42, ephemeral_storage=2**42), sum_of(taken)
    room = msgspec.structs.replace(room, hugepages=((2 * MI, 32 * MI), (GI, 3 * GI)))
    count = times(wanted, room, reserved, most)
    assert 0 <= count <= most
    assert not count or fits(sum_of([wanted] * count), room, reserved) == ()
    assert count == most or fits(sum_of([wanted] * (count + 1)), room, reserved)


# OOM scores


@pytest.mark.parametrize(
    ("spec", "name", "score"),
    [
        (spec_of(NOTHING), "c0", 1000),
        (spec_of(limited(100, MI)), "c0", -997),
        (spec_of(asks(100)), "c0", 999),
        (spec_of(asks(memory=1)), "c0", 999),
        (spec_of(asks(memory=GI)), "c0", 938),
        (spec_of(asks(memory=8 * GI)), "c0", 500),
        (spec_of(asks(memory=16 * GI)), "c0", 3),
        (spec_of(asks(memory=99 * GI)), "c0", 3),
        (spec_of(asks(memory=8 * GI), NOTHING), "c1", 999),
        # A sidecar is never above the application container that asks for least ...
        (spec_of(asks(memory=8 * GI), inits=(container(name="s", sidecar=True),)), "s", 500),
        (spec_of(asks(memory=8 * GI), NOTHING, inits=(container(name="s", sidecar=True),)), "s", 999),
        # ... but below it when it asks for more, and an init container is no sidecar.
        (spec_of(asks(memory=GI), inits=(container(asks(memory=8 * GI), "s", sidecar=True),)), "s", 500),
        (spec_of(asks(memory=8 * GI), inits=(container(name="i"),)), "i", 999),
        # What a Pod asks for beyond its containers is shared by them.
        (spec_of(NOTHING, NOTHING, whole=asks(memory=8 * GI)), "c0", 750),
        (spec_of(asks(memory=4 * GI), NOTHING, whole=asks(memory=8 * GI)), "c0", 625),
        (spec_of(asks(memory=4 * GI), NOTHING, whole=asks(memory=8 * GI)), "c1", 875),
        (spec_of(asks(memory=4 * GI), NOTHING, whole=asks(500)), "c0", 750),
    ],
)
def test_oom_score(spec: PodSpec, name: str, score: int) -> None:
    assert oom_score_adj(spec, spec.container(name), HOST) == score


@given(st.lists(st.integers(0, 2**36), min_size=2, max_size=4), st.integers(2**20, 2**40))
def test_burstable_scores_stand_between_the_classes(requests: list[int], memory: int) -> None:
    room = Capacity(cpu_millis=1000, memory=memory)
    spec = spec_of(*(asks(1, one) for one in requests))
    scores = [oom_score_adj(spec, one, room) for one in spec.containers]
    assert all(3 <= score <= 999 for score in scores)
    assert (
        INFRA_OOM_SCORE_ADJ
        < GUARANTEED_OOM_SCORE_ADJ
        < min(scores)
        <= max(scores)
        < BEST_EFFORT_OOM_SCORE_ADJ
    )
    ranked = [score for _, score in sorted(zip(requests, scores, strict=True))]
    assert ranked == sorted(scores, reverse=True)


# The settings of cgroups


def test_the_settings_of_a_container_that_asks_for_nothing() -> None:
    made = pod(spec_of(NOTHING))
    assert container_resources(made, made.spec.containers[0], HOST) == LinuxResources(
        cpu_weight=1, swap_max=0, oom_group=True, oom_score_adj=1000
    )
    assert pod_resources(made) == LinuxResources(cpu_weight=1)


def test_the_settings_of_a_container_with_everything() -> None:
    pages = ((64 * 2**10, MI), (2 * MI, 4 * MI), (GI, GI))
    resources = ResourceRequirements(
        requests=amounts_of(250, 64 * MI, hugepages=pages), limits=amounts_of(500, 128 * MI, hugepages=pages)
    )
    made = pod(spec_of(resources))
    limits = {
        "cpu_weight": 35,
        "cpu_quota_us": 50_000,
        "cpu_period_us": 100_000,
        "memory_max": 128 * MI,
        "memory_low": 64 * MI,
        "hugetlb": (("64KB", MI), ("2MB", 4 * MI), ("1GB", GI)),
    }
    assert pod_resources(made) == LinuxResources(**limits)  # type: ignore[arg-type]
    assert container_resources(made, made.spec.containers[0], HOST) == LinuxResources(
        swap_max=0,
        oom_group=True,
        oom_score_adj=997,
        **limits,  # type: ignore[arg-type]
    )


def test_the_settings_of_a_pod_are_of_all_its_containers() -> None:
    made = pod(spec_of(limited(1000, GI), asks(1000, GI)))
    assert pod_resources(made) == LinuxResources(cpu_weight=174, memory_low=2 * GI)
    whole = pod(spec_of(NOTHING, limited(100, MI), whole=limited(2000, GI)))
    quota = {"cpu_quota_us": 200_000, "cpu_period_us": 100_000, "memory_max": GI}
    assert pod_resources(whole) == LinuxResources(cpu_weight=174, memory_low=GI, **quota)  # type: ignore[arg-type]
    first = container_resources(whole, whole.spec.containers[0], HOST)
    assert (first.cpu_weight, first.cpu_quota_us, first.memory_max, first.memory_low) == (
        1,
        200_000,
        GI,
        None,
    )
    second = container_resources(whole, whole.spec.containers[1], HOST)
    assert (second.cpu_weight, second.cpu_quota_us, second.memory_max, second.memory_low) == (
        17,
        10_000,
        MI,
        MI,
    )


def test_annotations_are_of_one_container_or_of_the_pod() -> None:
    made = pod(
        spec_of(limited(1000, GI), NOTHING),
        **{
            "pyrun.io/pids-limit": "100",
            "pyrun.io/single-process-oom-kill": "false",
            "pyrun.io/swap-max": "1Gi",
            "pids-limit.pyrun.io/c0": "10",
            "cpuset-cpus.pyrun.io/c0": "0-1",
            "cpuset-mems.pyrun.io/c0": "0",
            "io-weight.pyrun.io/c0": "50",
            "io-max.pyrun.io/c0": "8:0 rbps=1",
            "memory-high.pyrun.io/c0": "512Mi",
            "memory-min.pyrun.io/c0": "64Mi",
            "memory-min.pyrun.io/c1": "32Mi",
            "swap-max.pyrun.io/c0": "128Mi",
            "single-process-oom-kill.pyrun.io/c0": "true",
            "hugetlb-2Mi.pyrun.io/c0": "4Mi",
            "example.com/c0": "other",
            "rootfs.pyrun.io/c0": "/srv",
        },
    )
    first = container_resources(made, made.spec.containers[0], HOST)
    assert first == LinuxResources(
        cpu_weight=100,
        cpu_quota_us=100_000,
        cpu_period_us=100_000,
        memory_max=GI,
        memory_low=GI,
        memory_high=512 * MI,
        memory_min=64 * MI,
        swap_max=128 * MI,
        oom_group=False,
        pids_max=10,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        io_weight=50,
        io_max=("8:0 rbps=1",),
        hugetlb=(("2MB", 4 * MI),),
        oom_score_adj=938,
    )
    second = container_resources(made, made.spec.containers[1], HOST)
    assert (second.pids_max, second.swap_max, second.oom_group, second.memory_min) == (None, 0, True, 32 * MI)
    # What is kept for containers, the group above them must have.
    assert pod_resources(made) == LinuxResources(
        cpu_weight=100, memory_low=GI, memory_min=96 * MI, pids_max=100, oom_group=True, swap_max=GI
    )


@given(st.lists(LISTS, min_size=1, max_size=4))
def test_a_pod_has_room_for_each_of_its_containers(lists: list[ResourceList]) -> None:
    made = pod(spec_of(*(ResourceRequirements(requests=one, limits=one) for one in lists)))
    whole = pod_resources(made)
    for one in made.spec.containers:
        settings = container_resources(made, one, HOST)
        assert (settings.cpu_weight or 0) <= (whole.cpu_weight or 0)
        assert (settings.memory_low or 0) <= (whole.memory_low or 0)
        if whole.memory_max is not None:
            assert settings.memory_max is not None
            assert settings.memory_max <= whole.memory_max
        if whole.cpu_quota_us is not None:
            assert settings.cpu_quota_us is not None
            assert settings.cpu_quota_us <= whole.cpu_quota_us
        pages = dict(whole.hugetlb)
        assert all(amount <= pages[size] for size, amount in settings.hugetlb)
