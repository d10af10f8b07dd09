"""Chaos: everything that can die dies at random; then all converges, and nothing is leaked.

`PYRUN_TEST_CHAOS` is the time in seconds it goes on (300 for the long run); `PYRUN_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrun.controllers.running import supervisor
from pyrun.errors import PyrunError
from pyrun.kernel.proc import ProcessIdentity
from pyrun.runtime.pods import PodDirectory, pod_directories
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.supervision import condition, pods_of, replica_set

pytestmark = pytest.mark.requires("pods")

SECONDS = float(os.environ.get("PYRUN_TEST_CHAOS", "10"))
SEED = int(os.environ.get("PYRUN_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
REPLICAS = 10


class Chaos:
    """The one who kills. Each method does one thing to something that exists, if anything does."""

    def __init__(self, cli: Cli, seed: int) -> None:
        self.cli = cli
        self.random = random.Random(seed)
        self.done: dict[str, int] = {}

    def step(self) -> None:
        """Do one thing at random."""
        deeds: list[Callable[[], object]] = [
            self.kill_container,
            self.kill_container,
            self.kill_pause,
            self.kill_monitor,
            self.kill_supervisor,
            self.kill_command,
            self.freeze,
            self.remove,
            self.scale,
        ]
        deed = self.random.choice(deeds)
        with contextlib.suppress(PyrunError, ProcessLookupError):
            deed()
        self.done[deed.__name__] = self.done.get(deed.__name__, 0) + 1

    def pods(self) -> list[PodDirectory]:
        return [pod for pod in pod_directories(self.cli.layout) if pod.complete]

    def pod(self) -> Iterator[PodDirectory]:
        pods = self.pods()
        if pods:
            yield self.random.choice(pods)

    def _kill(self, identity: ProcessIdentity | None) -> None:
        pidfd = identity.open() if identity is not None else None
        if pidfd is not None:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

    def kill_container(self) -> None:
        for pod in self.pod():
            key = pod.latest("c0")
            record = pod.container(key) if key else None
            self._kill(record.init if record else None)

    def kill_monitor(self) -> None:
        for pod in self.pod():
            key = pod.latest("c0")
            record = pod.container(key) if key else None
            self._kill(record.monitor if record else None)

    def kill_pause(self) -> None:
        for pod in self.pod():
            sandbox = pod.sandbox()
            self._kill(sandbox.pause if sandbox else None)

    def kill_supervisor(self) -> None:
        self._kill(supervisor(self.cli.layout))

    def _run(self, *arguments: str) -> None:
        subprocess.run(
            [*self.cli.command, *arguments], env=self.cli.environment, capture_output=True, check=False
        )

    def kill_command(self) -> None:
        """A command that makes a Pod, or removes one, is killed at a random moment of its work."""
        pods = self.pods()
        arguments = ["pod", "rm", "-f", self.random.choice(pods).uid] if pods else ["get", "pods"]
        with subprocess.Popen(
            [*self.cli.command, *arguments],
            env=self.cli.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(self.random.uniform(0.05, 0.4))
            process.kill()

    def freeze(self) -> None:
        for pod in self.pod():
            self._run("pod", "pause", pod.uid)

    def remove(self) -> None:
        for pod in self.pod():
            self._run("pod", "rm", "-f", pod.uid)

    def scale(self) -> None:
        self._run("scale", "rs", "web", "--replicas", str(self.random.randint(0, REPLICAS + 3)))


@contextlib.contextmanager
def kept_running(cli: Cli) -> Iterator[Callable[[], None]]:
    """Give a function that starts a supervisor when none runs, as an init system would."""
    started: list[subprocess.Popen[bytes]] = []
    log = cli.directory / "supervisor.out"

    def ensure() -> None:
        if supervisor(cli.layout) is None:
            with log.open("ab") as out:
                started.append(
                    subprocess.Popen([*cli.command, "supervise"], env=cli.environment, stdout=out, stderr=out)
                )
            eventually(lambda: supervisor(cli.layout), 20)

    ensure()
    try:
        yield ensure
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        text = log.read_text() if log.exists() else ""
        assert "Traceback" not in text, text[-4000:]


def test_chaos_converges_and_leaks_nothing(cli: Cli) -> None:
    print(f"seed {SEED}")
    chaos = Chaos(cli, SEED)
    with kept_running(cli) as ensure:
        cli.ok("apply", "-f", "-", "--no-supervise", stdin=replica_set(cli, REPLICAS))
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            chaos.step()
            ensure()
            time.sleep(chaos.random.uniform(0, 0.3))
        print(f"did {chaos.done}")
        ensure()
        for pod in chaos.pods():
            chaos._run("pod", "unpause", pod.uid)
        cli.ok("scale", "rs", "web", "--replicas", str(REPLICAS))
        began = time.monotonic()
        eventually(lambda: _converged(cli), 60)
        print(f"converged in {time.monotonic() - began:.1f} s")
        cli.ok("scale", "rs", "web", "--replicas", "0")
        eventually(lambda: not pods_of(cli), 60)
    assert not list(Path(cli.layout.locks).glob("*"))


def _converged(cli: Cli) -> bool:
    pods = pods_of(cli)
    return len(pods) == REPLICAS and all(condition(pod, "Ready") for pod in pods)
