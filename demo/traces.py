"""What Pods of pyrun leave where the host can see it, as long as they are there."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from stage import Stage

MOUNT_TABLE = Path("/proc/self/mountinfo")


@dataclasses.dataclass(frozen=True)
class Traces:
    """Traces of each kind; a process is its pid, its start time and its name."""

    cgroups: frozenset[str]
    processes: frozenset[str]
    network_links: frozenset[str]
    routes: frozenset[str]
    nftables_tables: frozenset[str]
    host_mounts: frozenset[str]

    def beyond(self, earlier: Traces) -> Traces:
        """Return what was not there earlier."""
        return Traces(*(mine - old for mine, old in zip(self._sets(), earlier._sets(), strict=True)))

    def still_in(self, later: Traces) -> Traces:
        """Return what is there later too."""
        return Traces(*(mine & new for mine, new in zip(self._sets(), later._sets(), strict=True)))

    def any(self) -> bool:
        """Return whether there is anything at all."""
        return any(self._sets())

    def lists(self) -> list[tuple[str, list[str]]]:
        """Return each kind with what there is, for people to read."""
        lists = [sorted(found) for found in self._sets()]
        deepest_first = sorted(self.cgroups, key=lambda path: (-path.count("/"), path))
        lists[0] = _joined(os.path.basename(path) for path in deepest_first)
        lists[1] = _joined(sorted(process.split(maxsplit=2)[2] for process in lists[1]))
        kinds = [field.name.replace("_", " ") for field in dataclasses.fields(self)]
        return list(zip(kinds, lists, strict=True))

    def _sets(self) -> list[frozenset[str]]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]


def traces(stage: Stage, group: str) -> Traces:
    """Look at the host; `group` is the cgroup of the instance, empty when it is not known yet."""
    mounts = MOUNT_TABLE.read_text().splitlines()
    groups = [path for path, _, _ in os.walk(group)] if group else []
    routes = stage.run(("ip", "-4", "route"), hidden=True).stdout.splitlines()
    return Traces(
        cgroups=frozenset(groups),
        processes=frozenset(process for group in groups for process in _processes(group)),
        network_links=frozenset(name for _, name in socket.if_nameindex()),
        # The first words are what the route is for, the rest how it is doing.
        routes=frozenset(" ".join(line.split()[: 2 if line[:1].isalpha() else 1]) for line in routes),
        nftables_tables=frozenset(
            line.removeprefix("table ")
            for line in stage.run(("nft", "list", "tables"), hidden=True).stdout.splitlines()
        ),
        host_mounts=frozenset(mounts),
    )


def _joined(words: Iterable[str]) -> list[str]:
    line = ", ".join(words)
    return [line] if line else []


def _processes(group: str) -> list[str]:
    found = []
    # A group, or a process, that goes at this moment is not there.
    with contextlib.suppress(OSError):
        for pid in Path(f"{group}/cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
                found.append(f"{pid} {rest.split()[19]} {name}")
    return found
