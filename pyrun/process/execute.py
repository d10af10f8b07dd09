"""The last step of every child: finding the program and becoming it.

Source: execve(2), execveat(2); exit codes as in the Docker family: 127 not found, 126 cannot be executed.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from pyrun.errors import ProgramError, ProgramNotFound
from pyrun.kernel.operation import Results, Step
from pyrun.process.control import LastHopFlags, StartRecord, last_hop_argv

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ExecuteProgram(Step, frozen=True, tag=True):
    """Find the container's program as its user sees it, and become the last hop that will execute it.

    `argv` and `env` ("NAME=value") are complete but for HOME, which is the user's unless it is set. `flags` are
    the last hop's: DIE_WITH_PARENT, and NO_GATE for a session that does not wait to be started.
    """

    container: str
    argv: tuple[str, ...]
    env: tuple[str, ...]
    flags: LastHopFlags = LastHopFlags.DIE_WITH_PARENT

    def describe(self) -> str:
        where = "" if self.flags & LastHopFlags.NO_GATE else ", wait at the gate"
        return f"execveat(<memfd of the last hop>){where}, execve({' '.join(self.argv)})"

    def apply(self, results: Results) -> None:
        env = dict(variable.split("=", 1) for variable in self.env)
        env.setdefault("HOME", results.text("home"))
        path = find_program(self.container, self.argv[0], env.get("PATH", DEFAULT_PATH))
        gate = results.fd("gate")
        os.set_inheritable(gate, True)
        os.execve(results.fd("lasthop"), last_hop_argv(gate, self.flags, path, list(self.argv)), env)


def find_program(container: str, name: str, search: str) -> str:
    """Return the absolute path of a program; ProgramNotFound or ProgramError, which say why."""
    where = f'container "{container}": program "{name}"'
    if not name:
        raise ProgramError(f'container "{container}": the command is empty', hint="give command or args")
    if "/" in name:
        path = os.path.join(os.getcwd(), name)
        _check_program(where, path)
        return path
    found_but_unusable: ProgramError | None = None
    for directory in search.split(":"):
        path = os.path.join(directory or ".", name)
        if not os.path.exists(path):
            continue
        try:
            _check_program(where, path)
        except ProgramError as error:
            found_but_unusable = found_but_unusable or error
        else:
            return os.path.join(os.getcwd(), path)
    if found_but_unusable is not None:
        raise found_but_unusable
    raise ProgramNotFound(
        f"{where} was not found in PATH={search} of its root file system",
        hint="correct the command, or use an image that has it",
    )


def _check_program(where: str, path: str) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise ProgramNotFound(
            f"{where} was not found: {path} does not exist in its root file system",
            hint="correct the command, or use an image that has it",
        ) from None
    except OSError as error:
        raise ProgramError(f"{where} cannot be reached: {path}: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise ProgramError(f"{where} is not executable: {path} is a directory", hint="correct the command")
    if not os.access(path, os.X_OK):
        raise ProgramError(
            f"{where} is not executable: {path} has mode {stat.S_IMODE(status.st_mode):04o} for uid {os.getuid()}",
            hint="set the execute bit in the image, or name its interpreter in the command",
        )
    interpreter = _interpreter_of(path)
    if interpreter is not None and not os.path.exists(interpreter):
        hint = "use an image that has it, or a statically linked program"
        if interpreter.endswith("\r"):
            interpreter, hint = ascii(interpreter), "end its lines with LF, not CR LF"
        raise ProgramNotFound(
            f"{where} has no interpreter: {path} needs {interpreter}, which does not exist in its root file system",
            hint=hint,
        )


def _interpreter_of(path: str) -> str | None:
    """Return what the kernel will start to run a program: of `#!`, or of the PT_INTERP header of a 64-bit ELF."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # executable but not readable: exec decides
        return None
    try:
        head = os.pread(fd, 256, 0)
        if head.startswith(b"#!"):
            # As the kernel cuts it: a carriage return stays part of the name.
            words = head[2:].split(b"\n")[0].replace(b"\t", b" ").split(b" ")
            return next((os.fsdecode(word) for word in words if word), None)
        if head[:5] != b"\x7fELF\x02" or len(head) < 64:
            return None
        table, size, count = _program_headers(head)
        for index in range(min(count, 64)):
            header = os.pread(fd, 56, table + index * size)
            kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", header)
            if kind == 3:  # PT_INTERP
                return os.fsdecode(os.pread(fd, min(length, 4096), offset).rstrip(b"\0"))
    except (OSError, struct.error):
        return None
    finally:
        os.close(fd)
    return None


def _program_headers(head: bytes) -> tuple[int, int, int]:
    table = struct.unpack_from("<Q", head, 32)[0]
    size, count = struct.unpack_from("<HH", head, 54)
    return table, size, count


def explain_exec_error(container: str, program: str, record: StartRecord) -> ProgramError:
    """Return the error for a program that the last hop could not execute."""
    where = f'container "{container}": program "{program}" cannot be executed'
    reason = os.strerror(record.errno)
    if record.stage == "interpreter":
        hint = "the dynamic loader or the program after #! is missing in its root file system"
        return ProgramNotFound(f"{where}: its interpreter does not exist", hint=hint)
    if record.errno == errno.ENOENT:
        return ProgramNotFound(f"{where}: {reason}", hint="correct the command, or use an image that has it")
    if record.errno == errno.ENOEXEC:
        hint = "it is of another architecture, or a script without a #! line"
        return ProgramError(f"{where}: {reason}", hint=hint)
    return ProgramError(f"{where}: {reason}", hint="check its mode and the mount options of its file system")
