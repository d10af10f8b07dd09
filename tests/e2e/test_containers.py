"""A container: its root file system, what it is given of /proc, /sys and /dev, its program and environment."""

from __future__ import annotations

import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrun.plan.container import MASKED_PATHS, READONLY_PATHS
from pyrun.runtime.clock import parse_rfc3339
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import (
    answers,
    box,
    in_root,
    init_of,
    log_lines,
    log_path,
    manifest,
    monitor_of,
    mounts_of,
    output,
    pods,
    probe,
    run_pod,
    state_of,
    status_field,
    wait_for_end,
    wait_for_output,
)

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

QUESTIONS = probe(
    root_write="echo changed > /etc/passwd; echo new > /new; ls /new",
    pid_1="cat /proc/1/comm",
    processes="ls /proc | grep -c '^[0-9][0-9]*$'",
    cgroup="cat /proc/self/cgroup",
    groups="ls /sys/fs/cgroup",
    proc_sys="echo x > /proc/sys/kernel/hostname",
    sys_write="mkdir /sys/fs/cgroup/child; touch /sys/new",
    masked="for f in "
    + " ".join(MASKED_PATHS)
    + "; do [ -d $f ] && ls -A $f || head -c 1 $f; done 2>/dev/null",
    dev="ls /dev",
    links="for f in fd stdin stdout stderr ptmx core; do readlink /dev/$f; done",
    zero="head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; head -c 3 /dev/random | wc -c",
    null="echo x > /dev/null && wc -c < /dev/null",
    full="echo x > /dev/full",
    stdout="echo through-a-link > /dev/stdout",
    mknod_root="mknod /tmp/zero c 1 5 && echo made && head -c 1 /tmp/zero",
    mknod_dev="mknod /dev/other c 1 5 && echo made && head -c 1 /dev/other",
    mknod_shm="mknod /dev/shm/zero c 1 5 && echo made && head -c 1 /dev/shm/zero",
    umask="umask; touch /mode; stat -c %a /mode",
    nofile="ulimit -n; ulimit -Hn",
    core="ulimit -c",
    cwd="pwd",
    environment="env",
    tty="tty",
)


class Looked:
    """A Pod of one container with every default, and what it has seen."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.image_before = picture(cli.rootfs)
        self.uid = run_pod(cli, box(f"{QUESTIONS}; exec sleep 1000"), name="looked")
        self.init = init_of(cli, self.uid)
        self.seen = answers(cli, self.uid)
        self.mounts = mounts_of(self.init)


def picture(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode, size and time of each file below a directory."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


@pytest.fixture(scope="module")
def looked(module_cli: Cli) -> Iterator[Looked]:
    """The container that the tests only look at."""
    yield Looked(module_cli)
    module_cli.ok("pod", "rm", "-f", "looked")


# The root file system


def test_the_root_is_an_overlay(looked: Looked) -> None:
    assert looked.mounts["/"][0] == "overlay"


def test_writes_do_not_reach_the_image(looked: Looked) -> None:
    assert looked.seen["root_write"] == "/new"
    assert picture(looked.cli.rootfs) == looked.image_before
    upper = Path(looked.cli.layout.container_root(looked.uid, "c0", 0)) / "upper"
    assert (upper / "new").read_text() == "new\n"
    assert (upper / "etc/passwd").read_text() == "changed\n"


def test_containers_of_one_image_do_not_see_each_others_writes(cli: Cli) -> None:
    uid = run_pod(
        cli,
        box("touch /mine /dev/shm/there; exec sleep 1000"),
        box("until [ -e /dev/shm/there ]; do sleep 0.02; done; ls /mine; echo end", "c1"),
    )
    assert "No such file" in wait_for_output(cli, uid, "end", "c1")


def test_no_mount_of_the_host_is_visible(looked: Looked) -> None:
    expected = {
        "/": "overlay",
        "/proc": "proc",
        "/sys": "sysfs",
        "/sys/fs/cgroup": "cgroup2",
        "/dev": "tmpfs",
    }
    expected |= {"/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/dev/shm": "tmpfs"}
    ours = {point: kind for point, (kind, _) in looked.mounts.items() if point in expected}
    assert ours == expected
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    files = {f"/etc/{name}" for name in ("hosts", "hostname", "resolv.conf")} | {"/dev/termination-log"}
    assert set(looked.mounts) - set(expected) - devices - files <= {*MASKED_PATHS, *READONLY_PATHS}


def test_the_old_root_is_gone_after_pivot_root(looked: Looked) -> None:
    """With a chroot, / would still lie on the host's root mount."""
    lines = Path(f"/proc/{looked.init.pid}/mountinfo").read_text().splitlines()
    assert sum(line.split()[4] == "/" for line in lines) == 1
    inside = os.stat(in_root(looked.init, "/"))
    outside = os.stat("/")
    assert inside.st_dev != outside.st_dev


