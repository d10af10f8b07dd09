"""exec checks: a worker, forked for each, runs the program in the container and says how it ended.

The worker is the parent of the program: making a session waits, so the process that drives checks cannot do it.
The program is born in a cgroup of its own below the container's leaf, and by that its whole tree is killed.
Whatever dies, nothing hangs on: the program dies with the worker, the worker ends the tree when the process
that forked it is gone, and a group that is left all the same is removed with the container's leaf.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import time
from collections.abc import Mapping
from typing import NoReturn

import msgspec

from pyrun.cgroups import group
from pyrun.errors import ProgramError, PyrunError
from pyrun.kernel import syscalls
from pyrun.kernel.proc import has_ended
from pyrun.plan.convert import expand
from pyrun.plan.host import HostFacts
from pyrun.plan.session import SessionRequest, plan_session
from pyrun.process.control import LastHopFlags
from pyrun.process.execute import ExecuteProgram
from pyrun.process.session import Session, SessionStep, spawn_session
from pyrun.runtime.probing.check import OUTPUT_LIMIT, Check, Leftovers, Outcome, ProbeTarget, Verdict, paused
from pyrun.spec.probe import ExecAction

_CHUNK = 65536
_MOMENT = 0.5
"""Seconds that an expired worker has to clean up by itself, and that its death may take."""
_AGAIN = 0.01
_GIVEN_UP = b"\xc1"
"""What stands in place of a report when nobody waits for it any more: the one byte that begins no msgpack."""


class _Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told; the descriptors are copies of its own."""

    container: str
    steps: tuple[SessionStep, ...]
    leaf: str
    leftovers: Leftovers
    init: int
    owner: int
    report: int


def begin_program(
    action: ExecAction, target: ProbeTarget, facts: HostFacts, leftovers: Leftovers
) -> Check | Outcome:
    """Begin a check by a program in the container: exit code 0 is success.

    It runs with the container's own environment, user and directory; `$(NAME)` in its command stands for a
    literal variable of the manifest. Raises PyrunError and OSError when it cannot begin.
    """
    record = target.pod.container((target.container, target.attempt))
    init = record.init.open() if record is not None and record.started_at else None
    if record is None or init is None or has_ended(init):
        if init is not None:
            os.close(init)
        return Outcome(Verdict.UNKNOWN, f'container "{target.container}" does not run')
    leaf = f"{target.leaf}/exec-{os.urandom(4).hex()}"
    owner = report = -1
    try:
        request = SessionRequest(args=command_of(action, dict(target.literals)))
        steps = _dying_with_worker(plan_session(request, record.config, facts))
        owner = syscalls.pidfd_open(os.getpid())
        report = os.memfd_create("report", os.MFD_CLOEXEC)
        os.mkdir(leaf)
        job = _Job(
            container=target.container,
            steps=steps,
            leaf=leaf,
            leftovers=leftovers,
            init=init,
            owner=owner,
            report=report,
        )
        return ProgramCheck(target, leaf, _fork(job), report)
    except BaseException:
        _close(report)
        _remove_empty(leaf)
        raise
    finally:
        _close(init, owner)


