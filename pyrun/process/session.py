"""An exec session: a process born in a container's PID namespace and in a child of its leaf cgroup.

This process is its parent: it waits for it by pidfd and holds the other ends of its stdio, which are pipes (or
a terminal of the container's own devpts), never the caller's descriptors.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import msgspec

from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results
from pyrun.namespaces.steps import JoinNamespaces
from pyrun.process.channel import DEADLINE, pair
from pyrun.process.child import ChildReport, apply_steps, born_in, run_child
from pyrun.process.control import START_RECORD_SIZE, decode_start_record
from pyrun.process.execute import ExecuteProgram, explain_exec_error
from pyrun.process.programs import sealed_copy
from pyrun.process.stdio import Stdio, StdioEnds
from pyrun.process.terminal import OpenTerminal
from pyrun.rootfs.mounts import ChangeDirectory
from pyrun.security.capabilities import DropBoundingSet, SetCapabilities, SetNoNewPrivileges
from pyrun.security.limits import SetLimits
from pyrun.security.oom import SetOomScore
from pyrun.security.users import SetUser

SessionStep = (
    SetOomScore
    | JoinNamespaces
    | OpenTerminal
    | SetLimits
    | DropBoundingSet
    | SetUser
    | SetCapabilities
    | SetNoNewPrivileges
    | ChangeDirectory
    | ExecuteProgram
)


class Session:
    """A program that runs inside a container: its pidfd and the ends of its stdio."""

    def __init__(self, pidfd: int, ends: StdioEnds) -> None:
        self.pidfd = pidfd
        self.ends = ends

    def close_stdin(self) -> None:
        """Let the program read the end of its input."""
        if self.ends.stdin is not None:
            os.close(self.ends.stdin)
            self.ends = msgspec.structs.replace(self.ends, stdin=None)

    def close(self) -> None:
        """Close what this process holds of it."""
        os.close(self.pidfd)
        self.ends.close()


def spawn_session(
    container: str,
    init: int,
    leaf: str,
    steps: Sequence[SessionStep],
    *,
    terminal: bool,
    stdin: bool,
) -> Session:
    """Start a program inside the container whose init process has the pidfd `init`.

    Raises ProgramError and ProgramNotFound when it cannot be executed, ChildFailed for any step before.
    """
    results = Results()
    results.put_fd("init.pidfd", os.dup(init))
    results.put_fd("lasthop", sealed_copy("lasthop"))
    ours, theirs = pair()
    started, gate = pair()
    results.put_fd("gate", gate.detach())
    stdio = Stdio(stdin=stdin, terminal=terminal)
    # The child is a copy of this process: the container must not look into it before it is the program.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    try:
        with ours, theirs, started:
            pid, pidfd = born_in_pid_namespace_of(init, leaf)
            if pid == 0:
                ours.close()
                started.close()
                run_child(theirs, "session", lambda: _become(theirs, stdio, steps, results))
            theirs.close()
            results.close()
            return _wait(ours, started, Session(pidfd, stdio.ends()), (container, steps, results))
    finally:
        results.close()


def _become(channel: socket.socket, stdio: Stdio, steps: Sequence[SessionStep], results: Results) -> None:
    os.setsid()
    stdio.install(results)
    apply_steps(channel, "session", steps, results)


def _wait(
    channel: socket.socket,
    started: socket.socket,
    session: Session,
    about: tuple[str, Sequence[SessionStep], Results],
) -> Session:
    container, steps, results = about
    try:
        ChildReport(channel, f'the process in container "{container}"', results).executed(steps)
        started.settimeout(DEADLINE)
        record = started.recv(START_RECORD_SIZE)
        if record:
            program = steps[-1]
            assert isinstance(program, ExecuteProgram)
            raise explain_exec_error(container, program.argv[0], decode_start_record(record))
    except BaseException:
        syscalls.pidfd_send_signal(session.pidfd, 9)
        os.waitid(os.P_PIDFD, session.pidfd, os.WEXITED)
        session.close()
        raise
    return session


def born_in_pid_namespace_of(other: int, leaf: str) -> tuple[int, int]:
    """Fork into a cgroup and into the PID namespace of the process with the pidfd `other`; setns(2).

    Entering a PID namespace concerns the next child only, so this process can turn back to its own.
    """
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    pid = -1
    try:
        syscalls.setns(other, syscalls.CLONE_NEWPID)
        pid, pidfd = born_in(leaf)
        return pid, pidfd
    finally:
        if pid != 0:  # the child could not: its own namespace is a descendant of that one
            syscalls.setns(home, syscalls.CLONE_NEWPID)
        os.close(home)
