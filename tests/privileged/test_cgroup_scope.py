"""The lease on systemd's scope, with a stand-in for systemd: it makes the scope, and takes it away when it is empty."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyrun.cgroups import files, group
from pyrun.cgroups.delegation import SCOPE
from pyrun.cgroups.scope import EnsureScope
from pyrun.errors import Unsupported
from pyrun.kernel.operation import Results
from pyrun.process.programs import program_path

pytestmark = pytest.mark.requires("cgroup_v2")

SYSTEMD_RUN = """#!/bin/sh
echo "$@" >> "$CALLS"
for program; do :; done
until mkdir -p "$SCOPE" && echo $$ > "$SCOPE/cgroup.procs"; do :; done 2>/dev/null
exec "$program"
"""


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The path of the scope on a hierarchy of its own, and a `systemd-run` that makes it."""
    root = f"{files.unified_mount()}/pyrun-test-{os.getpid()}"
    path = f"{root}/{SCOPE}"
    os.makedirs(os.path.dirname(path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemd-run").write_text(SYSTEMD_RUN)
    (tmp_path / "bin/systemd-run").chmod(0o755)
    (tmp_path / "calls").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SCOPE", path)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    over = threading.Event()
    systemd = threading.Thread(target=_collect, args=(path, over))
    systemd.start()
    yield path
    over.set()
    systemd.join()
    group.remove(root)


def _collect(scope: str, over: threading.Event) -> None:
    while not over.wait(0.02):
        if os.path.isdir(scope) and not group.is_populated(scope):
            with contextlib.suppress(OSError):
                for path, _, _ in os.walk(scope, topdown=False):
                    os.rmdir(path)


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def lease(scope: str, uid: str) -> EnsureScope:
    return EnsureScope(scope, uid, program_path("pause"))


def test_the_first_lease_makes_the_scope_and_the_last_one_ends_it(scope: str, tmp_path: Path) -> None:
    first, second = lease(scope, "one"), lease(scope, "two")
    first.apply(Results())
    first.apply(Results())
    second.apply(Results())
    assert len(calls(tmp_path)) == 1
    wanted = "--scope --quiet --collect --unit=pyrun.scope --slice=machine.slice --property=Delegate=yes"
    assert calls(tmp_path) == [f"{wanted} {program_path('pause')}"]
    assert files.processes(scope) == ()
    (holder,) = files.processes(f"{scope}/init")
    assert Path(f"/proc/{holder}/comm").read_text() == "pause\n"
    assert {"lease-one", "lease-two", "init"} == {p.name for p in Path(scope).iterdir() if p.is_dir()}
    first.undo()
    assert Path(scope, "lease-two").is_dir()
    second.undo()
    assert not os.path.exists(scope)
    assert not os.path.exists(f"/proc/{holder}")
    second.undo()


def test_a_scope_that_holds_something_else_stays(scope: str) -> None:
    only = lease(scope, "one")
    only.apply(Results())
    os.mkdir(f"{scope}/pyrun-other")
    only.undo()
    assert files.processes(f"{scope}/init")
    os.rmdir(f"{scope}/pyrun-other")
    only.undo()
    assert not os.path.exists(scope)


def test_many_at_once_get_one_scope(scope: str, tmp_path: Path) -> None:
    leases = [lease(scope, f"u{number}") for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: one.apply(Results()), leases))
        assert len(calls(tmp_path)) == 1
        list(pool.map(lambda one: one.undo(), leases))
    assert not os.path.exists(scope)


def test_it_is_made_again_after_its_end(scope: str, tmp_path: Path) -> None:
    for _ in range(3):
        only = lease(scope, "one")
        only.apply(Results())
        only.undo()
    assert len(calls(tmp_path)) == 3


def test_a_holder_that_was_killed_is_replaced_in_a_scope_that_others_keep(scope: str, tmp_path: Path) -> None:
    lease(scope, "one").apply(Results())
    with subprocess.Popen(["sleep", "1000"]) as other:
        os.mkdir(f"{scope}/pyrun-other")
        files.write(f"{scope}/pyrun-other", "cgroup.procs", str(other.pid))
        (holder,) = files.processes(f"{scope}/init")
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        lease(scope, "two").apply(Results())
        (replaced,) = files.processes(f"{scope}/init")
        assert replaced != holder and len(calls(tmp_path)) == 1
        other.kill()
    os.rmdir(f"{scope}/pyrun-other")
    lease(scope, "one").undo()
    lease(scope, "two").undo()
    assert not os.path.exists(scope)


def test_a_maker_that_was_killed_half_way_leaves_a_scope_that_can_be_used(scope: str, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as half_way:
        while half_way.pid not in files.processes(scope):
            with contextlib.suppress(FileNotFoundError):  # an empty one is taken away at once
                os.makedirs(scope, exist_ok=True)
                files.write(scope, "cgroup.procs", str(half_way.pid))
        lease(scope, "one").apply(Results())
        assert files.processes(scope) == ()
        assert files.processes(f"{scope}/init") == (half_way.pid,)
        lease(scope, "one").undo()
    assert not os.path.exists(scope) and not calls(tmp_path)


def test_a_holder_that_was_killed_is_replaced(scope: str, tmp_path: Path) -> None:
    lease(scope, "one").apply(Results())
    group.kill(scope)
    deadline = time.monotonic() + 10
    while os.path.exists(scope):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lease(scope, "two").apply(Results())
    assert len(calls(tmp_path)) == 2
    lease(scope, "one").undo()
    assert os.path.isdir(scope)
    lease(scope, "two").undo()


@pytest.mark.parametrize(
    ("script", "words"),
    [("echo no bus >&2; exit 1", "no bus"), ("exit 1", "gives no reason")],
)
def test_what_systemd_says_is_told(scope: str, tmp_path: Path, script: str, words: str) -> None:
    (tmp_path / "bin/systemd-run").write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(Unsupported, match=words) as caught:
        lease(scope, "one").apply(Results())
    assert "dbus" in str(caught.value.hint)
    lease(scope, "one").undo()


def test_without_systemd_run(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unsupported, match="systemd-run is not installed"):
        lease(scope, "one").apply(Results())
