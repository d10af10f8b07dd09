"""The map of a Pod: its processes against the namespaces of the kernel, and its groups with what they use."""

from __future__ import annotations

import enum
import os

from pyrun.cgroups import stats
from pyrun.kernel.proc import ProcessIdentity
from pyrun.namespaces.table import Namespace, inode_of
from pyrun.plan.sandbox import MONITORS_LEAF, PAUSE_LEAF
from pyrun.runtime.pods import PodDirectory, require_sandbox
from pyrun.runtime.view import require_view
from pyrun.spec.value import Value

KINDS = (
    Namespace.UTS,
    Namespace.IPC,
    Namespace.NETWORK,
    Namespace.TIME,
    Namespace.PID,
    Namespace.MOUNT,
    Namespace.CGROUP,
    Namespace.USER,
)
"""The columns of a map: what a Pod shares first, what it may share, what is each one's own, what is the host's."""

DEPTH = 2
"""How many levels of groups below the Pod's are shown."""

BREADTH = 32
"""How many groups of one level are shown; containers may make as many as they like."""


class Role(enum.Enum):
    """What a process is to its Pod."""

    PAUSE = "pause"
    CONTAINER = "container"
    MONITOR = "monitor"
    HOST = "host"


class Member(Value, frozen=True, kw_only=True):
    """A process of a map; `pid` is None when it does not run, `inodes` has its namespaces in the order of `KINDS`.

    The inode is None for a kind of namespace that this kernel does not have. `attempt` is a container's.
    """

    role: Role
    name: str
    pid: int | None = None
    attempt: int = 0
    inodes: tuple[int | None, ...] = ()

    @property
    def title(self) -> str:
        """The name by which it is shown."""
        return f"monitor of {self.name}" if self.role is Role.MONITOR else self.name


class Holding(enum.Enum):
    """How a namespace is held: by several of the Pod, by one alone, by the host."""

    SHARED = "shared"
    OWN = "own"
    HOST = "host"


class Held(Value, frozen=True, kw_only=True):
    """One namespace of a map; `letter` is empty unless it is shared, `holders` are titles, from the top."""

    kind: Namespace
    inode: int
    holding: Holding
    letter: str = ""
    holders: tuple[str, ...]


class Group(Value, frozen=True, kw_only=True):
    """A cgroup of a map; `use` is None when it is gone, `hidden` counts the groups below that are not shown."""

    name: str
    path: str
    use: stats.GroupUse | None = None
    children: tuple[Group, ...] = ()
    hidden: int = 0


class PodMap(Value, frozen=True, kw_only=True):
    """A Pod as the kernel has it; the host is the last of the members."""

    name: str
    namespace: str
    uid: str
    status: str
    members: tuple[Member, ...]
    group: Group

    def held(self) -> tuple[Held, ...]:
        """Return all namespaces in the order of `KINDS`; in each kind what is shared, what is own, the host's."""
        found: list[Held] = []
        letters = 0
        for column, kind in enumerate(KINDS):
            holders: dict[int, list[Member]] = {}
            for member in self.members:
                inode = member.inodes[column] if member.inodes else None
                if inode is not None:
                    holders.setdefault(inode, []).append(member)
            of_kind = [_held(kind, inode, members) for inode, members in holders.items()]
            for one in sorted(of_kind, key=lambda held: list(Holding).index(held.holding)):
                found.append(one if one.holding is not Holding.SHARED else _lettered(one, letters))
                letters += one.holding is Holding.SHARED
        return tuple(found)

    def groups(self) -> tuple[tuple[int, Group], ...]:
        """Return all groups with their depth, each before those below it."""
        return tuple(_walk(self.group, 0))

    def missing(self) -> tuple[str, ...]:
        """Return the controllers that no group has, of those a map shows."""
        uses = [group.use for _, group in self.groups() if group.use is not None]
        shown = [name for name in stats.COUNTED if name != "io"]
        return tuple(name for name in shown if uses and all(name in use.missing for use in uses))


def _held(kind: Namespace, inode: int, members: list[Member]) -> Held:
    if any(member.role is Role.HOST for member in members):
        holding = Holding.HOST
    else:
        holding = Holding.SHARED if len(members) > 1 else Holding.OWN
    return Held(kind=kind, inode=inode, holding=holding, holders=tuple(m.title for m in members))


def _lettered(held: Held, number: int) -> Held:
    turn, place = divmod(number, 26)
    letter = chr(ord("A") + place) + (str(turn) if turn else "")
    return Held(kind=held.kind, inode=held.inode, holding=held.holding, letter=letter, holders=held.holders)


def _walk(group: Group, depth: int) -> list[tuple[int, Group]]:
    found = [(depth, group)]
    for child in group.children:
        found += _walk(child, depth + 1)
    return found


def map_pod(pod: PodDirectory) -> PodMap:
    """Return the map of a Pod. Raises StateError when it is half made, OSError when a group cannot be read."""
    view = require_view(pod)
    sandbox = require_sandbox(pod)
    return PodMap(
        name=view.metadata.name,
        namespace=view.metadata.namespace,
        uid=pod.uid,
        status=view.display_status(),
        members=(
            _member(Role.PAUSE, "pause", sandbox.pause, sandbox.attempt),
            *_containers(pod),
            Member(role=Role.HOST, name="host", inodes=_inodes("self")),
        ),
        group=_group(sandbox.facts.cgroup, DEPTH),
    )


def _containers(pod: PodDirectory) -> tuple[Member, ...]:
    """Return the latest attempt of each container in the order of the spec, and then the monitors that matter."""
    record = pod.record()
    names = [container.name for container in record.pod.spec.all_containers()] if record else []
    containers, monitors = [], []
    for name in names:
        key = pod.latest(name)
        made = pod.container(key) if key is not None else None
        if made is None:
            containers.append(Member(role=Role.CONTAINER, name=name))
            continue
        container = _member(Role.CONTAINER, name, made.init, made.attempt)
        monitor = _member(Role.MONITOR, name, made.monitor, made.attempt)
        containers.append(container)
        if container.pid is not None or monitor.pid is not None:
            monitors.append(monitor)
    return (*containers, *monitors)


def _member(role: Role, name: str, identity: ProcessIdentity, attempt: int) -> Member:
    inodes = _inodes(identity.pid) if identity.alive() else ()
    # Looked at once more: the pid may have become another process's meanwhile.
    if not any(inodes) or not identity.alive():
        return Member(role=role, name=name, attempt=attempt)
    return Member(role=role, name=name, pid=identity.pid, attempt=attempt, inodes=inodes)


def _inodes(pid: int | str) -> tuple[int | None, ...]:
    return tuple(_inode(pid, kind) for kind in KINDS)


def _inode(pid: int | str, kind: Namespace) -> int | None:
    try:
        return inode_of(pid, kind)
    except (FileNotFoundError, ProcessLookupError):
        return None


def _group(path: str, levels: int) -> Group:
    names = _names_below(path)
    shown = names[:BREADTH] if levels else []
    return Group(
        name=os.path.basename(path),
        path=path,
        use=stats.look(path),
        children=tuple(_group(f"{path}/{name}", levels - 1) for name in shown),
        hidden=len(names) - len(shown),
    )


def _names_below(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(names, key=lambda name: (name == MONITORS_LEAF, name != PAUSE_LEAF, name))
