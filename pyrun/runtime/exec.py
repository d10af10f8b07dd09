"""exec: run a program inside a running container, with the caller's stdio relayed to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Mapping

import msgspec

from pyrun.cgroups import group
from pyrun.errors import Conflict, InputError, NotFound
from pyrun.kernel import syscalls
from pyrun.kernel.proc import has_ended
from pyrun.plan.host import HostFacts
from pyrun.plan.sandbox import container_leaf
from pyrun.plan.session import SessionRequest, plan_session
from pyrun.process.session import Session, spawn_session
from pyrun.process.terminal import set_window_size
from pyrun.runtime.pods import ContainerKey, PodDirectory, require_pod, require_sandbox
from pyrun.runtime.relay import Outlet, read_input, wait_for
from pyrun.runtime.signals import FORWARDED, SignalPipe
from pyrun.runtime.terminal import END_OF_INPUT, raw_mode, window_size

_CHUNK = 65536
_DRAIN = 1 << 20
"""Bytes that a pipe can hold at most for one who is not privileged (pipe(7)); a terminal holds less."""


def choose_container(pod: PodDirectory, name: str | None) -> str:
    """Return the container that is meant: the named one, or the only one.

    Raises NotFound for an unknown name, InputError when several could be meant.
    """
    known = [c.name for c in require_pod(pod).spec.all_containers()]
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
    if request.terminal:
        request = msgspec.structs.replace(request, window=window_size(0) or window_size(1))
    # A child of the container's leaf, so that its whole tree can be killed by cgroup.
    leaf = f"{facts.cgroup}/{container_leaf(name)}/exec-{os.urandom(4).hex()}"
    os.mkdir(leaf)
    try:
        steps = plan_session(request, record.config, host)
        with SignalPipe((*FORWARDED, signal.SIGWINCH)) as signals:
            session = spawn_session(name, init, leaf, steps, terminal=request.terminal, stdin=request.stdin)
            try:
                return _Relay(session, signals, stdin=request.stdin).run()
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
        raise Conflict(f'container "{name}" does not run', hint="see why: pyrun pod why, pyrun logs -p")
    leaf = f"{require_sandbox(pod).facts.cgroup}/{container_leaf(name)}"
    if group.is_frozen(leaf):
        os.close(pidfd)
        raise Conflict(f'container "{name}" is paused', hint="let it go on first: pyrun pod unpause")
    if group.stands_still(leaf):
        os.close(pidfd)
        raise Conflict(
            f'container "{name}" is frozen: somebody else has frozen a cgroup above it',
            hint=f"thaw it: echo 0 > {os.path.dirname(leaf)}/cgroup.freeze",
        )
    return key, pidfd


class _Relay:
    """Moves bytes between the caller's stdio and a session's, and forwards signals, until it ends."""

    def __init__(self, session: Session, signals: SignalPipe, *, stdin: bool) -> None:
        self._session = session
        self._signals = signals
        ends = session.ends
        self._terminal = ends.terminal
        self._outputs = {
            fd: number
            for fd, number in ((ends.stdout, 1), (ends.stderr, 2), (ends.terminal, 1))
            if fd is not None
        }
        self._outlet = Outlet()
        self._input = (ends.terminal if ends.terminal is not None else ends.stdin) if stdin else None
        self._pending = b""
        self._reading = self._input is not None
        self._ended = False
        for fd in ends.descriptors():
            os.set_blocking(fd, False)

    def run(self) -> int:
        """Relay until the program has ended and its output is written; return its exit code.

        Raises BrokenPipeError when nobody reads the output any more.
        """
        with raw_mode(0 if self._terminal is not None and self._input is not None else -1):
            while not self._ended or not self._outlet.empty:
                self._step()
        status = os.waitid(os.P_PIDFD, self._session.pidfd, os.WEXITED)
        assert status is not None
        return status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status

    def _step(self) -> None:
        ready = wait_for(self._events())
        for number in self._signals.read():
            self._on_signal(number)
        self._outlet.write(ready)
        if self._ended:
            return
        if 0 in ready and self._reading:
            self._take_input()
        self._move(ready)
        if self._session.pidfd in ready:
            self._ended = True
            self._drain()

    def _events(self) -> dict[int, int]:
        """What is waited for: no output while older output is kept, no input while older input is."""
        events = {self._signals.fileno(): select.POLLIN} | self._outlet.events()
        if self._ended:
            return events
        events[self._session.pidfd] = select.POLLIN
        for fd, number in self._outputs.items():
            if not self._outlet.holds(number):
                events[fd] = select.POLLIN
        if self._input is not None and self._pending:  # a terminal is both an output and the input
            events[self._input] = events.get(self._input, 0) | select.POLLOUT
        elif self._reading:
            events[0] = select.POLLIN
        return events

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            size = window_size(0) or window_size(1)
            if self._terminal is not None and size is not None:
                set_window_size(self._terminal, size)
        elif self._ended:
            self._outlet.close()  # whoever reads its output does not
        else:
            with contextlib.suppress(ProcessLookupError):
                syscalls.pidfd_send_signal(self._session.pidfd, number)

    def _move(self, ready: Mapping[int, int]) -> None:
        for fd, number in tuple(self._outputs.items()):
            if ready.get(fd, 0) & ~select.POLLOUT and not self._outlet.holds(number):
                self._outlet.put(number, self._read(fd) or b"")
        if self._input is not None and self._pending and self._input in ready:
            self._write_input(self._input)

    def _read(self, fd: int) -> bytes | None:
        """Read output; None when there is none now. At its end the descriptor is no longer waited for."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:  # EIO: the last holder of the terminal has closed it
            data = b""
        if not data:
            self._outputs.pop(fd)
        return data

    def _take_input(self) -> None:
        data = read_input()
        if data is None:
            return
        self._pending = data
        if data:
            return
        # End of input: a pipe is closed; a terminal is told by its end-of-file character.
        self._reading = False
        if self._terminal is None:
            self._session.close_stdin()
            self._input = None
        else:
            self._pending = END_OF_INPUT

    def _write_input(self, fd: int) -> None:
        try:
            self._pending = self._pending[os.write(fd, self._pending) :]
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            self._pending = b""
            self._input = None
            self._reading = False

    def _drain(self) -> None:
        """Read what the program has written before it ended; what runs on in its place is not waited for.

        That may go on writing, so no more is read than can have been there.
        """
        for fd, number in tuple(self._outputs.items()):
            left = _DRAIN
            while left > 0 and (data := self._read(fd)):
                self._outlet.put(number, data)
                left -= len(data)
