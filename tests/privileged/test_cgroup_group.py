"""Groups of the unified hierarchy: made, killed, emptied, removed, frozen and thawed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.cgroups import files, group
from pyrun.cgroups.group import CreateCgroup
from pyrun.errors import PyrunError
from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results

pytestmark = pytest.mark.requires("cgroup_v2")


@pytest.fixture
def prefix() -> Iterator[str]:
    """The path of a prefix that no instance uses; it must be gone at the end."""
    path = f"{files.unified_mount()}/pyrun-test-{os.getpid()}"
    yield path
    left = os.path.exists(path)
    group.remove(path)
    assert not left


@pytest.fixture
def leaf(prefix: str) -> Iterator[str]:
    """A group below the prefix."""
    operation = CreateCgroup(prefix, "leaf")
    operation.apply(Results())
    yield operation.path
    operation.undo()


def sleep_in(path: str) -> subprocess.Popen[bytes]:
    """Start a process in a group; whoever asks reaps it."""
    return subprocess.Popen(
        ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && echo + && exec sleep 1000', path], stdout=subprocess.PIPE
    )


def ready(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process is in its group."""
    assert process.stdout is not None
    assert process.stdout.read(1) == b"+"
    process.stdout.close()


def test_apply_and_undo(prefix: str) -> None:
    operation = CreateCgroup(prefix, "pod")
    operation.apply(Results())
    assert Path(operation.path).is_dir()
    assert operation.describe() == f"mkdir {prefix}/pod"
    operation.undo()
    assert not os.path.exists(prefix)


def test_undo_is_idempotent_and_needs_no_apply(prefix: str) -> None:
    operation = CreateCgroup(prefix, "pod")
    operation.undo()
    operation.apply(Results())
    operation.undo()
    operation.undo()


def test_a_group_that_is_there_is_refused(leaf: str, prefix: str) -> None:
    with pytest.raises(FileExistsError):
        CreateCgroup(prefix, "leaf").apply(Results())


def test_the_shared_prefix_goes_with_the_last_group(prefix: str) -> None:
    first, second = CreateCgroup(prefix, "one"), CreateCgroup(prefix, "two")
    first.apply(Results())
    second.apply(Results())
    first.undo()
    assert os.path.isdir(prefix)
    second.undo()
    assert not os.path.exists(prefix)


def test_undo_kills_what_is_inside_and_below(prefix: str) -> None:
    groups = [CreateCgroup(prefix, name) for name in ("pod", "pod/a", "pod/b", "pod/b/exec")]
    for operation in groups:
        operation.apply(Results())
    processes = [sleep_in(operation.path) for operation in groups[1:]]
    for process in processes:
        ready(process)
    assert files.processes(groups[1].path) == (processes[0].pid,)
    groups[0].undo()
    assert [process.wait(5) for process in processes] == [-9] * 3
    assert not os.path.exists(prefix)


def test_a_process_is_born_in_a_group(leaf: str) -> None:
    directory = os.open(leaf, os.O_RDONLY | os.O_DIRECTORY)
    pid, pidfd = syscalls.clone3(0, directory)
    if pid == 0:
        time.sleep(100)
        os._exit(0)
    assert files.processes(leaf) == (pid,)
    group.kill(leaf)
    assert group.wait_until_empty(leaf)
    os.waitpid(pid, 0)
    os.close(pidfd)
    os.close(directory)


def test_waiting_for_the_last_process_ends_with_it(leaf: str) -> None:
    process = sleep_in(leaf)
    ready(process)
    began = time.monotonic()
    assert not group.wait_until_empty(leaf, 0.1)
    assert 0.1 <= time.monotonic() - began < 20
    process.kill()
    assert group.wait_until_empty(leaf, 5)
    assert files.events(leaf)["populated"] == 0
    process.wait()


def test_what_is_gone_is_empty_and_killed(prefix: str) -> None:
    missing = f"{prefix}/none"
    group.kill(missing)
    assert group.wait_until_empty(missing)
    group.remove(missing)
    assert files.processes(missing) == ()
    assert not group.is_frozen(missing)


def test_freeze_stops_and_thaw_lets_go_on(leaf: str) -> None:
    process = subprocess.Popen(
        ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; while :; do echo x; sleep 0.01; done', leaf],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"x"
    group.freeze(leaf)
    assert group.is_frozen(leaf)
    assert files.events(leaf)["frozen"] == 1
    os.set_blocking(process.stdout.fileno(), False)
    process.stdout.read()
    time.sleep(0.1)
    assert not process.stdout.read()
    group.thaw(leaf)
    assert not group.is_frozen(leaf)
    os.set_blocking(process.stdout.fileno(), True)
    assert process.stdout.read(1)
    group.kill(leaf)
    process.communicate()


def test_a_frozen_group_can_be_killed_and_removed(prefix: str) -> None:
    operation = CreateCgroup(prefix, "frozen")
    operation.apply(Results())
    process = sleep_in(operation.path)
    ready(process)
    group.freeze(operation.path)
    operation.undo()
    assert process.wait(5) == -9


def test_a_process_that_outlives_its_kill_is_named(leaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing kills a process in D state; here the kill is taken away."""
    process = sleep_in(leaf)
    ready(process)
    with monkeypatch.context() as patch:
        patch.setattr(group, "kill", lambda _: None)
        patch.setattr(group, "wait_until_empty", lambda _: False)
        with pytest.raises(PyrunError, match=f"cgroup {leaf} still holds processes {process.pid}") as caught:
            group.remove(leaf)
    assert "D state" in str(caught.value.hint)
    process.kill()
    process.wait()


def test_a_write_that_fails_names_path_and_data(leaf: str) -> None:
    with pytest.raises(OSError, match='write "many": Invalid argument') as caught:
        files.write(leaf, "cgroup.freeze", "many")
    assert caught.value.filename == f"{leaf}/cgroup.freeze"


def test_the_hierarchy_is_found_wherever_it_is_mounted() -> None:
    assert os.path.exists(f"{files.unified_mount()}/cgroup.controllers")
    assert isinstance(files.controllers(files.unified_mount()), tuple)


def test_oom_kills_are_counted_where_the_controller_is(tmp_path: Path) -> None:
    """The memory controller may be elsewhere on this machine; its file has this form everywhere."""
    assert group.oom_kills(str(tmp_path)) == 0
    (tmp_path / "memory.events").write_text("low 0\nhigh 4\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert group.oom_kills(str(tmp_path)) == 2
