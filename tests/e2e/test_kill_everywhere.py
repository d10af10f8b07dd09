"""A creation that is killed at any point leaves nothing that the next command does not undo.

The creation of a Pod of two containers runs in a forked process that kills itself (the command) or its child
(an init process, pause) at one chosen moment: before and after every operation, before every step of a child,
and when a child's step is reported. Then `pod rm` runs, and the host must be as it was.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pyrun.cli.application import Application
from pyrun.cli.main import run_command_line
from pyrun.errors import PyrunError
from pyrun.kernel.operation import Step
from pyrun.manifest import load_pods
from pyrun.runtime.create import create_pods
from pyrun.spec.layout import Layout
from tests.e2e.conftest import Cli
from tests.leaks import assert_nothing_left, snapshot

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

MANIFEST = """
apiVersion: v1
kind: Pod
metadata:
  name: doomed
  annotations: {rootfs.pyrun.io/a: ROOTFS, rootfs.pyrun.io/b: ROOTFS}
spec:
  shareProcessNamespace: true
  volumes:
  - {name: disk}
  - {name: fast, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  containers:
  - {name: a, image: x, command: [sleep, "1000"], volumeMounts: [{name: disk, mountPath: /disk}]}
  - {name: b, image: x, command: [sleep, "1000"], volumeMounts: [{name: fast, mountPath: /fast}]}
"""

IN_COMMAND, IN_CHILD = "the command", "a child"
INTERRUPTED = 3


class Executioner:
    """An observer that counts moments, and kills the process it is in at the chosen one."""

    def __init__(self, where: str, moment: int, report: int, number: signal.Signals = signal.SIGKILL) -> None:
        self._signal = number
        self._where = where
        self._moment = moment
        self._report = report
        self._count = 0

    def before(self, step: Step) -> None:
        """Before an operation of the command."""
        self._at(IN_COMMAND)

    def after(self, step: Step, seconds: float) -> None:
        """After an operation of the command."""
        self._at(IN_COMMAND)

    def reported(self, step: Step, seconds: float) -> None:
        """While a child goes on."""
        self._at(IN_COMMAND)

    def inside(self, step: Step) -> None:
        """Before a step of a child; each child counts on from what its parent had when it was born."""
        self._at(IN_CHILD)

    def _at(self, where: str) -> None:
        if where != self._where:
            # A child inherits the count: operations of the command and steps of a child share it.
            if where == IN_COMMAND:
                self._count += 1000
            return
        self._count += 1
        os.write(self._report, f"{self._count}\n".encode())
        if self._count == self._moment and where == IN_CHILD:
            os._exit(9)  # without a word; PID 1 of a namespace cannot send itself SIGKILL
        if self._count == self._moment:
            os.kill(os.getpid(), self._signal)


def in_fork(body: Callable[[], int]) -> int:
    """Run a body in a fork of this process; returns its wait status."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            code = body()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def create(application: Application, manifest: str, executioner: Executioner) -> int:
    """Create the Pods of a manifest under the eyes of an executioner."""
    try:
        create_pods(load_pods(manifest, "test"), application.host, executioner)
    except PyrunError:
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def moments(application: Application, manifest: str, where: str, path: Path) -> list[int]:
    """Return the moments of an undisturbed creation, and remove the Pod again."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        status = in_fork(lambda: create(application, manifest, Executioner(where, -1, fd)))
        assert status == 0
    finally:
        os.close(fd)
    remove(application.layout)
    return [int(line) for line in path.read_text().split()]


def remove(layout: Layout) -> None:
    """Run `pod rm --force --all`."""
    arguments = ["--root", layout.root, "--state", layout.state, "pod", "rm", "--force", "--all"]
    assert in_fork(lambda: run_command_line(arguments)) == 0


@pytest.mark.parametrize("where", [IN_COMMAND, IN_CHILD])
def test_a_creation_killed_at_any_moment_leaves_nothing(
    cli: Cli, rootfs: Path, tmp_path: Path, where: str
) -> None:
    application = Application(str(cli.root), str(cli.state))
    manifest = MANIFEST.replace("ROOTFS", str(rootfs))
    seen = moments(application, manifest, where, tmp_path / "moments")
    assert len(seen) > (60 if where == IN_COMMAND else 50)
    assert len(set(seen)) == len(seen)
    before = snapshot(application.layout)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for moment in seen:
            status = in_fork(lambda m=moment: create(application, manifest, Executioner(where, m, null)))
            if where == IN_COMMAND:
                assert os.WIFSIGNALED(status), f"moment {moment} did not come"
            else:
                assert os.waitstatus_to_exitcode(status) == 1, f"moment {moment}: {status}"
                assert_nothing_left(before, application.layout)
            remove(application.layout)
            assert_nothing_left(before, application.layout)
    finally:
        os.close(null)


def test_a_creation_interrupted_at_any_moment_undoes_itself(cli: Cli, rootfs: Path, tmp_path: Path) -> None:
    application = Application(str(cli.root), str(cli.state))
    manifest = MANIFEST.replace("ROOTFS", str(rootfs))
    seen = moments(application, manifest, IN_COMMAND, tmp_path / "moments")
    before = snapshot(application.layout)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for moment in seen:
            executioner = Executioner(IN_COMMAND, moment, null, signal.SIGINT)
            status = in_fork(lambda e=executioner: create(application, manifest, e))
            assert os.waitstatus_to_exitcode(status) == INTERRUPTED, f"moment {moment}: {status}"
            assert_nothing_left(before, application.layout)
    finally:
        os.close(null)
