"""Locks: exclusive, naming their holder, kept by forked children and lost at exec."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.errors import Busy
from pyrun.state.locks import acquire, holder_of, locked

HOLD = """
import sys, time
from pyrun.state.locks import locked
with locked(sys.argv[1], "it", 1):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/lock"


@pytest.fixture
def holder(path: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate()


def test_the_lock_is_exclusive_and_names_its_holder(path: str, holder: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    with pytest.raises(Busy) as caught, locked(path, "Pod web", 0.1):
        pass
    assert 0.1 <= time.monotonic() - began < 5
    assert str(caught.value).startswith(f"Pod web is held by process {holder.pid} ({sys.executable} -c")
    assert caught.value.hint == "wait for it, or end that process"


def test_it_is_waited_for(path: str, holder: subprocess.Popen[str]) -> None:
    assert acquire(path, 0) is None
    holder.communicate()
    with locked(path, "it", 5):
        assert acquire(path, 0) is None


def test_it_is_free_after_the_block_even_when_that_raises(path: str) -> None:
    with pytest.raises(ZeroDivisionError), locked(path, "it", 0):
        _ = 1 // 0
    with locked(path, "it", 0):
        pass


def test_the_death_of_the_holder_frees_it(path: str, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    with locked(path, "it", 5):
        pass


def test_a_forked_child_keeps_it(path: str) -> None:
    """A launcher whose parent was killed still makes something of the Pod."""
    ready, go = os.pipe(), os.pipe()
    with locked(path, "it", 0):
        pid = os.fork()
        if pid == 0:
            os.write(ready[1], b"+")
            os.read(go[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
    try:
        assert acquire(path, 0) is None
        assert holder_of(path).startswith("process ")
    finally:
        os.write(go[1], b"+")
        os.waitpid(pid, 0)
        for fd in (*ready, *go):
            os.close(fd)
    with locked(path, "it", 0):
        pass


def test_exec_loses_it(path: str) -> None:
    """The monitor and the container live on; they make nothing."""
    with locked(path, "it", 0):
        pid = os.posix_spawn("/bin/sleep", ["sleep", "100"], {})
    try:
        with locked(path, "it", 5):
            pass
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_lock_file_that_was_removed_is_not_the_lock(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Pod is removed between open(2) and flock(2) of somebody who wanted its lock."""
    real = fcntl.flock
    calls: list[int] = []

    def removed_just_before(fd: int, operation: int) -> None:
        if not calls:
            os.unlink(path)
        calls.append(fd)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", removed_just_before)
    fd = acquire(path, 0)
    assert fd is not None
    assert os.fstat(fd).st_ino == os.stat(path).st_ino
    assert acquire(path, 0) is None
    os.close(fd)


def test_a_lock_in_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, locked(f"{tmp_path}/gone/lock", "it", 0):
        pass
    assert caught.value.filename == f"{tmp_path}/gone/lock"


def test_nobody_holds_it(path: str) -> None:
    with locked(path, "it", 0):
        pass
    assert holder_of(path) == "another process"
    assert holder_of(f"{path}/none") == "a process that has just ended"
