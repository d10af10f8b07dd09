"""Settings and controllers in the kernel, with the one controller that hybrid hosts have on the unified hierarchy."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator

import pytest

from pyrun.cgroups import delegation, files, group, hugetlb
from pyrun.cgroups.delegation import SCOPE, VacateCgroup, find_place, is_root, remedy
from pyrun.cgroups.group import CreateCgroup, CreateLeaf
from pyrun.cgroups.setting import EnableControllers, SetCgroup
from pyrun.errors import Conflict, Unsupported
from pyrun.kernel.operation import Results
from tests.e2e.conftest import eventually

pytestmark = pytest.mark.requires("cgroup_v2")


@pytest.fixture
def above() -> Iterator[str]:
    """A group that has the hugetlb controller."""
    mount = files.unified_mount()
    if "hugetlb" not in files.controllers(mount):
        pytest.skip("the unified hierarchy has no hugetlb controller")
    EnableControllers(mount, ("hugetlb",)).apply(Results())
    path = f"{mount}/pyrun-test-{os.getpid()}"
    os.mkdir(path)
    yield path
    group.remove(path)


@pytest.fixture
def sleeper(above: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the group itself."""
    line = 'echo $$ > "$0/cgroup.procs"; echo +; exec sleep 1000'
    process = subprocess.Popen(["sh", "-c", line, above], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"+"
    process.stdout.close()
    yield process
    process.kill()
    process.wait()


def test_a_value_is_written(above: str) -> None:
    EnableControllers(above, ("hugetlb",)).apply(Results())
    os.mkdir(f"{above}/leaf")
    size = hugetlb.use(above)[0][0]
    operation = SetCgroup(f"{above}/leaf", f"hugetlb.{size}.max", "0")
    operation.apply(Results())
    assert files.number(f"{above}/leaf", f"hugetlb.{size}.max") == 0
    assert hugetlb.use(f"{above}/leaf")[0] == (size, 0)
    operation.undo()
    assert operation.describe() == f'write "0" to {above}/leaf/hugetlb.{size}.max'


def test_a_file_that_is_not_there_is_told_with_what_to_do(above: str) -> None:
    os.mkdir(f"{above}/leaf")
    with pytest.raises(Unsupported, match=r"leaf has no memory\.max") as caught:
        SetCgroup(f"{above}/leaf", "memory.max", "1").apply(Results())
    assert "controller" in str(caught.value.hint)
    SetCgroup(f"{above}/leaf", "memory.swap.max", "0").apply(Results())  # no swap without swap
    with pytest.raises(FileNotFoundError):
        SetCgroup(f"{above}/gone", "memory.swap.max", "0").apply(Results())


def test_a_value_that_the_kernel_refuses_is_told_with_the_file(above: str) -> None:
    size = hugetlb.use(above)[0][0]
    with pytest.raises(OSError, match="Invalid argument") as caught:
        SetCgroup(above, f"hugetlb.{size}.max", "many").apply(Results())
    assert f"{above}/hugetlb.{size}.max" in str(caught.value)


def test_controllers_that_must_come_and_those_that_may(above: str) -> None:
    EnableControllers(above, ("hugetlb",), ("nonsense",)).apply(Results())
    assert files.enabled(above) == ("hugetlb",)
    EnableControllers(above, (), ("hugetlb", "nonsense")).apply(Results())
    with pytest.raises(Unsupported, match="the controller nonsense cannot be enabled"):
        EnableControllers(above, ("nonsense",)).apply(Results())


def test_no_controllers_beside_processes(above: str, sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(Conflict, match=rf"holds processes \({sleeper.pid}\)"):
        EnableControllers(above, ("hugetlb",)).apply(Results())
    VacateCgroup(above).apply(Results())
    EnableControllers(above, ("hugetlb",)).apply(Results())
    assert files.processes(above) == ()
    assert files.processes(f"{above}/init") == (sleeper.pid,)
    VacateCgroup(above).apply(Results())
    VacateCgroup(above).undo()
    assert files.processes(f"{above}/init") == (sleeper.pid,)


def test_all_processes_are_moved_those_too_that_are_being_born(above: str) -> None:
    """Each is the parent of the next one, so there is always a new one."""
    line = 'echo $$ > "$0/cgroup.procs"; i=0; while :; do sleep 0.01; done'
    loops = [subprocess.Popen(["sh", "-c", line, above]) for _ in range(5)]
    try:
        eventually(lambda: {loop.pid for loop in loops} <= set(files.processes(above)))
        VacateCgroup(above).apply(Results())
        assert files.processes(above) == ()
        assert {loop.pid for loop in loops} <= set(files.processes(f"{above}/init"))
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_a_leaf_needs_its_group_alive_and_thawed(above: str) -> None:
    with pytest.raises(Conflict, match="has gone"):
        CreateLeaf(f"{above}/pod", "leaf").apply(Results())
    assert not os.path.exists(f"{above}/pod")
    os.mkdir(f"{above}/pod")
    group.freeze(f"{above}/pod")
    frozen = CreateLeaf(f"{above}/pod", "leaf")
    with pytest.raises(Conflict, match="is frozen"):
        frozen.apply(Results())
    frozen.undo()
    group.thaw(f"{above}/pod")
    CreateLeaf(f"{above}/pod", "leaf").apply(Results())
    assert os.path.isdir(f"{above}/pod/leaf")
    CreateLeaf(f"{above}/pod", "leaf").undo()
    assert os.path.isdir(f"{above}/pod"), "only its own"


def test_what_lies_between_goes_with_the_last(above: str) -> None:
    first, second = (CreateCgroup(f"{above}/prefix", f"tier/{name}") for name in ("one", "two"))
    first.apply(Results())
    second.apply(Results())
    first.undo()
    assert os.path.isdir(second.path)
    second.undo()
    assert not os.path.exists(f"{above}/prefix")
    assert os.path.isdir(above)


def test_the_root_is_known_and_each_lack_has_a_remedy() -> None:
    mount = files.unified_mount()
    assert is_root(mount)
    place = find_place()
    for name in ("cpu", "memory", "io", "pids", "cpuset", "hugetlb"):
        assert remedy(place, name)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV])
def test_a_scope_that_goes_while_it_is_looked_at_is_one_to_be_made(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def read(group: str, name: str) -> str:
        if group.endswith(SCOPE):
            raise OSError(number, os.strerror(number), f"{group}/{name}")
        return "cpu io memory pids misc"

    monkeypatch.setattr(delegation, "_systemd_is_here", lambda: True)
    monkeypatch.setattr(files, "read", read)
    assert set(find_place().controllers) == {"cpu", "io", "memory", "pids"}
