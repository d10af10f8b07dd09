"""What an instance of pyrun may leave behind on a host, and the assertion that it has left nothing.

A snapshot is taken before and after; whatever is new is a leak. Removal is allowed a moment: the kernel takes
a veth away some milliseconds after its namespace, and a process that was killed has to be reaped.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from collections.abc import Iterator, Set
from pathlib import Path

from pyrun.cgroups.delegation import find_place
from pyrun.spec.layout import Layout

PATIENCE = 5.0 * float(os.environ.get("PYRUN_TEST_SLOW", "1"))
"""Seconds until everything must be gone."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What one instance has on this host, and the parts of the host it may have touched; one item a line."""

    cgroups: frozenset[str]
    mounts: frozenset[str]
    network: frozenset[str]
    rules: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]


def snapshot(layout: Layout) -> Snapshot:
    """Read the present state of the host, of the network namespace of this process, and of an instance."""
    return Snapshot(
        cgroups=frozenset(_cgroups(layout)),
        mounts=frozenset(mount_table()),
        network=frozenset(_lines("ip", "-batch", "-", stdin="link show\naddr show\nroute show table all\n")),
        rules=frozenset(_lines("nft", "list", "ruleset")),
        processes=frozenset(_processes(layout)),
        files=frozenset(_files(layout)),
    )


def assert_nothing_left(before: Snapshot, layout: Layout) -> None:
    """Fail unless the host becomes as it was `before` within PATIENCE seconds; says what is left."""
    deadline = time.monotonic() + PATIENCE
    while differences := _differences(before, snapshot(layout)):
        assert time.monotonic() < deadline, "left behind:\n" + "\n".join(differences)
        time.sleep(0.02)


def mount_table() -> tuple[str, ...]:
    """Return the mount table of this process, which is the host's."""
    return tuple(Path("/proc/self/mountinfo").read_text().splitlines())


def _differences(before: Snapshot, after: Snapshot) -> list[str]:
    found = []
    for field in dataclasses.fields(Snapshot):
        old, new = getattr(before, field.name), getattr(after, field.name)
        found += [f"  {field.name}: + {line}" for line in _topmost(new - old)]
        found += [f"  {field.name}: - {line}" for line in sorted(old - new)]
    return found


def _topmost(lines: Set[str]) -> list[str]:
    """Return the lines without those of what lies below another one."""
    return [line for line in sorted(lines) if os.path.dirname(line) not in lines]


def _lines(*command: str, stdin: str = "") -> list[str]:
    output = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=10, check=True)
    return output.stdout.splitlines()


def _cgroups(layout: Layout) -> Iterator[str]:
    for path, _, _ in os.walk(layout.cgroup_prefix(find_place().parent)):
        yield path


def _processes(layout: Layout) -> Iterator[str]:
    """Yield the processes in a cgroup of the instance, zombies too; a zombie still names its cgroup.

    A zombie whose parent is the host's PID 1 has been let go by everyone else, and is that PID 1's to reap.
    """
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            group = Path(f"/proc/{pid}/cgroup").read_text()
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        except OSError:
            continue
        if f"/{layout.name}/" not in group:
            continue
        state, parent = rest.split()[:2]
        if state in "ZX" and parent == "1":
            continue
        yield f"{name}) state {state} parent {parent}"


def _files(layout: Layout) -> Iterator[str]:
    """Yield the files of the instance but images, desired state, events, and what a supervisor keeps."""
    kept = {f"{layout.state}/network/lock", f"{layout.state}/admission.lock"}
    kept |= {f"{layout.state}/supervisor.{name}" for name in ("lock", "json", "log")}
    own = {layout.images, f"{layout.root}/store", f"{layout.root}/events"}
    for root in (layout.root, layout.state):
        for path, directories, files in os.walk(root):
            if path in own:
                directories.clear()
                continue
            yield from (f"{path}/{name}" for name in files if f"{path}/{name}" not in kept)
            yield from (f"{path}/{name}" for name in directories if os.path.islink(f"{path}/{name}"))
            if os.path.dirname(path) in (layout.pods, layout.pods_root):
                yield path
