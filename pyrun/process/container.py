"""SpawnContainer and StartContainer: one container from nothing to a running program.

CLI or supervisor           launcher (leaf "monitors")        init (the container's leaf)
clone3 ------------------->  binds gate and control socket
                             clone3 ------------------------>  joins the sandbox, builds its root,
<- Launched(pid) + pidfd --  execs the monitor                 drops rights
<- Progress ... Executing, end of file ----------------------  execs the last hop, waits at the gate
connect to the gate ---------------------------------------->  execs the program
<- end of file: it runs; or a record: why it cannot ---------
"""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import NoReturn

from pyrun.cgroups import group
from pyrun.errors import Conflict, PyrunError
from pyrun.kernel import syscalls
from pyrun.kernel.operation import Operation, Results
from pyrun.kernel.proc import start_time
from pyrun.namespaces.steps import JoinNamespaces, UnshareNamespaces
from pyrun.process.channel import Launched, pair, send
from pyrun.process.child import ChildReport, apply_steps, born_in, run_child
from pyrun.process.control import DATAGRAM_MAX, Exited, MonitorArguments, decode, decode_start_record
from pyrun.process.execute import ExecuteProgram, explain_exec_error
from pyrun.process.programs import program_path, sealed_copy
from pyrun.process.stdio import Stdio, StdioEnds
from pyrun.process.terminal import OpenTerminal
from pyrun.rootfs.devices import BindDevices, CopyHostDevices, LinkDevices
from pyrun.rootfs.mounts import (
    AttachSandboxTree,
    BindMount,
    ChangeDirectory,
    CloneSandboxTrees,
    MakeMountsPrivate,
    MakePathsReadonly,
    MakeWorkingDirectory,
    MaskPaths,
    MountFilesystem,
    MountOverlay,
    PivotRoot,
    SetRootReadonly,
)
from pyrun.security.capabilities import DropBoundingSet, SetCapabilities, SetNoNewPrivileges
from pyrun.security.limits import SetLimits
from pyrun.security.oom import SetOomScore
from pyrun.security.users import SetUser
from pyrun.spec.container import PidMode

GATE = "gate"
CONTROL = "control"
EXIT_RECORD = "exit.json"
START_DEADLINE = 10.0
REAP_TIMEOUT = 5.0

ContainerStep = (
    SetOomScore
    | JoinNamespaces
    | UnshareNamespaces
    | CloneSandboxTrees
    | MakeMountsPrivate
    | MountOverlay
    | MountFilesystem
    | BindMount
    | AttachSandboxTree
    | BindDevices
    | CopyHostDevices
    | LinkDevices
    | MakeWorkingDirectory
    | PivotRoot
    | MaskPaths
    | MakePathsReadonly
    | SetRootReadonly
    | OpenTerminal
    | SetLimits
    | DropBoundingSet
    | SetNoNewPrivileges
    | SetUser
    | SetCapabilities
    | ChangeDirectory
    | ExecuteProgram
)


