"""EnsureScope: a part of systemd's tree that is ours for as long as there are Pods."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyrun.cgroups import files
from pyrun.cgroups.delegation import INIT_LEAF, SCOPE, VacateCgroup
from pyrun.cgroups.group import is_populated
from pyrun.errors import PyrunError, Unsupported
from pyrun.kernel.operation import Operation, Results
from pyrun.kernel.proc import read_text

LEASE = "lease-"
_TIMEOUT = 60.0
"""Seconds for systemd to make the scope, and to take it away: more than it needs on an emulated processor."""
_POLL = 0.01


class EnsureScope(Operation, frozen=True, tag=True):
    """Have the scope, and take a lease on it: an empty group with the Pod's uid, which keeps others from ending it.

    `parent` is the group of the scope, `program` what holds it. Undo gives the lease back; the last one ends the scope.
    """

    parent: str
    pod_uid: str
    program: str

    def describe(self) -> str:
        return f"{' '.join(self._command())} (unless it runs); mkdir {self._lease()}"

    def apply(self, results: Results) -> None:
        with self._locked():
            if not is_populated(self.parent):
                self._start()
            # Also what one who was killed before this line has left in the scope itself.
            VacateCgroup(self.parent).apply(results)
            if not files.processes(f"{self.parent}/{INIT_LEAF}"):
                self._hold_again()
            os.makedirs(self._lease(), exist_ok=True)

    def undo(self) -> None:
        if not os.path.isdir(self.parent):
            return
        with self._locked():
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(self._lease())
            if os.path.isdir(self.parent) and set(_children(self.parent)) <= {INIT_LEAF}:
                self._stop()

    def _lease(self) -> str:
        return f"{self.parent}/{LEASE}{self.pod_uid}"

    def _command(self) -> tuple[str, ...]:
        slice_name, unit = SCOPE.split("/")
        options = ("--scope", "--quiet", "--collect", f"--unit={unit}", f"--slice={slice_name}")
        return ("systemd-run", *options, "--property=Delegate=yes", self.program)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time, of all instances: they lock the root that they all see."""
        fd = os.open(self.parent.removesuffix(f"/{SCOPE}"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _start(self) -> None:
        _wait_until_gone(self.parent)
        said = os.memfd_create("systemd-run")
        pid = self._spawn(self._command(), said)
        try:
            deadline = time.monotonic() + _TIMEOUT
            while not self._holds(pid):
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended or time.monotonic() > deadline:
                    text = os.pread(said, 4096, 0).decode(errors="replace").strip() or "it gives no reason"
                    raise Unsupported(
                        f"systemd does not delegate a part of its cgroup tree: {text}",
                        hint="pyrun needs systemd-run and the D-Bus of the system (Debian: apt-get install dbus)",
                    )
                time.sleep(_POLL)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        finally:
            os.close(said)

    def _hold_again(self) -> None:
        """Give the scope a new holder: the one before was killed, while Pods kept the scope."""
        pid = self._spawn((self.program,))
        files.write(f"{self.parent}/{INIT_LEAF}", "cgroup.procs", str(pid))

    def _spawn(self, command: tuple[str, ...], said: int = 0) -> int:
        """Start a process in a session of its own; `said` gets what it complains about, by default nobody."""
        null = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0)
        actions = [null, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
        try:
            return os.posix_spawnp(command[0], command, os.environ, file_actions=actions, setsid=True)
        except FileNotFoundError:
            raise Unsupported(
                "systemd-run is not installed, and without it systemd delegates no part of its cgroup tree",
                hint="install systemd's tools",
            ) from None

    def _holds(self, pid: int) -> bool:
        """Whether the process has been put into the scope and has become the program that holds it."""
        if pid not in files.processes(self.parent):
            return False
        return read_text(f"/proc/{pid}/comm").strip() == os.path.basename(self.program)

    def _stop(self) -> None:
        for pid in files.processes(f"{self.parent}/{INIT_LEAF}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        _wait_until_gone(self.parent)


def _children(group: str) -> list[str]:
    return [entry.name for entry in os.scandir(group) if entry.is_dir()]


def _wait_until_gone(group: str) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while os.path.isdir(group):
        if time.monotonic() > deadline:
            held = ", ".join(map(str, files.processes(group))) or "nothing that can be seen"
            raise PyrunError(
                f"{group} does not end within {_TIMEOUT:g} s; it holds {held}",
                hint=f"see systemctl status {os.path.basename(group)}",
            )
        time.sleep(_POLL)
