"""The verbs of the runtime called in a fork of the test, as a worker of the supervisor calls them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from pyrun.cli.application import Application
from pyrun.errors import PyrunError
from pyrun.lifecycle.observation import Attempt, PodObservation
from pyrun.plan.host import HostFacts
from pyrun.runtime.create import create_pod
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.annotations import ROOTFS_PREFIX
from pyrun.spec.pod import Container, Metadata, Pod, PodSpec, PullPolicy, RestartPolicy
from tests.e2e.conftest import Cli, eventually

T = TypeVar("T")

SLEEP = "exec sleep 1000"
STUBBORN = "trap '' TERM; echo ready; while true; do sleep 0.02; done"
"""A script that takes no notice of SIGTERM."""


class Failed(Exception):
    """What a verb has raised, as `NAME: sentence`."""


def fork(body: Callable[[], Any]) -> tuple[int, int]:
    """Run a body in a fork of this process; returns its pid and the descriptor that its outcome comes from."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    outcome: Any = None
    try:
        outcome = ("done", body())
    except PyrunError as error:
        outcome = ("failed", f"{type(error).__name__}: {error.sentence()}")
    except BaseException as error:
        outcome = ("failed", f"{type(error).__name__}: {error!r}")
    finally:
        os.write(writer, pickle.dumps(outcome))
        os._exit(0)


def outcome_of(pid: int, reader: int) -> Any:
    """Wait for a fork; returns what its body has returned, or raises Failed."""
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    if not data:
        raise Failed("killed")
    word, value = pickle.loads(data)
    if word == "failed":
        raise Failed(value)
    return value


def call(body: Callable[[], T]) -> T:
    """Run a verb in a fork, so that what it makes is not a child of this process; raises Failed."""
    value: T = outcome_of(*fork(body))
    return value


def box(name: str, script: str = SLEEP, **fields: Any) -> Container:
    """Return a container that runs a shell script in the busybox root."""
    given = {"image": "busybox", "image_pull_policy": PullPolicy.NEVER, "command": ("sh", "-c", script)}
    return Container(name=name, **(given | fields))


def pod_of(cli: Cli, *containers: Container, init: tuple[Container, ...] = (), **spec: Any) -> Pod:
    """Return a Pod of containers with the busybox root, named test; `spec` are further fields of its spec."""
    roots = {f"{ROOTFS_PREFIX}{c.name}": str(cli.rootfs) for c in (*init, *containers)}
    spec.setdefault("restart_policy", RestartPolicy.ALWAYS)
    return Pod(
        metadata=Metadata(name="test", annotations=roots),
        spec=PodSpec(containers=containers, init_containers=init, **spec),
    )


def facts_of(cli: Cli) -> HostFacts:
    """Return the facts of the host, for the instance of a test."""
    return Application(str(cli.root), str(cli.state)).host


def make(cli: Cli, *containers: Container, **fields: Any) -> PodDirectory:
    """Create the Pod of `pod_of`."""
    facts, pod = facts_of(cli), pod_of(cli, *containers, **fields)
    return PodDirectory(cli.layout, call(lambda: create_pod(pod, facts).uid))


def latest(pod: PodDirectory, name: str) -> Attempt:
    """Return the latest attempt of a container; it must have one."""
    attempt = observe(pod).container(name).latest
    assert attempt is not None, f"container {name} has no attempt"
    return attempt


def when(pod: PodDirectory, check: Callable[[PodObservation], object], timeout: float = 10) -> PodObservation:
    """Wait until an observation of a Pod is as it shall be, and return it."""
    return eventually(lambda: seen if check(seen := observe(pod)) else None, timeout)


def wait_until_over(pod: PodDirectory, name: str) -> Attempt:
    """Wait until the latest attempt of a container has ended."""
    eventually(lambda: latest(pod, name).ended is not None)
    return latest(pod, name)
