"""Limits of storage: what is counted, and which Pod is evicted with which words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.cli.supervise import storage_period_ns
from pyrun.controllers.context import Context
from pyrun.controllers.execute import Jobs
from pyrun.controllers.loop import Loop
from pyrun.controllers.storage import StorageGuard
from pyrun.controllers.workers import Workers
from pyrun.errors import InputError
from pyrun.lifecycle.actions import TerminatePod
from pyrun.lifecycle.display import display_status
from pyrun.lifecycle.eviction import Usage, eviction, has_storage_limits
from pyrun.lifecycle.observation import PodObservation, Stop
from pyrun.lifecycle.restart import needs_supervision
from pyrun.lifecycle.status import pod_status
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.usage import disk_usage, measure
from pyrun.spec.layout import Layout
from pyrun.spec.pod import Container, EmptyDir, HostPath, Pod, RestartPolicy, Volume
from pyrun.spec.resources import ResourceList, ResourceRequirements
from pyrun.spec.status import Phase
from tests.unit.lifecycle_world import (
    SETTINGS,
    START,
    World,
    container,
    ended,
    observed,
    pod,
    replace,
    running,
    seen,
)

MI = 1 << 20
NEVER = RestartPolicy.NEVER


def limited(name: str, limit: int | None) -> Container:
    limits = ResourceList(ephemeral_storage=limit)
    return container(name, resources=ResourceRequirements(limits=limits))


def disk(name: str, limit: int | None = None, memory: bool = False) -> Volume:
    return Volume(name=name, source=EmptyDir(memory=memory, size_limit=limit))


def used(volumes: dict[str, int] | None = None, **containers: int) -> Usage:
    return Usage(containers=tuple(containers.items()), volumes=tuple((volumes or {}).items()))


ONE = pod(limited("web", 10 * MI), container("free"))
BOTH = pod(limited("web", 10 * MI), limited("log", 10 * MI), volumes=(disk("cache"),))
CACHE = pod(volumes=(disk("cache", 5 * MI), disk("other", 1 << 40)))
EVERYTHING = pod(limited("web", MI), volumes=(disk("cache", MI),))
INIT = pod(limited("web", 10 * MI), init=(limited("first", 30 * MI),))
WEB = 'Container web exceeded its local ephemeral storage limit "10Mi". '
FULL = 'Usage of EmptyDir volume "cache" exceeds the limit "5Mi". '
WHOLE = "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. "


@pytest.mark.parametrize(
    ("manifest", "usage", "message"),
    [
        (ONE, used(web=10 * MI, free=10**12), ""),
        (ONE, used(web=10 * MI + 1), WEB),
        (ONE, used({"cache": 10**12}, web=0), ""),
        (BOTH, used({"cache": MI}, web=10 * MI, log=9 * MI), ""),
        (BOTH, used({"cache": MI + 1}, web=10 * MI, log=9 * MI), WHOLE),
        (BOTH, used({"cache": 21 * MI}), WHOLE),
        (BOTH, used({"cache": 21 * MI}, web=10 * MI + 1), WEB),
        (CACHE, used({"cache": 5 * MI, "other": 1 << 40}), ""),
        (CACHE, used({"cache": 5 * MI + 1}), FULL),
        (CACHE, used(app=10**12), ""),
        (EVERYTHING, used({"cache": 2 * MI}, web=2 * MI), FULL.replace("5Mi", "1Mi")),
        (INIT, used(first=30 * MI), ""),
        (INIT, used(first=31 * MI), WEB.replace("web", "first").replace("10Mi", "30Mi")),
        (pod(limited("web", 10**7)), used(web=10**7 + 1), WEB.replace("10Mi", "10000000")),
        (pod(limited("web", 0), volumes=(disk("cache", 0),)), used({"cache": 10**12}, web=10**12), ""),
        (pod(limited("web", 20 * MI), limited("no", 0)), used(no=21 * MI), ""),
        (pod(), used({"cache": 10**12}, app=10**12), ""),
    ],
)
def test_who_is_over_a_limit_is_evicted(manifest: Pod, usage: Usage, message: str) -> None:
    expected = TerminatePod(grace_seconds=1, reason="Evicted", message=message) if message else None
    assert eviction(manifest.spec, usage) == expected


@given(
    st.lists(st.none() | st.integers(0, 4), min_size=1, max_size=3),
    st.lists(st.integers(0, 5), min_size=3, max_size=3),
    st.none() | st.integers(0, 4),
    st.integers(0, 5),
)
def test_more_is_never_less_reason(
    limits: list[int | None], usage: list[int], size: int | None, full: int
) -> None:
    """Who has no limit is never evicted, and who is evicted is so with more on the disk too."""
    spec = pod(*(limited(f"c{i}", n) for i, n in enumerate(limits)), volumes=(disk("v", size),)).spec
    names = [f"c{i}" for i in range(len(limits))]
    found = eviction(spec, used({"v": full}, **dict(zip(names, usage, strict=False))))
    assert found is None or has_storage_limits(spec)
    more = used({"v": full + 1}, **{name: count + 1 for name, count in zip(names, usage, strict=False)})
    assert found is None or eviction(spec, more) is not None


@pytest.mark.parametrize(
    ("manifest", "needs"),
    [
        (pod(limited("web", 1), policy=NEVER), True),
        (pod(init=(limited("first", 1),), policy=NEVER), True),
        (pod(volumes=(disk("cache", 1),), policy=NEVER), True),
        (pod(volumes=(disk("cache", 1, memory=True),), policy=NEVER), False),
        (pod(volumes=(disk("cache"), Volume(name="h", source=HostPath(path="/"))), policy=NEVER), False),
        (pod(limited("web", 0), policy=NEVER), False),
    ],
)
def test_a_limit_needs_a_supervisor(manifest: Pod, needs: bool) -> None:
    assert has_storage_limits(manifest.spec) is needs
    assert needs_supervision(manifest) is (needs or bool(manifest.spec.init_containers))


def test_an_evicted_pod_has_failed_and_nothing_of_it_starts_again() -> None:
    stop = Stop(asked_ns=START, deadline_ns=START, grace_seconds=1, reason="Evicted", message=FULL)
    world = World(CACHE)
    world.seen = observed(seen("app", ended(code=0)), stop=stop)
    assert world.decide().actions == () and world.decide().wake_ns is None
    found = pod_status(CACHE, world.seen, SETTINGS, world.now)
    assert (found.phase, found.reason, found.message) == (Phase.FAILED, "Evicted", FULL)
    killed = observed(seen("app", ended(code=137, signal=9)), stop=stop)
    assert display_status(pod_status(CACHE, killed, SETTINGS, world.now), terminating=True) == "Evicted"


def test_the_period_is_a_duration() -> None:
    assert storage_period_ns({}) == storage_period_ns({"storage_period": None}) == 10 * 10**9
    assert storage_period_ns({"storage_period": "0.2"}) == 200_000_000
    for text in ("0", "soon"):
        with pytest.raises(InputError):
            storage_period_ns({"storage_period": text})


def test_only_a_pod_with_a_limit_that_goes_on_has_a_timer(tmp_path: Path) -> None:
    loop = Loop(lambda: START)
    nothing: Any = None
    context = Context(
        loop=loop,
        workers=Workers(loop),
        watches=nothing,
        facts=nothing,
        headroom=nothing,
        recorder=nothing,
        backoff=SETTINGS,
        started_ns=START,
        report=print,
    )
    directory = PodDirectory(Layout.of(str(tmp_path), str(tmp_path)), "u-1")
    guard = StorageGuard(context, directory, Jobs(nothing, directory))

    def due(manifest: Pod, observation: PodObservation) -> int | None:
        guard.follow(manifest, observation, pod_status(manifest, observation, SETTINGS, START))
        return loop.next_due()

    up, stop = (
        observed(seen("app", running())),
        Stop(asked_ns=START, deadline_ns=START, grace_seconds=1, reason="Killing"),
    )
    assert due(pod(), up) is None
    first = due(CACHE, up)
    assert first is not None and START <= first < START + 10 * 10**9
    assert due(CACHE, up) == first
    assert due(CACHE, observed(seen("app", running()), stop=stop)) is None
    assert due(CACHE, up) is not None
    over = replace(CACHE, spec=replace(CACHE.spec, restart_policy=NEVER))
    assert due(over, observed(seen("app", ended()))) is None


# What is measured


def fill(path: Path, blocks: int) -> int:
    """Write a file of so many times 64 KiB; return what is allocated for it."""
    path.write_bytes(os.urandom(blocks << 16))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.stat().st_blocks * 512


def of_directories(*paths: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in paths)


def test_what_is_allocated_is_counted_once(tmp_path: Path) -> None:
    top, below = tmp_path / "top", tmp_path / "top/a/b"
    below.mkdir(parents=True)
    other = tmp_path / "other"
    fill(other, 4)
    one, two = fill(top / "one", 1), fill(below / "two", 2)
    (below / "again").hardlink_to(top / "one")
    (top / "link").symlink_to(other)
    (top / "directory").symlink_to(tmp_path)
    with (top / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    links = sum((top / name).lstat().st_blocks * 512 for name in ("link", "directory", "sparse"))
    assert disk_usage(str(top)) == one + two + links + of_directories(top, top / "a", below)


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert disk_usage(str(tmp_path / "none")) == 0


def test_a_tree_may_be_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    """In a child, whose working directory may go where no path leads."""
    top = tmp_path / "top"
    top.mkdir()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(top)
            for _ in range(1500):
                for name in ("d" * 20, "beside"):
                    os.mkdir(name)
                os.chdir("d" * 20)
            Path("deep").write_bytes(b"x" * (1 << 20))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    before = len(os.listdir("/proc/self/fd"))
    try:
        assert disk_usage(str(top)) >= 1 << 20
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        _flatten(top)


def _flatten(top: Path) -> None:
    """Remove a deep tree from above: each level is emptied into the one before."""
    while (deep := top / ("d" * 20)).exists():
        (top / "beside").rmdir()
        deep.rename(top / "old")
        for entry in (top / "old").iterdir():
            entry.rename(top / entry.name)
        (top / "old").rmdir()


def test_a_pod_is_measured_by_its_layers_logs_and_volumes(tmp_path: Path) -> None:
    layout, manifest = Layout.of(str(tmp_path / "root"), str(tmp_path / "state")), BOTH
    directory = PodDirectory(layout, "u-1")
    for path in (layout.container_root("u-1", "web", 0), layout.container_root("u-1", "web", 1)):
        os.makedirs(f"{path}/upper")
        fill(Path(path) / "upper/data", 4)
    os.makedirs(layout.logs("u-1", "log"))
    fill(Path(layout.logs("u-1", "log")) / "0.log.1", 3)
    os.makedirs(layout.volume("u-1", "cache"))
    fill(Path(layout.volume("u-1", "cache")) / "data", 2)
    usage = measure(directory, manifest.spec)
    found = {name: count >> 16 for name, count in (*usage.containers, *usage.volumes)}
    assert found == {"web": 8, "log": 3, "cache": 2}
    assert usage.total() == sum(count for _, count in (*usage.containers, *usage.volumes))