# /proc, /sys, /dev


def test_proc_shows_the_containers_own_processes(looked: Looked) -> None:
    assert looked.seen["pid_1"] == "sh"
    assert int(looked.seen["processes"]) < 8


def test_the_leaf_is_the_root_of_the_cgroup_namespace(looked: Looked) -> None:
    assert looked.seen["cgroup"].splitlines()[-1] == "0::/"
    assert "cgroup.procs" in looked.seen["groups"]


def test_sys_is_read_only(looked: Looked) -> None:
    for path in ("/sys", "/sys/fs/cgroup"):
        assert {"ro", "nosuid", "nodev", "noexec"} <= looked.mounts[path][1]
    assert looked.seen["sys_write"].count("Read-only file system") == 2


@pytest.mark.parametrize("path", [path for path in READONLY_PATHS if os.path.exists(path)])
def test_read_only_paths_of_proc(looked: Looked, path: str) -> None:
    assert "ro" in looked.mounts[path][1]


def test_a_sysctl_cannot_be_written(looked: Looked) -> None:
    assert "Read-only file system" in looked.seen["proc_sys"]


@pytest.mark.parametrize("path", [path for path in MASKED_PATHS if os.path.exists(path)])
def test_masked_paths_show_nothing(looked: Looked, path: str) -> None:
    if Path(path).is_dir():
        assert looked.mounts[path][0] == "tmpfs"
        assert os.listdir(in_root(looked.init, path)) == []
    else:
        assert os.stat(in_root(looked.init, path)).st_rdev == os.makedev(1, 3)


def test_nothing_can_be_read_of_what_is_masked(looked: Looked) -> None:
    assert looked.seen["masked"] == ""


def test_proc_cannot_be_used_to_run_programs_or_devices(looked: Looked) -> None:
    assert {"nosuid", "nodev", "noexec"} <= looked.mounts["/proc"][1]


def test_dev_has_the_usual_nodes_and_no_others(looked: Looked) -> None:
    nodes = {"null", "zero", "full", "random", "urandom", "tty"}
    links = {"fd", "stdin", "stdout", "stderr", "ptmx", "core"}
    assert set(looked.seen["dev"].split()) == nodes | links | {"mqueue", "pts", "shm", "termination-log"}


def test_links_of_dev(looked: Looked) -> None:
    assert looked.seen["links"].split() == [
        *(f"/proc/self/fd{rest}" for rest in ("", "/0", "/1", "/2")),
        "pts/ptmx",
        "/proc/kcore",
    ]


def test_devices_work(looked: Looked) -> None:
    assert looked.seen["zero"].split() == ["3", "3", "3"]
    assert looked.seen["null"] == "0"
    assert "No space left on device" in looked.seen["full"]


def test_dev_pts_is_new_and_dev_mqueue_is_there(looked: Looked) -> None:
    assert looked.mounts["/dev/pts"][0] == "devpts"
    assert os.listdir(in_root(looked.init, "/dev/pts")) == ["ptmx"]
    assert stat.S_IMODE(os.stat(in_root(looked.init, "/dev/pts/ptmx")).st_mode) == 0o666


@pytest.mark.parametrize("place", ["mknod_root", "mknod_dev", "mknod_shm"])
def test_a_device_node_made_inside_cannot_be_opened(looked: Looked, place: str) -> None:
    seen = looked.seen[place].splitlines()
    assert seen[0] == "made"
    assert "Permission denied" in seen[1]


# Propagation


PROPAGATION = """
import os, subprocess, sys
from pathlib import Path
from pyrun.kernel.syscalls import *

place = Path(sys.argv[1])
unshare(CLONE_NEWNS)
MS_SHARED = 1 << 20
mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, propagation=MS_PRIVATE)
mount("tmpfs", str(place), "tmpfs")
mount_setattr(AT_FDCWD, str(place), 0, propagation=MS_SHARED)
for name in ("ours", "theirs"):
    (place / name).mkdir()
subprocess.run([sys.executable, "-m", "pyrun", "pod", "create", "-f", "-"], check=True)
mount("tmpfs", str(place / "ours"), "tmpfs")
while not (place / "mounted").exists():
    pass
points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
print(str(place / "ours") in points, str(place / "theirs") in points)
"""


