"""The journal: what a transaction is about to do, written before it does it.

One JSON line an operation, then `{"committed":true}`. A line that was cut short by a crash was not yet applied,
because the operation starts only when its line is complete; it is ignored.
"""

from __future__ import annotations

import errno
import os

import msgspec

from pyrun.cgroups.delegation import VacateCgroup
from pyrun.cgroups.group import CreateCgroup, CreateLeaf
from pyrun.cgroups.scope import EnsureScope
from pyrun.cgroups.setting import EnableControllers, SetCgroup
from pyrun.cgroups.tier import WeighTier
from pyrun.errors import StateError
from pyrun.kernel.operation import Operation
from pyrun.network.etc_files import WriteEtcFiles
from pyrun.network.operations import ConnectPod, EnsureNetwork, LeaseAddress
from pyrun.pause.sandbox import SpawnPause
from pyrun.process.container import SpawnContainer, StartContainer
from pyrun.rootfs.directories import ClaimName, EnsureDirectory, MakeDirectory, MakeFile, PrepareHostPath
from pyrun.state.files import read_if_there

AnyOperation = (
    MakeDirectory
    | MakeFile
    | EnsureDirectory
    | ClaimName
    | PrepareHostPath
    | CreateCgroup
    | CreateLeaf
    | VacateCgroup
    | EnsureScope
    | WeighTier
    | SetCgroup
    | EnableControllers
    | LeaseAddress
    | EnsureNetwork
    | ConnectPod
    | WriteEtcFiles
    | SpawnPause
    | SpawnContainer
    | StartContainer
)


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a journal: an operation, or the commit."""

    operation: AnyOperation | None = None
    committed: bool = False


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Entry)


class Journal:
    """The journal of one transaction, a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def begin(self, operation: Operation) -> None:
        """Write down that an operation is about to be applied. Raises StateError."""
        self._append({"operation": operation})

    def commit(self) -> None:
        """Write down that the transaction has come to its end. Raises StateError."""
        self._append({"committed": True})

    def _append(self, entry: dict[str, object]) -> None:
        # In one write(2), so that the line is there whole or not at all.
        line = _ENCODER.encode(entry) + b"\n"
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.write(fd, line) < len(line):  # a disk that is full takes what fits
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(fd)
        except OSError as error:
            raise StateError(
                f"cannot write journal {self.path}: {error.strerror}",
                hint="check the free space of its file system",
            ) from error

    def read(self) -> tuple[Entry, ...]:
        """Return the complete lines; none when the journal does not exist. Raises StateError."""
        data = read_if_there(self.path)
        if data is None:
            return ()
        lines = data.split(b"\n")[:-1]
        try:
            return tuple(_DECODER.decode(line) for line in lines)
        except msgspec.DecodeError as error:
            raise StateError(
                f"journal {self.path} cannot be read: {error}",
                hint="it is of another version of pyrun; remove the Pod with that version",
            ) from error

    def committed(self) -> bool:
        """Whether the transaction came to its end."""
        return any(entry.committed for entry in self.read())

    def remove(self) -> None:
        """Remove the journal; gone is success."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return
