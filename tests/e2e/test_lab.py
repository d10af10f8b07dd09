"""The lab: each exercise done by the commands of its own solution; what its check and its reset are worth."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyrun.cgroups import files
from pyrun.cgroups.delegation import find_place
from pyrun.controllers.running import supervisor
from pyrun.images.store import ImageStore
from pyrun.kernel.proc import ProcessIdentity
from pyrun.lab import kernel, texts
from pyrun.lab.catalogue import EXERCISES
from pyrun.namespaces.table import Namespace
from tests.e2e.conftest import Cli, eventually
from tests.probes import PROBES

pytestmark = pytest.mark.requires("pods", "nftables", "busybox")

TREE = Path(__file__).resolve().parents[2]
IMAGES = Path(os.environ.get("PYRUN_TEST_IMAGES", TREE / ".cache/images"))


def numbers() -> list[Any]:
    """All exercises; those that need something of the host carry the word for it."""
    controllers = pytest.mark.requires("cgroup_controllers", "pressure")
    return [pytest.param(e.number, marks=controllers if e.needs else ()) for e in EXERCISES]


def scene(cli: Cli, number: int) -> Path:
    """The directory of an exercise."""
    return cli.root / "lab" / str(number)


def cgroup(cli: Cli, number: int) -> str:
    """The group of an exercise."""
    return f"{cli.layout.cgroup_prefix(find_place().parent)}/lab/{number}"


def check(cli: Cli, number: int) -> tuple[int, str]:
    """Return the exit code of a check, and what it says."""
    result = cli.run("lab", "check", str(number))
    assert result.stderr == ""
    return result.returncode, result.stdout


def open_points(cli: Cli, number: int) -> list[str]:
    """Return what a check says is not yet so."""
    return [line[5:] for line in check(cli, number)[1].splitlines() if line.startswith("no  ")]


def until_done(cli: Cli, number: int) -> str:
    """Wait until a check finds all done; return what it says."""

    def done() -> str | None:
        code, said = check(cli, number)
        return said if code == 0 else None

    return eventually(done, 20)


def by_hand(cli: Cli, number: int, command: str) -> None:
    """Type a command in the scene, as a person would; what it leaves running writes nowhere."""
    subprocess.run(
        ["sh", "-ec", f". ./env\n{command}"],
        cwd=scene(cli, number),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=cli.environment,
        timeout=60,
        check=True,
    )


@pytest.mark.guest
@pytest.mark.parametrize("number", numbers())
def test_each_exercise_can_be_done_and_undone(cli: Cli, number: int) -> None:
    text = texts.read(number)
    said = cli.ok("lab", "start", str(number))
    assert text.title in said
    assert str(scene(cli, number)) in said
    code, said = check(cli, number)
    assert code == 1, said
    assert "Not yet" in said
    said = cli.ok("lab", "solve", str(number), timeout=90)
    for command in text.commands:
        assert "# " + command.splitlines()[0] in said
    said = until_done(cli, number)
    assert f"Exercise {number} is done." in said
    assert "no  " not in said
    said = cli.ok("lab", "reset", str(number))
    assert f"Nothing is left of exercise {number}." in said
    assert not (cli.root / "lab").exists()
    assert not os.path.exists(cgroup(cli, number))
    assert supervisor(cli.layout) is None  # and the fixture looks for all else


@pytest.mark.parametrize("number", [1, 3, 5, 13])
def test_a_check_believes_the_kernel_and_not_what_was_done(cli: Cli, number: int) -> None:
    cli.ok("lab", "start", str(number))
    cli.ok("lab", "solve", str(number))
    until_done(cli, number)
    prefix = cli.layout.cgroup_prefix(find_place().parent)
    files.write(prefix, "cgroup.kill", "1")
    eventually(lambda: not kernel.processes_in(prefix))
    assert check(cli, number)[0] == 1
    assert "done" in cli.ok("lab", "list")  # once it was
    cli.ok("lab", "reset", str(number))


def test_a_chroot_is_not_a_root_of_its_own(cli: Cli) -> None:
    cli.ok("lab", "start", "2")
    line = "mount -t proc proc root/proc; exec chroot root sleep 100000"
    by_hand(cli, 2, f"./in unshare --mount --pid --fork sh -c '{line}' &")
    eventually(lambda: len(open_points(cli, 2)) == 1)
    [point] = open_points(cli, 2)
    assert point.startswith("so is the root of its mount namespace")
    cli.ok("lab", "reset", "2")


def test_an_old_root_that_is_still_mounted_is_seen(cli: Cli) -> None:
    cli.ok("lab", "start", "2")
    solution, *_ = texts.read(2).commands
    by_hand(cli, 2, solution.replace("umount -l /old", "true"))
    eventually(lambda: open_points(cli, 2) == ["the host's root is mounted nowhere in it"])
    cli.ok("lab", "reset", "2")


def test_a_server_in_the_wrong_container_is_seen(cli: Cli) -> None:
    cli.ok("lab", "start", "3")
    share = "nsenter --target $holder --ipc --uts --net"
    contain = "unshare --pid --fork --mount-proc sleep 100000 &"
    lines = [
        "./in unshare --ipc --uts --net sleep 100000 & holder=$!",
        "while [ $(readlink /proc/$holder/ns/net) = $(readlink /proc/self/ns/net) ]; do sleep 0.05; done",
        f"./in {share} {contain}",
        f"./in {share} {contain}",
        f"./in {share} root/bin/busybox httpd -f -p 8080 -h root/etc &",  # beside them, in none of the two
    ]
    by_hand(cli, 3, "\n".join(lines))
    eventually(lambda: len(open_points(cli, 3)) == 2)
    loopback, server = open_points(cli, 3)
    assert "loopback" in loopback
    assert "8080" in server
    cli.ok("lab", "reset", "3")


def test_hints_come_one_more_each_time(cli: Cli) -> None:
    cli.ok("lab", "start", "1")
    hints = texts.read(1).hints
    for count in range(1, len(hints) + 2):
        said = cli.ok("lab", "hint", "1")
        given = [hint for hint in hints if hint.splitlines()[0] in said]
        assert given == list(hints[:count])
    cli.ok("lab", "reset", "1")


def test_wrong_usage_has_a_code_of_its_own(cli: Cli) -> None:
    for arguments in (
        ("check", "1"),
        ("hint", "1"),
        ("solve", "1"),
        ("start", "99"),
        ("check", "one"),
        ("check",),
    ):
        assert cli.run("lab", *arguments).returncode == 2, arguments
    cli.ok("lab", "start", "1")
    twice = cli.run("lab", "start", "1")
    assert twice.returncode == 1
    assert "started already" in twice.stderr
    rows = {line.split()[0]: line.split()[1] for line in cli.ok("lab", "list").splitlines()[1:]}
    assert rows == {str(e.number): "started" if e.number == 1 else "new" for e in EXERCISES}
    cli.ok("lab", "reset", "1")
    cli.ok("lab", "reset", "1")  # nothing to undo is no error


def test_reset_undoes_what_is_half_done(cli: Cli) -> None:
    cli.ok("lab", "start", "4")
    directory = scene(cli, 4)
    by_hand(cli, 4, "mount --bind root root; mount -t tmpfs none root/tmp; ./in unshare --net sleep 100000 &")
    by_hand(cli, 4, "pyrun pod create -f pod.yaml; kill -9 $(cat $(find $PODS -path '*/pause/cgroup.procs'))")
    (directory / "env").unlink()
    [process] = eventually(lambda: kernel.processes_in(cgroup(cli, 4)) or None)
    identity = ProcessIdentity.of(process.pid)
    cli.ok("lab", "reset", "4")
    eventually(lambda: not identity.alive())
    assert not directory.exists()


def test_reset_leaves_alone_what_is_not_the_labs(cli: Cli) -> None:
    cli.ok("lab", "start", "4")
    uid = cli.create(cli.pod("exec sleep 100000", name="lab-4"))  # the name, and not the label
    inside = subprocess.Popen(["sleep", "100000"], cwd=scene(cli, 4))
    try:
        failed = cli.run("lab", "solve", "4")
        assert failed.returncode == 1
        assert "pyrun lab reset 4" in failed.stderr
        assert not kernel.processes_in(cgroup(cli, 4))  # the commands after the failed one were not run
        assert open_points(cli, 4) == ["there is a Pod lab-4, and its pause runs"]
        cli.ok("lab", "reset", "4")
        assert cli.inspect("lab-4")["metadata"]["uid"] == uid
        assert cli.inspect("lab-4")["containers"][0]["init"]["alive"]
        assert inside.poll() is None
    finally:
        inside.send_signal(signal.SIGKILL)
        inside.wait()


def test_reset_ends_no_supervisor_but_the_labs(cli: Cli) -> None:
    cli.ok("lab", "start", "1")
    cli.ok("supervise", "--detach")
    before = eventually(lambda: supervisor(cli.layout))
    (cli.root / "lab/1.json").write_text("damaged")  # and this keeps nobody from undoing
    cli.ok("lab", "reset", "1")
    assert supervisor(cli.layout) == before
    assert not (cli.root / "lab").exists()


def test_without_controllers_an_exercise_says_what_it_needs_and_where_that_is(cli: Cli) -> None:
    if PROBES["cgroup_controllers"]() is None:
        pytest.skip("this machine has all controllers")
    refused = cli.run("lab", "start", "9")
    assert refused.returncode == 1
    assert "memory controller" in refused.stderr
    assert "make vm-shell" in refused.stderr
    assert cli.run("lab", "check", "9").returncode == 2  # it was not started
    assert not (cli.root / "lab").exists()


def test_nginx_and_its_collector_where_their_images_are_loaded(cli: Cli) -> None:
    names = ("busybox", "nginx", "collector")
    if missing := [name for name in names if not (IMAGES / f"{name}.tar").exists()]:
        pytest.skip(f"{', '.join(missing)} not built in {IMAGES} (make images)")
    for name in names:
        cli.ok("image", "load", str(IMAGES / f"{name}.tar"))
    assert ImageStore(cli.layout.images).resolve("nginx")
    cli.ok("lab", "start", "6")
    assert "image: nginx" in (scene(cli, 6) / "pod.yaml").read_text()
    assert "GET / " in cli.ok("lab", "solve", "6", timeout=90)
    until_done(cli, 6)
    cli.ok("lab", "reset", "6")


def test_the_host_of_a_check_is_who_asks(cli: Cli) -> None:
    """A process in namespaces that the asker is in too has none of its own."""
    cli.ok("lab", "start", "1")
    by_hand(cli, 1, "./in unshare --pid --fork sleep 100000 &")
    host = kernel.this()
    inside = eventually(
        lambda: next((p for p in kernel.processes_in(cgroup(cli, 1)) if p.number_inside() == 1), None)
    )
    assert inside.shares(Namespace.UTS, host)
    assert not inside.shares(Namespace.PID, host)
    points = open_points(cli, 1)
    assert "hostname" in points[1]
    assert len(points) == 2
    cli.ok("lab", "reset", "1")