def test_no_mount_of_either_side_shows_on_the_other(cli: Cli, tmp_path: Path) -> None:
    """The host here is a mount namespace of its own, in which the volume is a shared mount."""
    place = tmp_path / "shared"
    place.mkdir()
    container = box(
        "mount -t tmpfs tmpfs /volume/theirs && touch /volume/mounted; exec sleep 1000",
        volumeMounts=[{"name": "v", "mountPath": "/volume"}],
        securityContext={"capabilities": {"add": ["SYS_ADMIN"]}},
    )
    text = manifest(cli, container, volumes=[{"name": "v", "hostPath": {"path": str(place)}}])
    result = subprocess.run(
        [sys.executable, "-c", PROPAGATION, str(place)],
        input=text,
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=20 * SLOW,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    uid, ours, theirs = result.stdout.split()[1:]
    assert (ours, theirs) == ("True", "False")
    inside = mounts_of(init_of(cli, uid))
    assert "/volume/theirs" in inside
    assert "/volume/ours" not in inside


# Program, environment, limits


def test_umask_is_022(looked: Looked) -> None:
    assert looked.seen["umask"].split() == ["0022", "644"]


def test_limits(looked: Looked) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 1048576 if hard == resource.RLIM_INFINITY else min(1048576, hard)
    assert looked.seen["nofile"].split() == [str(wanted)] * 2
    assert looked.seen["core"] == "0"


def test_limits_and_modes_do_not_depend_on_the_caller(cli: Cli) -> None:
    container = box(
        "umask; ulimit -n; ulimit -Hn; pwd; ls -d /v/sub; cat /etc/hosts; echo end",
        securityContext={"runAsUser": 33},
        workingDir="/made/here",
        volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "one"}],
    )
    container["volumeMounts"].append({"name": "v", "mountPath": "/v/sub", "subPath": "two"})
    text = manifest(cli, container, volumes=[{"name": "v", "emptyDir": {}}])
    command = 'umask 077; ulimit -Sn 100; ulimit -Hn 1000; exec "$@"'
    result = subprocess.run(
        ["sh", "-c", command, "sh", *cli.command, "pod", "create", "-f", "-"],
        input=text,
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=20 * SLOW,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    uid = result.stdout.split()[1]
    seen = wait_for_output(cli, uid, "end")
    assert seen.split()[:5] == ["0022", "1000", "1000", "/made/here", "/v/sub"]
    assert "127.0.0.1" in seen


def test_the_working_directory_is_the_root_by_default(looked: Looked) -> None:
    assert looked.seen["cwd"] == "/"


def test_stdin_is_empty_and_no_terminal(looked: Looked) -> None:
    assert looked.seen["tty"] == "not a tty"
    assert os.readlink(f"/proc/{looked.init.pid}/fd/0") == "/dev/null"


def test_dev_stdout_can_be_written(looked: Looked) -> None:
    assert looked.seen["stdout"] == "through-a-link"


def test_environment_by_default(looked: Looked) -> None:
    found = dict(line.split("=", 1) for line in looked.seen["environment"].splitlines())
    for name in ("PWD", "SHLVL", "OLDPWD", "_"):  # the shell's own
        found.pop(name, None)
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": "looked",
        "HOME": "/root",
    }


def test_a_missing_working_directory_is_made(cli: Cli) -> None:
    uid = run_pod(cli, box("pwd; stat -c '%u %a' .", workingDir="/srv/deep/place"))
    assert wait_for_output(cli, uid, "755\n") == "/srv/deep/place\n0 755\n"
    assert not (cli.rootfs / "srv").exists()


def test_variables_are_expanded_as_kubernetes_does(cli: Cli) -> None:
    env = [
        {"name": "A", "value": "one"},
        {"name": "B", "value": "$(A)-two-$(LATER)-$(UNKNOWN)-$$(A)"},
        {"name": "LATER", "value": "late"},
        {"name": "EMPTY"},
    ]
    container = {
        "name": "c0",
        "image": "busybox",
        "command": ["printf", "%s\\n", "$(B)", "$(A)$(EMPTY)", "$(UNKNOWN)", "$$(A)", "$(HOSTNAME)", "$A"],
        "args": ["arg-$(A)"],
        "env": env,
    }
    uid = run_pod(cli, container)
    assert wait_for_output(cli, uid, "arg-").splitlines() == [
        "one-two-$(LATER)-$(UNKNOWN)-$(A)",
        "one",
        "$(UNKNOWN)",
        "$(A)",
        "$(HOSTNAME)",
        "$A",
        "arg-one",
    ]


