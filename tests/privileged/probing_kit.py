"""What the tests of probes share: targets of real Pods, and servers in their network namespaces."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

from pyrun.network.netns import in_network_namespace
from pyrun.plan.host import HostFacts
from pyrun.runtime.host import read_host
from pyrun.runtime.pods import PodDirectory, require_pod, require_sandbox
from pyrun.runtime.probing.begin import run_check
from pyrun.runtime.probing.check import Outcome, ProbeTarget, target_of
from pyrun.spec.network import NetworkConfig
from pyrun.spec.probe import ProbeAction
from tests.e2e.conftest import SLOW, Cli

Handler = Callable[[socket.socket], object]


def facts_of(cli: Cli) -> HostFacts:
    """Return the facts of the host for an instance."""
    return read_host(cli.layout, NetworkConfig.of(cli.layout.name, cli.layout.state))


def target_in(cli: Cli, uid: str, container: str = "c0") -> ProbeTarget:
    """Return the first attempt of a container as a target."""
    pod = PodDirectory(cli.layout, uid)
    return target_of(pod, require_sandbox(pod), require_pod(pod).spec.container(container), 0)


def check(cli: Cli, target: ProbeTarget, action: ProbeAction, seconds: float = 20) -> Outcome:
    """Carry out a check; `seconds` are those of a machine that is not slow."""
    deadline = time.monotonic_ns() + int(seconds * SLOW * 1e9)
    return run_check(action, target, facts_of(cli), deadline)


@contextlib.contextmanager
def serving(target: ProbeTarget, handler: Handler, port: int = 0) -> Iterator[int]:
    """Serve one connection after the other at the Pod's address, by a forked process; gives the port."""
    with listening(target, port=port) as listener:
        pid = os.fork()
        if pid == 0:
            _serve(listener, handler)
        try:
            yield listener.getsockname()[1]
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextlib.contextmanager
def listening(target: ProbeTarget, backlog: int = 16, port: int = 0) -> Iterator[socket.socket]:
    """Give a listening socket at the Pod's address, at a free port for 0; the kernel accepts for it."""
    pidfd = target.pause.open()
    assert pidfd is not None, "the Pod's sandbox is gone"
    try:
        with in_network_namespace(pidfd):
            listener = socket.socket()
    finally:
        os.close(pidfd)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((target.address, port))
        listener.listen(backlog)
        yield listener


def _serve(listener: socket.socket, handler: Handler) -> None:
    try:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                handler(connection)
    finally:
        os._exit(1)


def answer(data: bytes) -> Handler:
    """Return a handler that reads a request's beginning and answers with these bytes, whatever was asked."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return handle


def hold(connection: socket.socket) -> None:
    """Accept and never answer, until the other side has gone."""
    while connection.recv(65536):
        pass
