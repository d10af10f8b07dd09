"""The one tree of errors.

Contract: a function of the library either does what its name says or raises an error of this tree (or an
`OSError` from a wrapper of a system call, which the operation above it explains). Nothing is logged and
raised again, nothing is swallowed, and only `pyrun.cli` prints or exits. Each error says what failed, where
(path, operation, errno) and, in `hint`, what to do. Exit codes are class attributes and are documented in
the README.
"""

from __future__ import annotations

from collections.abc import Sequence


class PyrunError(Exception):
    """Something failed; `str()` is one sentence (lower case, no full stop), `hint` says what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def sentence(self) -> str:
        """Return the message with its hint, as one sentence for a person."""
        return f"{self}; {self.hint}" if self.hint else str(self)


class InputError(PyrunError):
    """What the user gave cannot be used: a manifest, a flag, a name. Nothing was created."""

    exit_code = 2


class Problem:
    """One finding in a manifest: where (`spec.containers[0].image`) and what."""

    __slots__ = ("message", "path")

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and (self.path, self.message) == (other.path, other.message)

    def __hash__(self) -> int:
        return hash((self.path, self.message))

    def __repr__(self) -> str:
        return f"Problem({self.path!r}, {self.message!r})"


class ManifestError(InputError):
    """A manifest has problems; all of them are in `problems`."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{source}: {count} problem{'s' if count != 1 else ''}{lines}")


class NotFound(PyrunError):
    """No object of this name exists."""


class Conflict(PyrunError):
    """The name or the resource is taken, or the object is in a state that does not allow this."""


class TooOld(PyrunError):
    """The log of changes does not go back so far: everything must be read again."""


class Busy(PyrunError):
    """Another process holds the object; the message says who."""


class Unsupported(PyrunError):
    """This host lacks something; the message names it and the hint says what has it."""


class ControllersMissing(Unsupported):
    """The cgroups of this host have no controllers for limits of a Pod; the message names both."""


class Unschedulable(PyrunError):
    """The host has too little left of what a Pod requests, the message says of what; nothing of the Pod was made."""

    exit_code = 3


class ImageError(PyrunError):
    """An image or a layer cannot be read, verified, unpacked or found."""


class NetworkError(PyrunError):
    """The Pod network cannot be made: a clash, an exhausted subnet, a missing kernel feature."""


class StateError(PyrunError):
    """A record or a journal cannot be read or written."""


class OperationFailed(PyrunError):
    """An operation of a plan failed; what had been done before it has been undone."""

    def __init__(self, description: str, reason: str, *, hint: str | None = None, errno: int = 0) -> None:
        self.description = description
        self.reason = reason
        self.errno = errno
        super().__init__(f"{description}: {reason}", hint=hint)


class ChildFailed(OperationFailed):
    """An operation failed inside the container's or the sandbox's own process; rebuilt from its record."""

    def __init__(
        self,
        description: str,
        reason: str,
        *,
        stage: str,
        exception: str,
        errno: int = 0,
        hint: str | None = None,
    ) -> None:
        super().__init__(description, reason, hint=hint, errno=errno)
        self.stage = stage
        self.exception = exception


class ProgramError(PyrunError):
    """The container's program cannot be executed: exit code 126, or 127 when it does not exist."""

    exit_code = 126


class ProgramNotFound(ProgramError):
    """The container's program does not exist in its root file system."""

    exit_code = 127


class Interrupted(PyrunError):
    """The user pressed Ctrl-C (or sent SIGTERM); what was half made has been undone."""

    exit_code = 130