def test_command_is_not_run_by_a_shell_and_takes_args(cli: Cli) -> None:
    container = {"name": "c0", "image": "x", "command": ["echo", "$HOME;"], "args": ["a  b", "*"]}
    uid = run_pod(cli, container)
    assert wait_for_output(cli, uid, "\n") == "$HOME; a  b *\n"


def test_a_terminal(cli: Cli) -> None:
    """Of the container's own devpts, controlling, on all of stdio, and bound on /dev/console."""
    look = "tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; echo x > /dev/console; echo $TERM"
    uid = run_pod(cli, box(f"{look}; : < /dev/tty && echo end; exec sleep 1000", tty=True))
    assert wait_for_output(cli, uid, "end").split() == ["/dev/pts/0", "all", "x", "xterm", "end"]
    assert {line["stream"] for line in log_lines(cli, uid)} == {"stdout"}
    assert mounts_of(init_of(cli, uid))["/dev/console"][0] == "devpts"


def test_stdin_stays_open_if_asked_for(cli: Cli) -> None:
    uid = run_pod(cli, box("echo ready; cat; echo ended; exec sleep 1000", stdin=True))
    wait_for_output(cli, uid, "ready")
    assert os.readlink(f"/proc/{init_of(cli, uid).pid}/fd/0").startswith("pipe:")
    time.sleep(0.1)
    assert "ended" not in output(cli, uid)


# Programs that cannot be executed


