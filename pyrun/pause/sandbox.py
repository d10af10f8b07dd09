"""SpawnPause: the sandbox of a Pod is the pause process and the namespaces it holds."""

from __future__ import annotations

import os
import socket
from typing import NoReturn

from pyrun.cgroups import group
from pyrun.kernel import syscalls
from pyrun.kernel.operation import Operation, Results, Step
from pyrun.kernel.proc import start_time
from pyrun.namespaces.steps import SetHostname, WriteTimeOffsets
from pyrun.namespaces.table import Namespace, flag_words, flags_of
from pyrun.network.loopback import LoopbackUp
from pyrun.process.channel import Launched, pair, send
from pyrun.process.child import ChildReport, apply_steps, born_in, run_child
from pyrun.process.programs import sealed_copy
from pyrun.rootfs.mounts import MakeMountsPrivate, MountFilesystem, PivotRoot, SetRootReadonly
from pyrun.security.oom import SetOomScore


class ExecutePause(Step, frozen=True, tag=True):
    """Become pause. All signals are blocked before, so that none is lost until pause takes them."""

    def describe(self) -> str:
        return 'execveat(<memfd of pause>, "pause")'

    def apply(self, results: Results) -> None:
        syscalls.block_signals()
        os.execve(results.fd("pause"), ["pause"], {})


SandboxStep = (
    SetOomScore
    | SetHostname
    | LoopbackUp
    | MakeMountsPrivate
    | MountFilesystem
    | PivotRoot
    | SetRootReadonly
    | ExecutePause
)


class SpawnPause(Operation, frozen=True, tag=True):
    """Make the pause process: the first of the Pod, PID 1 of its PID namespace, holder of the others.

    A disposable process leaves the time namespace and writes the offsets, because clone3(2) cannot take them
    and they are fixed once a process has entered; writing needs CAP_SYS_TIME, so without offsets nothing is
    written. Its child, made with the other namespaces at once, applies `steps`, becomes pause and is what
    remains. Both are born in the leaf cgroup, by which they are undone.
    Results: `pause.pid`, `pause.start_time`, the descriptor `pause.pidfd`.
    """

    leaf: str
    namespaces: tuple[Namespace, ...]
    time_offsets: WriteTimeOffsets | None
    steps: tuple[SandboxStep, ...]

    def describe(self) -> str:
        return (
            f"unshare(CLONE_NEWTIME), clone3({flag_words(self.namespaces)}|CLONE_INTO_CGROUP {self.leaf}) "
            "-> <pause.pidfd>"
        )

    def apply(self, results: Results) -> None:
        results.put_fd("pause", sealed_copy("pause"))
        ours, theirs = pair()
        with ours, theirs:
            pid, pidfd = born_in(self.leaf)
            if pid == 0:
                ours.close()
                run_child(theirs, "sandbox", lambda: self._intermediate(theirs, results))
            theirs.close()
            report = ChildReport(ours, "the sandbox process", results)
            try:
                pause, pause_fd = report.launched()
            finally:
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
                os.close(pidfd)
            results.put_fd("pause.pidfd", pause_fd)
            report.executed(self.steps)
            report.stays(pause_fd)
            # Only now: a process that has failed may have been reaped already, and would hide its own error.
            results.put("pause.pid", pause)
            results.put("pause.start_time", start_time(pause))

    def _intermediate(self, channel: socket.socket, results: Results) -> None:
        os.setsid()
        syscalls.unshare(syscalls.CLONE_NEWTIME)
        if self.time_offsets is not None:
            self.time_offsets.apply(results)
        pid, pidfd = syscalls.clone3(flags_of(self.namespaces))
        if pid == 0:
            self._init(channel, results)
        send(channel, Launched(pid), (pidfd,))

    def _init(self, channel: socket.socket, results: Results) -> NoReturn:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        apply_steps(channel, "sandbox", self.steps, results)

    def undo(self) -> None:
        group.kill(self.leaf)
        group.wait_until_empty(self.leaf)
