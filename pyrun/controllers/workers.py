"""Workers: forked children that run one verb each, so that the loop never blocks.

A worker is a copy of the supervisor; it runs the same function that the CLI runs, reports how it went through
a pipe, and ends. It outlives a supervisor that is killed, and finishes what it had begun.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Hashable

import msgspec

from pyrun.controllers.loop import Loop
from pyrun.errors import PyrunError
from pyrun.kernel import syscalls

Job = Callable[[], None]

_LIMIT = 64 * 1024


class Failure(msgspec.Struct, frozen=True):
    """Why a worker did not do its work: the class of the error and one sentence."""

    kind: str
    sentence: str


Finished = Callable[[Failure | None], None]


class Workers:
    """The workers of one supervisor, each under a key; a key has one worker at a time."""

    def __init__(self, loop: Loop, private: tuple[int, ...] = ()) -> None:
        """`private` are descriptors that a worker must not keep (the supervisor's lock)."""
        self._loop = loop
        self._private = private
        self._keys: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def busy(self, key: Hashable) -> bool:
        """Whether a worker of this key is at work."""
        return key in self._keys

    def start(self, key: Hashable, job: Job, finished: Finished) -> None:
        """Fork a worker; `finished` is called in the loop when it has ended, with None when all went well."""
        assert key not in self._keys
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            _work(job, theirs, self._private)
        os.close(theirs)
        pidfd = syscalls.pidfd_open(pid)
        self._keys.add(key)
        self._loop.watch(pidfd, lambda: self._ended(key, pidfd, ours, finished))

    def _ended(self, key: Hashable, pidfd: int, pipe: int, finished: Finished) -> None:
        self._loop.forget(pidfd)
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        # What it forked may hold the pipe's other end open for a moment: read what is there, do not wait for the end.
        os.set_blocking(pipe, False)
        try:
            report = os.read(pipe, _LIMIT)
        except BlockingIOError:
            report = b""
        os.close(pipe)
        self._keys.discard(key)
        finished(_failure(status, report))


def _failure(status: os.waitid_result | None, report: bytes) -> Failure | None:
    if report:
        return msgspec.json.decode(report, type=Failure)
    if status is None or (status.si_code == os.CLD_EXITED and status.si_status == 0):
        return None
    return Failure("Killed", f"the process doing it was ended by signal {status.si_status}")


def _work(job: Job, pipe: int, private: tuple[int, ...]) -> None:
    """The whole life of a worker; never returns into the loop it is a copy of."""
    code = 1
    try:
        # A session of its own: Ctrl-C on the supervisor's terminal is not for it.
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        for fd in private:
            os.close(fd)
        job()
        code = 0
    except PyrunError as error:
        notes = "".join(f"; also: {note}" for note in getattr(error, "__notes__", ()))
        _report(pipe, type(error).__name__, error.sentence() + notes)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _report(pipe, type(error).__name__, f"{where}{error.strerror or error}")
    except BaseException as error:
        _report(pipe, type(error).__name__, "".join(traceback.format_exception(error))[-4000:])
    finally:
        os._exit(code)


def _report(pipe: int, kind: str, sentence: str) -> None:
    os.write(pipe, msgspec.json.encode(Failure(kind, sentence[: _LIMIT // 2])))
