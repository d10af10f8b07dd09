"""Fixtures for tests that drive the real command line against the real kernel."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pyrun.controllers.running import stop_supervisor
from pyrun.spec.layout import Layout
from pyrun.spec.network import DEFAULT_SUBNET
from pyrun.state.files import list_directory
from tests.leaks import assert_nothing_left, snapshot

T = TypeVar("T")

SLOW = float(os.environ.get("PYRUN_TEST_SLOW", "1"))
"""Factor for every deadline of a test, for slow machines."""


class Cli:
    """The command `pyrun` on an instance of its own, below a temporary directory."""

    def __init__(self, directory: Path, rootfs: Path) -> None:
        self.root = directory / "root"
        self.state = directory / "state"
        self.rootfs = rootfs
        self.directory = directory
        self.layout = Layout.of(str(self.root), str(self.state))
        self.environment = {
            **os.environ,
            "PYRUN_ROOT": str(self.root),
            "PYRUN_STATE": str(self.state),
        }

    @property
    def command(self) -> list[str]:
        """The command without arguments."""
        return [sys.executable, "-m", "pyrun"]

    def run(
        self, *arguments: str, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line and return its result, whatever the exit code."""
        return subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout * SLOW,
            env=self.environment,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a command line that must succeed and return its stdout."""
        result = self.run(*arguments, stdin=stdin, timeout=timeout)
        assert result.returncode == 0, (
            f"pyrun {' '.join(arguments)}: exit {result.returncode}\n{result.stderr}"
        )
        return result.stdout

    def create(self, manifest: str, *arguments: str) -> str:
        """Create the Pod of a manifest and return its uid. `@ROOTFS` stands for the busybox root."""
        text = textwrap.dedent(manifest).replace("@ROOTFS", str(self.rootfs))
        return self.ok("pod", "create", "-f", "-", *arguments, stdin=text).split()[1]

    def pod(self, *containers: str, name: str = "test", spec: str = "", metadata: str = "") -> str:
        """Return a manifest of busybox containers, each given as a line for `sh -c`; named c0, c1, ...

        `spec` is further YAML of the Pod's spec (unindented), `metadata` of its metadata.
        """
        lines = ["apiVersion: v1", "kind: Pod", "metadata:", f"  name: {name}"]
        lines += ["  " + line for line in textwrap.dedent(metadata).strip().splitlines()]
        lines += ["  annotations:"]
        lines += [f"    rootfs.pyrun.io/c{i}: {self.rootfs}" for i in range(len(containers))]
        lines += ["spec:"]
        policy = "" if "restartPolicy" in spec else "restartPolicy: Never\n"
        lines += ["  " + line for line in (policy + textwrap.dedent(spec).strip()).splitlines()]
        lines += ["  containers:"]
        for i, line in enumerate(containers):
            lines += [
                f"  - name: c{i}",
                "    image: busybox",
                f"    command: {json.dumps(['sh', '-c', line])}",
            ]
        return "\n".join(lines) + "\n"

    def inspect(self, pod: str) -> Any:
        """Return `pod inspect` of a Pod."""
        return json.loads(self.ok("pod", "inspect", pod))

    def log(self, pod: str, container: str = "c0") -> str:
        """Return what a container has written."""
        return self.ok("logs", pod, "-c", container)

    def wait_for_log(self, pod: str, text: str, container: str = "c0", timeout: float = 10) -> str:
        """Wait until a container has written `text`; return the log so far."""
        return eventually(lambda: log if text in (log := self.log(pod, container)) else None, timeout)


def eventually(check: Callable[[], T | None], timeout: float = 10) -> T:
    """Return the first value of `check` that is neither None nor False; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout * SLOW
    while True:
        value = check()
        if value is not None and value is not False:
            return value
        assert time.monotonic() < deadline, f"not so within {timeout * SLOW:g} s"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain directory with a static busybox in it."""
    root = tmp_path_factory.mktemp("rootfs") / "busybox"
    for name in ("bin", "etc", "tmp", "root", "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if not (root / "bin" / applet).exists():
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nwww:x:33:\nextra:x:44:www\nmore:x:45:www,root\n")
    return root


@pytest.fixture
def cli(tmp_path: Path, rootfs: Path) -> Iterator[Cli]:
    """A command line on an instance of its own; what a test leaves is removed, and then nothing may be left."""
    with instance(tmp_path, rootfs) as command:
        yield command


@pytest.fixture(scope="module")
def module_cli(tmp_path_factory: pytest.TempPathFactory, rootfs: Path) -> Iterator[Cli]:
    """Like `cli`, for Pods that several tests of a file only look at; beside it, so with its own subnet."""
    with instance(tmp_path_factory.mktemp("instance"), rootfs, "10.138.0.0/16") as command:
        yield command


@contextlib.contextmanager
def instance(directory: Path, rootfs: Path, subnet: str = DEFAULT_SUBNET) -> Iterator[Cli]:
    """Give a command line on an instance below a directory; remove all its Pods and look for leaks."""
    command = Cli(directory, rootfs)
    command.environment["PYRUN_SUBNET"] = subnet
    before = snapshot(command.layout)
    yield command
    stop_supervisor(command.layout)
    if list_directory(command.layout.pods):
        command.ok("pod", "rm", "--all", "--force")
    assert_nothing_left(before, command.layout)