def elf(interpreter: bytes) -> bytes:
    """Return a 64-bit ELF program, a header and one PT_INTERP, of the machine's own architecture."""
    machine = Path("/bin/busybox").read_bytes()[18:20]
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<H", 2) + machine
    header += struct.pack("<IQQQIHHHHHH", 1, 0x400000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return (
        header
        + struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(interpreter), len(interpreter), 1)
        + interpreter
    )


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory of programs that cannot be executed, each for its own reason."""
    directory = tmp_path / "programs"
    directory.mkdir()
    for name, content, mode in (
        ("script", b"#!/no/such/interpreter\n", 0o755),
        ("elf", elf(b"/lib/no-such-loader.so\0"), 0o755),
        ("plain", b"#!/bin/sh\n", 0o644),
        ("text", b"echo no shebang\n", 0o755),
    ):
        (directory / name).write_bytes(content)
        (directory / name).chmod(mode)
    (directory / "directory").mkdir()
    return directory


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [
        ("no-such-program", 127, "was not found in PATH=/usr/local/sbin:"),
        ("/p/nothing", 127, "/p/nothing does not exist"),
        ("/p/script", 127, "has no interpreter: /p/script needs /no/such/interpreter"),
        ("/p/elf", 127, "has no interpreter: /p/elf needs /lib/no-such-loader.so"),
        ("/p/plain", 126, "is not executable: /p/plain has mode 0644"),
        ("/p/directory", 126, "is not executable: /p/directory is a directory"),
        ("/p/text", 126, "cannot be executed: Exec format error"),
        ("", 126, "the command is empty"),
    ],
)
def test_a_program_that_cannot_be_executed(
    cli: Cli, programs: Path, program: str, code: int, reason: str
) -> None:
    """The error names program, container and reason, and nothing of the Pod is left."""
    container = {
        **box("", "broken", volumeMounts=[{"name": "v", "mountPath": "/p"}]),
        "command": [program],
    }
    text = manifest(
        cli,
        box("exec sleep 1000"),
        container,
        volumes=[{"name": "v", "hostPath": {"path": str(programs)}}],
    )
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert (result.returncode, result.stdout) == (code, "")
    assert 'container "broken"' in result.stderr
    assert reason in result.stderr
    assert f'"{program}"' in result.stderr or not program
    assert result.stderr.count("\n") == 1
    assert os.listdir(cli.layout.pods) == []


# Logs, exit status, the monitor


def test_log_lines_have_time_stream_tag_and_text(cli: Cli) -> None:
    began = time.time()
    uid = run_pod(cli, box("echo out; echo err >&2; printf part"))
    wait_for_end(cli, uid)
    lines = log_lines(cli, uid)
    assert sorted((line["stream"], line["tag"], line["text"]) for line in lines) == [
        ("stderr", "F", "err"),
        ("stdout", "F", "out"),
        ("stdout", "P", "part"),
    ]
    assert all(began <= parse_rfc3339(line["time"]) <= time.time() for line in lines)


def test_a_large_log_is_rotated(cli: Cli) -> None:
    uid = run_pod(cli, box(f"yes {'x' * 2000} | head -n 6000"))
    wait_for_end(cli, uid, timeout=20)
    log = log_path(cli, uid)
    names = sorted(path.name for path in log.parent.iterdir())
    assert names == ["0.log", "0.log.1"]
    assert 10 << 20 >= (log.parent / "0.log.1").stat().st_size > 9 << 20
    assert log.stat().st_size < 10 << 20


@pytest.mark.parametrize(("script", "code", "reason"), [("exit 7", 7, "Error"), ("true", 0, "Completed")])
def test_exit_code(cli: Cli, script: str, code: int, reason: str) -> None:
    uid = run_pod(cli, box(script))
    wait_for_end(cli, uid)
    ended = state_of(cli)["terminated"]
    assert ended["exitCode"] == code
    assert ended["reason"] == reason
    assert "signal" not in ended
    assert parse_rfc3339(ended["startedAt"]) <= parse_rfc3339(ended["finishedAt"]) <= time.time()


def test_death_by_a_signal(cli: Cli) -> None:
    uid = run_pod(cli, box("exec sleep 1000"))
    os.kill(init_of(cli, uid).pid, signal.SIGKILL)
    wait_for_end(cli, uid)
    ended = state_of(cli)["terminated"]
    assert (ended["exitCode"], ended["signal"], ended["reason"]) == (137, 9, "Error")


def test_processes_left_by_the_program_end_with_it_in_a_shared_pid_namespace(cli: Cli) -> None:
    uid = run_pod(cli, box("sleep 1000 & echo started; exit 0"), shareProcessNamespace=True)
    wait_for_end(cli, uid)
    eventually(lambda: "populated 0" in _events(cli, uid, "ctr-c0"))


def _events(cli: Cli, uid: str, leaf: str) -> str:
    return (Path(cli.inspect(uid)["cgroup"]) / leaf / "cgroup.events").read_text()


def test_create_in_a_pipeline_returns_at_once(cli: Cli) -> None:
    """Nothing of the Pod holds the stdio of the command that made it."""
    text = manifest(cli, box("exec sleep 1000"))
    began = time.monotonic()
    result = subprocess.run(
        ["sh", "-c", '"$@" | cat', "sh", *cli.command, "pod", "create", "-f", "-"],
        input=text,
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=20 * SLOW,
        check=False,
    )
    assert result.stdout.startswith("test ")
    assert time.monotonic() - began < 10 * SLOW


def test_a_pod_survives_the_death_of_what_started_it(cli: Cli) -> None:
    """SIGKILL to the whole process group (and session) of the command."""
    process = subprocess.Popen(
        [*cli.command, "pod", "create", "--wait=exit", "-f", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=cli.environment,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(manifest(cli, box("until [ -e /go ]; do sleep 0.02; done; echo after; exit 3")))
    process.stdin.close()
    uid = eventually(lambda: next(iter(os.listdir(cli.layout.pods)), None) if _complete(cli) else None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    in_root(init_of(cli, uid), "/go").touch()
    wait_for_end(cli, uid)
    assert output(cli, uid) == "after\n"
    assert state_of(cli)["terminated"]["exitCode"] == 3


def _complete(cli: Cli) -> bool:
    return any(Path(cli.layout.pods).glob("*/complete"))


@pytest.mark.parametrize("share", [False, True])
def test_a_container_whose_monitor_dies_ends_and_is_told_as_lost(cli: Cli, share: bool) -> None:
    uid = run_pod(cli, box("sleep 1000 & exec sleep 1000"), shareProcessNamespace=share)
    init, monitor = init_of(cli, uid), monitor_of(cli, uid)
    os.kill(monitor.pid, signal.SIGKILL)
    eventually(lambda: not init.alive())
    ended = eventually(lambda: state_of(cli).get("terminated"))
    assert (ended["exitCode"], ended["reason"]) == (255, "MonitorLost")
    eventually(lambda: "populated 0" in _events(cli, uid, "ctr-c0"))


def test_the_monitor_holds_nothing_of_the_container_or_the_caller(looked: Looked) -> None:
    monitor = monitor_of(looked.cli, looked.uid)
    base = Path(f"/proc/{monitor.pid}")
    assert os.readlink(base / "cwd") == "/"
    assert int(status_field(monitor, "NSsid").split()[0]) == monitor.pid
    held = {os.readlink(fd) for fd in (base / "fd").iterdir()}
    assert not {name for name in held if name.startswith(("/dev/pts", "/dev/tty"))}


def test_restart_policy_is_recorded(cli: Cli) -> None:
    run_pod(cli, box("exec sleep 1000"), restartPolicy="OnFailure")
    spec: Any = pods(cli)[0]["spec"]
    assert spec["restartPolicy"] == "OnFailure"