def command_of(action: ExecAction, literals: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command with `$(NAME)` expanded from literal values as they are written, and from no others."""
    return tuple(expand(argument, literals) for argument in action.command)


def _dying_with_worker(steps: tuple[SessionStep, ...]) -> tuple[SessionStep, ...]:
    last = steps[-1]
    assert isinstance(last, ExecuteProgram)
    flags = LastHopFlags.NO_GATE | LastHopFlags.DIE_WITH_PARENT
    return (*steps[:-1], msgspec.structs.replace(last, flags=flags))


class _Report(msgspec.Struct, frozen=True):
    """What a worker has to say: the outcome, and what the program has written if it ran."""

    outcome: Outcome
    output: str = ""


class ProgramCheck:
    """A program that a worker runs in a container; waits for the end of the worker."""

    def __init__(self, target: ProbeTarget, leaf: str, worker: int, report: int) -> None:
        self._target = target
        self._leaf = leaf
        self._worker = worker
        self._report = report
        self._reaped = False
        self._began = time.monotonic_ns()

    def fileno(self) -> int:
        return self._worker

    def events(self) -> int:
        return select.POLLIN

    def advance(self) -> Outcome | None:
        if not has_ended(self._worker):
            return None
        self._reap()
        report = self._read_report()
        if report is None:
            self._end_tree()
            return Outcome(Verdict.UNKNOWN, "the process that ran the command was killed")
        return report.outcome

    def expire(self) -> Outcome:
        outcome = paused(self._target)
        self._give_up()
        if outcome is not None:
            return outcome
        seconds = (time.monotonic_ns() - self._began) / 1e9
        report = self._read_report()
        written = f": {report.output}" if report is not None and report.output else ""
        return Outcome(Verdict.FAILURE, f"command timed out after {seconds:.1f} s{written}")

    def close(self) -> None:
        if self._worker < 0:
            return
        if not self._reaped:
            self._give_up()
        _close(self._worker, self._report)
        self._worker = -1

    def _give_up(self) -> None:
        """Kill the tree, which lets the worker clean up and end; if it does not, kill it and clean up."""
        os.pwrite(self._report, _GIVEN_UP, 0)
        deadline = time.monotonic() + _MOMENT
        while not self._reaped and time.monotonic() < deadline:
            # Again and again: the worker may be just about to make the program.
            _kill(self._leaf)
            if has_ended(self._worker, _AGAIN):
                self._reap()
        if not self._reaped:
            with contextlib.suppress(ProcessLookupError):
                syscalls.pidfd_send_signal(self._worker, signal.SIGKILL)
            if has_ended(self._worker, _MOMENT):
                self._reap()
        self._end_tree()

    def _end_tree(self) -> None:
        if os.path.isdir(self._leaf):
            _kill(self._leaf)
            group.wait_until_empty(self._leaf, _MOMENT)
            _remove_empty(self._leaf)

    def _reap(self) -> None:
        os.waitid(os.P_PIDFD, self._worker, os.WEXITED)
        self._reaped = True

    def _read_report(self) -> _Report | None:
        """Return what the worker has reported; None when it did not get so far."""
        try:
            return msgspec.msgpack.decode(os.pread(self._report, _CHUNK, 0), type=_Report)
        except msgspec.DecodeError:
            return None


def _fork(job: _Job) -> int:
    """Fork the worker and return its pidfd. No handler of this process ever runs in it."""
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _work(job)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        return syscalls.pidfd_open(pid)
    except OSError:  # no descriptor is free
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _work(job: _Job) -> NoReturn:
    try:
        _become_worker(job)
        report = _run(job)
        os.pwrite(job.report, msgspec.msgpack.encode(report), 0)
    finally:
        os._exit(0)


def _become_worker(job: _Job) -> None:
    """Let go of all that was inherited: descriptors, the terminal, handlers of signals.

    Objects of the parent that own descriptors stay alive, as nothing collects them here.
    """
    gc.disable()
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    first = 3
    for kept in sorted((job.init, job.owner, job.report)):
        if kept > first:
            syscalls.close_range(first, kept - 1)
        first = kept + 1
    syscalls.close_range(first, (1 << 32) - 1)
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        signal.signal(number, signal.SIG_DFL)
    syscalls.unblock_signals()


def _run(job: _Job) -> _Report:
    try:
        session = spawn_session(job.container, job.init, job.leaf, job.steps, terminal=False, stdin=False)
        try:
            return _result(job, *_Output(session, job).collect())
        finally:
            session.close()
    except ProgramError as error:
        return _Report(Outcome(Verdict.FAILURE, error.sentence()))
    except PyrunError as error:
        return _Report(Outcome(Verdict.UNKNOWN, error.sentence()))
    except OSError as error:
        return _Report(Outcome(Verdict.UNKNOWN, f"the command could not be run: {error}"))
    finally:
        if job.leftovers is Leftovers.KILLED or has_ended(job.owner):
            with contextlib.suppress(PyrunError, OSError):
                group.remove(job.leaf)
        _remove_empty(job.leaf)


def _result(job: _Job, code: int, output: str) -> _Report:
    """Return the outcome of a program by its exit code, 128+n for signal n, and what it has written."""
    if code == 0:
        return _Report(Outcome(Verdict.SUCCESS, output), output)
    # The end of a container kills the program first, and only then is the container seen to have ended.
    given_up = os.fstat(job.report).st_size > 0
    if code == 128 + signal.SIGKILL and not given_up and has_ended(job.init, _MOMENT):
        return _Report(Outcome(Verdict.UNKNOWN, f'container "{job.container}" ended meanwhile'), output)
    message = f"exit code {code}: {output}" if output else f"exit code {code}"
    return _Report(Outcome(Verdict.FAILURE, message), output)


class _Output:
    """What a program writes to stdout and stderr: its beginning is kept, the rest read and dropped."""

    def __init__(self, session: Session, job: _Job) -> None:
        self._session = session
        self._job = job
        self._kept = bytearray()
        self._open = {fd for fd in (session.ends.stdout, session.ends.stderr) if fd is not None}
        for fd in self._open:
            os.set_blocking(fd, False)

    def collect(self) -> tuple[int, str]:
        """Wait until the program has ended and reap it; return its exit code and the text it has written.

        What it has left running may hold the pipes, and is not waited for. When the process that asked for
        all this is gone, the tree is killed.
        """
        pidfd, owner = self._session.pidfd, self._job.owner
        while not self._wait(pidfd, owner):
            pass
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert status is not None
        for fd in tuple(self._open):
            self._read(fd)
        code = status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status
        return code, self._kept.decode("utf-8", "replace").strip()

    def _wait(self, pidfd: int, owner: int) -> bool:
        poller = select.poll()
        for fd in (pidfd, owner, *self._open):
            poller.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poller.poll()}
        if owner in ready:
            _kill(self._job.leaf)
            return has_ended(pidfd, _MOMENT)
        for fd in ready & self._open:
            self._read(fd)
        return pidfd in ready

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        self._kept += data[: OUTPUT_LIMIT - len(self._kept)]
        if not data:
            self._open.discard(fd)


def _kill(leaf: str) -> None:
    with contextlib.suppress(OSError):  # it goes at this moment
        group.kill(leaf)


def _remove_empty(leaf: str) -> None:
    """Remove a group and those below it; one that is busy stays, and goes with the container's leaf."""
    for path, _, _ in os.walk(leaf, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _close(*descriptors: int) -> None:
    for fd in descriptors:
        if fd >= 0:
            os.close(fd)
