"""exec: run a program inside a running container, with the caller's stdio relayed to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal

from pyrun.cgroups import group
from pyrun.errors import Conflict, InputError, NotFound
from pyrun.kernel import syscalls
from pyrun.kernel.proc import has_ended
from pyrun.plan.host import HostFacts
from pyrun.plan.sandbox import container_leaf
from pyrun.plan.session import SessionRequest, plan_session
from pyrun.process.session import Session, spawn_session
from pyrun.process.stdio import StdioEnds
from pyrun.runtime.pods import ContainerKey, PodDirectory, require_sandbox
from pyrun.runtime.signals import FORWARDED, read_signals, signal_pipe
from pyrun.runtime.terminal import raw_mode, window_size

_CHUNK = 65536


def choose_container(pod: PodDirectory, name: str | None) -> str:
    """Return the container that is meant: the named one, or the only one.

    Raises NotFound for an unknown name, InputError when several could be meant.
    """
    known = [c.name for c in require_sandbox(pod).pod.spec.containers]
    listed = ", ".join(known)
    if name is None:
        if len(known) == 1:
            return known[0]
        raise InputError(f"the Pod has {len(known)} containers: {listed}", hint="choose one with -c NAME")
    if name not in known:
        raise NotFound(f'the Pod has no container "{name}"', hint=f"it has {listed}")
    return name


def exec_in_container(pod: PodDirectory, name: str, request: SessionRequest, host: HostFacts) -> int:
    """Run a program inside a container and relay stdio until it ends; returns its exit code, 128+n for signals.

    What it leaves running lives on in the container, as with the other engines. Raises Conflict when the
    container does not run, ProgramError and ProgramNotFound when the program cannot be executed.
    """
    key, init = _running(pod, name)
    facts = require_sandbox(pod).facts
    record = pod.container(key)
    assert record is not None
    # A child of the container's leaf, so that its whole tree can be killed by cgroup.
    leaf = f"{facts.cgroup}/{container_leaf(name)}/exec-{os.urandom(4).hex()}"
    os.mkdir(leaf)
    try:
        steps = plan_session(request, record.config, host)
        session = spawn_session(name, init, leaf, steps, terminal=request.terminal, stdin=request.stdin)
        try:
            return _Relay(session, stdin=request.stdin).run()
        finally:
            session.close()
    finally:
        os.close(init)
        with contextlib.suppress(OSError):  # busy: it has left something running
            os.rmdir(leaf)


def _running(pod: PodDirectory, name: str) -> tuple[ContainerKey, int]:
    key = pod.latest(name)
    record = pod.container(key) if key is not None else None
    pidfd = record.init.open() if record is not None and record.started_at else None
    if key is None or pidfd is None or has_ended(pidfd):
        raise Conflict(f'container "{name}" does not run', hint="see pyrun pod ls and pyrun logs")
    leaf = f"{require_sandbox(pod).facts.cgroup}/{container_leaf(name)}"
    if group.is_frozen(leaf):
        os.close(pidfd)
        raise Conflict(f'container "{name}" is paused', hint="let it go on first: pyrun pod unpause")
    return key, pidfd


class _Relay:
    """Moves bytes between the caller's stdio and a session's, and forwards signals, until it ends."""

    def __init__(self, session: Session, *, stdin: bool) -> None:
        self._session = session
        ends: StdioEnds = session.ends
        self._terminal = ends.terminal
        self._outputs = {
            fd: number for fd, number in ((ends.stdout, 1), (ends.stderr, 2), (ends.terminal, 1)) if fd
        }
        self._input = (ends.terminal if ends.terminal is not None else ends.stdin) if stdin else None
        self._pending = b""
        if self._input is not None:
            os.set_blocking(self._input, False)

    def run(self) -> int:
        """Relay until the program has ended and its output is drained; return its exit code."""
        own_terminal = 0 if self._terminal is not None and self._input is not None else -1
        with signal_pipe((*FORWARDED, signal.SIGWINCH)) as signals, raw_mode(own_terminal):
            self._resize()
            while not self._step(signals):
                pass
        status = os.waitid(os.P_PIDFD, self._session.pidfd, os.WEXITED)
        assert status is not None
        return status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status

    def _step(self, signals: int) -> bool:
        poller = select.poll()
        poller.register(self._session.pidfd, select.POLLIN)
        poller.register(signals, select.POLLIN)
        for fd in self._outputs:
            poller.register(fd, select.POLLIN)
        if self._input is not None:
            if self._pending:
                poller.register(self._input, select.POLLOUT)
            else:
                poller.register(0, select.POLLIN)
        ready = {fd for fd, _ in poller.poll()}
        for number in read_signals(signals):
            self._forward(number)
        for fd in ready & set(self._outputs):
            self._copy_out(fd)
        if self._input is not None and 0 in ready and not self._pending:
            self._read_input()
        elif self._input is not None and self._input in ready:
            self._write_input()
        if self._session.pidfd in ready:
            self._drain()
            return True
        return False

    def _forward(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._resize()
            return
        with contextlib.suppress(ProcessLookupError):
            syscalls.pidfd_send_signal(self._session.pidfd, number)

    def _resize(self) -> None:
        size = window_size(0) or window_size(1)
        if self._terminal is not None and size is not None:
            set_window_size(self._terminal, size)

    def _copy_out(self, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except OSError:  # EIO: the last holder of the terminal has closed it
            data = b""
        if not data:
            self._outputs.pop(fd)
            return False
        write_all(self._outputs[fd], data)
        return True

    def _read_input(self) -> None:
        data = os.read(0, _CHUNK)
        if data:
            self._pending = data
            return
        # End of input: a pipe is closed; a terminal is told by its end-of-file character.
        if self._terminal is None:
            self._session.close_stdin()
            self._input = None
        else:
            self._pending = b"\x04"

    def _write_input(self) -> None:
        assert self._input is not None
        try:
            written = os.write(self._input, self._pending)
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            self._pending = b""
            self._input = None
            return
        self._pending = self._pending[written:]

    def _drain(self) -> None:
        """Read what the program has written before it ended; what runs on in its place is not waited for."""
        for fd in list(self._outputs):
            os.set_blocking(fd, False)
            while fd in self._outputs and self._readable(fd) and self._copy_out(fd):
                pass

    def _readable(self, fd: int) -> bool:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return any(event & select.POLLIN for _, event in poller.poll(0))


def set_window_size(fd: int, size: tuple[int, int]) -> None:
    """Give a terminal rows and columns; TIOCSWINSZ of ioctl_tty(2)."""
    import fcntl
    import struct
    import termios

    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes to a descriptor that blocks."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