class SpawnContainer(Operation, frozen=True, tag=True):
    """Make a container's init process and its monitor; init ends waiting at the gate.

    `directory` holds the gate, the control socket and later the exit record; `log` is the path of the log. The monitor
    takes `monitor_score`, so that it is not killed in place of what it looks after.
    Results: `<container>.pid`, `<container>.start_time`, `<container>.monitor.pid`,
    `<container>.monitor.start_time`, the descriptors `<container>.pidfd`, `<container>.monitor.pidfd`.
    """

    container: str
    directory: str
    log: str
    leaf: str
    monitors: str
    pid_mode: PidMode
    stdin: bool
    terminal: bool
    steps: tuple[ContainerStep, ...]
    monitor_score: SetOomScore | None = None

    def describe(self) -> str:
        score = "" if self.monitor_score is None else f"{self.monitor_score.describe()}, "
        pid = {
            PidMode.PRIVATE: "CLONE_NEWPID|",
            PidMode.POD: "in <pause>'s PID namespace, ",
            PidMode.HOST: "",
        }
        return (
            f"clone3(launcher, CLONE_INTO_CGROUP {self.monitors}), "
            f"clone3(init of {self.container}, {pid[self.pid_mode]}CLONE_INTO_CGROUP {self.leaf}), {score}exec monitor"
        )

    def apply(self, results: Results) -> None:
        ours, theirs = pair()
        with ours, theirs:
            monitor, monitor_fd = born_in(self.monitors)
            if monitor == 0:
                ours.close()
                run_child(theirs, "launcher", lambda: self._launch(theirs, results))
            theirs.close()
            results.put_fd(f"{self.container}.monitor.pidfd", monitor_fd)
            report = ChildReport(ours, f'the init process of container "{self.container}"', results)
            pid, pidfd = report.launched()
            results.put_fd(f"{self.container}.pidfd", pidfd)
            report.executed(self.steps)
            report.stays(pidfd)
            # Only now: an init that has failed may have been reaped already, and would hide its own error.
            for name, number in ((self.container, pid), (f"{self.container}.monitor", monitor)):
                results.put(f"{name}.pid", number)
                results.put(f"{name}.start_time", start_time(number))

    def _launch(self, channel: socket.socket, results: Results) -> None:
        """The launcher: what init and monitor share is made here; ends by becoming the monitor."""
        os.setsid()
        # Before init enters a PID namespace that others live in: they must not look into a pyrun process.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        gate = _listen(directory, GATE)
        results.put_fd("gate", gate.detach())
        results.put_fd("lasthop", sealed_copy("lasthop"))
        stdio = Stdio(stdin=self.stdin, terminal=self.terminal)
        if self.pid_mode is PidMode.POD:
            syscalls.setns(results.fd("pause.pidfd"), syscalls.CLONE_NEWPID)
        flags = syscalls.CLONE_NEWPID if self.pid_mode is PidMode.PRIVATE else 0
        pid, pidfd = born_in(self.leaf, flags)
        if pid == 0:
            self._init(channel, stdio, results)
        send(channel, Launched(pid), (pidfd,))
        if self.monitor_score is not None:
            self.monitor_score.apply(results)
        self._become_monitor(pid, stdio.ends(), directory)

    def _init(self, channel: socket.socket, stdio: Stdio, results: Results) -> NoReturn:
        os.setsid()
        stdio.install(results)
        apply_steps(channel, "init", self.steps, results)

    def _become_monitor(self, pid: int, ends: StdioEnds, directory: int) -> NoReturn:
        log_directory, _, log_name = self.log.rpartition("/")
        arguments = MonitorArguments(
            pid=pid,
            control=_listen(directory, CONTROL).detach(),
            log_dir=os.open(log_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
            log_name=log_name,
            exit_dir=directory,
            exit_name=EXIT_RECORD,
            kill=os.open(f"{self.leaf}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC),
            events=os.open(f"{self.leaf}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC),
            stdin=ends.stdin,
            stdout=ends.stdout,
            stderr=ends.stderr,
            tty=ends.terminal,
        )
        cgroup = (arguments.kill, arguments.events)
        kept = (arguments.control, arguments.log_dir, arguments.exit_dir, *cgroup, *ends.descriptors())
        for fd in kept:
            assert fd is not None
            os.set_inheritable(fd, True)
        os.execv(program_path("monitor"), arguments.argv())

    def undo(self) -> None:
        group.kill(self.leaf)
        group.wait_until_empty(self.leaf)
        # The monitor reaps its child and ends. Were it killed first, the host's PID 1 would have to reap, at
        # its leisure, and PID 1 of a shared PID namespace cannot end before every process in it is reaped.
        wait_for_exit(self.directory, time.monotonic() + REAP_TIMEOUT)


def _listen(directory: int, name: str) -> socket.socket:
    """Bind a listening SEQPACKET socket; reached through a descriptor, as a path may exceed 107 bytes."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(f"/proc/self/fd/{directory}/{name}")
    sock.listen(16)
    return sock


def connect(directory: str, name: str) -> socket.socket:
    """Connect to a socket of a container's directory. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    except OSError:
        sock.close()
        raise
    finally:
        os.close(fd)
    return sock


def wait_for_exit(directory: str, deadline: float | None) -> bool:
    """Wait until a container has ended and its exit is recorded; whether that came before the deadline.

    The monitor tells every client of its control socket, and closes it when it ends. Where no monitor listens
    there is nothing to wait for.
    """
    try:
        control = connect(directory, CONTROL)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            return True
        raise
    with control:
        while True:
            if deadline is not None:
                # A grace period may be longer than a socket can wait in one go.
                control.settimeout(min(max(deadline - time.monotonic(), 0.000_001), 86400.0))
            try:
                data = control.recv(DATAGRAM_MAX)
            except TimeoutError:
                if deadline is not None and time.monotonic() < deadline:
                    continue
                return False
            except ConnectionResetError:
                return True
            if not data or isinstance(decode(data), Exited):
                return True


class StartContainer(Operation, frozen=True, tag=True):
    """Open the gate: connect, and wait until the program runs or the last hop says why it cannot.

    Result: `<container>.started_at`, seconds of the real-time clock in nanoseconds.
    """

    container: str
    directory: str
    program: str

    def describe(self) -> str:
        return f"connect {self.directory}/{GATE} -> {self.container} executes {self.program}"

    def apply(self, results: Results) -> None:
        began = time.time_ns()  # before: the program may have ended before its start is told
        try:
            gate = connect(self.directory, GATE)
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                raise Conflict(
                    f'container "{self.container}" is not in state created',
                    hint="it was started before, or has ended; see pyrun pod inspect",
                ) from None
            raise
        with gate:
            gate.settimeout(START_DEADLINE)
            try:
                record = gate.recv(64)
            except TimeoutError:
                raise PyrunError(
                    f'container "{self.container}": its program did not start within {START_DEADLINE:g} s',
                    hint="reading it may wait for a file server or a device",
                ) from None
            except ConnectionResetError:
                raise PyrunError(
                    f'container "{self.container}" was killed before its program started',
                    hint="see pyrun logs",
                ) from None
        results.put(f"{self.container}.started_at", began)
        if record:
            raise explain_exec_error(self.container, self.program, decode_start_record(record))

    def undo(self) -> None:
        """Nothing of its own: undoing SpawnContainer ends the program."""
