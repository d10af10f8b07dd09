"""Whom the OOM killer has killed and at whose limit, as the kernel's log tells it.

Three lines tell of it, with lines of others in between (mm/oom_kill.c, mm/memcontrol.c; alike from Linux 5.10 to 6.18):

- `oom-kill:constraint=CONSTRAINT_MEMCG,...,oom_memcg=/a,task_memcg=/a/b,task=NAME,pid=1,uid=0`, before the first
  victim; `CONSTRAINT_NONE,...,global_oom,task_memcg=...` when the memory of the host is all used. Left out when there
  are too many of them (a rate limit of ten in five seconds).
- `Memory cgroup out of memory: Killed process 1 (NAME) total-vm:...kB, anon-rss:...kB, file-rss:...kB, ...`, of each.
- `Tasks in /a/b are going to be killed due to memory.oom.group set`, before all the others of that group; the
  first victim is among them, and told and counted in memory.events a second time.

A name is whatever a process gave itself: it may hold commas, parentheses, and the words of these lines. So paths are
looked for where no name can stand before them, and numbers behind the last place where one can end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pyrun.kernel.kmsg import LogRecord
from pyrun.spec.oom import OomLimit, Victim
from pyrun.spec.value import Value

_CONTEXT = re.compile(
    r"oom-kill:constraint=\w+,nodemask=.*?,mems_allowed=[\d,-]*,"
    r"(?:oom_memcg=(?P<limit>/.*?)|global_oom),task_memcg=(?P<group>/.*?),task=.*,pid=(?P<pid>\d+),uid=\d+",
    re.DOTALL,
)
_KILLED = re.compile(
    r"(?:Memory cgroup out of memory|Out of memory[^:]*): Killed process (?P<pid>\d+) \((?P<name>.*)\) "
    r"total-vm:\d+kB, anon-rss:(?P<anon>\d+)kB, file-rss:(?P<file>\d+)kB, shmem-rss:(?P<shmem>\d+)kB",
    re.DOTALL,
)
_TOGETHER = re.compile(r"Tasks in (?P<group>/.*) are going to be killed due to memory\.oom\.group set")


class OomKill(Value, frozen=True, kw_only=True):
    """A process that was killed; what it had in memory is in bytes. `group` is the cgroup it was in, or one above it,
    and `limit` the one whose limit was reached: paths from the root of the hierarchy. `limit` is empty when it was the
    memory of the host, and None when it is not told.
    """

    at_us: int
    name: str
    pid: int
    anonymous: int
    file: int
    shared: int
    group: str
    limit: str | None


class _Context(Value, frozen=True, kw_only=True):
    """What the last line about a group says; `pid` 0 stands for all processes of the group."""

    limit: str | None
    group: str
    pid: int = 0


def parse_kills(records: Iterable[LogRecord]) -> Iterator[OomKill]:
    """Yield the kills that the kernel's log tells of; those whose cgroup it does not tell are left out."""
    context: _Context | None = None
    for record in records:
        if found := _CONTEXT.fullmatch(record.text):
            context = _Context(limit=found["limit"] or "", group=found["group"], pid=int(found["pid"]))
        elif found := _TOGETHER.fullmatch(record.text):
            # Of what is killed together the line does not say at whose limit: that of the first victim.
            below = context is not None and f"{context.group}/".startswith(f"{found['group'].rstrip('/')}/")
            limit = context.limit if context is not None and below else None
            context = _Context(limit=limit, group=found["group"])
        elif found := _KILLED.match(record.text):
            pid = int(found["pid"])
            if context is None or context.pid not in (0, pid):
                context = None
                continue
            yield OomKill(
                at_us=record.at_us,
                name=found["name"],
                pid=pid,
                anonymous=int(found["anon"]) << 10,
                file=int(found["file"]) << 10,
                shared=int(found["shmem"]) << 10,
                group=context.group,
                limit=context.limit,
            )


class Whom(Value, frozen=True, kw_only=True):
    """A container as the log can tell it. `pod` and `leaf` are the names of its Pod's group and its own in that one.

    Names, not paths: a container or a cgroup namespace sees only the end of the paths that the kernel tells, and the
    name of a Pod's group is its uid, which is nobody else's. `main_pid` is its main process; `since_us` when it began.
    """

    pod: str
    leaf: str
    main_pid: int
    since_us: int


def kills_of(kills: Iterable[OomKill], whom: Whom) -> tuple[OomKill, ...]:
    """Return the kills in one container, as they are told: a process may be among them twice.

    When all of a Pod is killed together the log does not tell who was in which container: only the main one is known.
    """
    return tuple(kill for kill in kills if kill.at_us >= whom.since_us and _is_of(kill, whom))


def _is_of(kill: OomKill, whom: Whom) -> bool:
    names = kill.group.split("/")
    if whom.pod not in names:
        return False
    below = names[names.index(whom.pod) + 1 :]
    return below[0] == whom.leaf if below else kill.pid == whom.main_pid


def victims(kills: Iterable[OomKill], whom: Whom) -> tuple[Victim, ...]:
    """Return the processes that were killed, each once."""
    found: dict[int, Victim] = {}
    for kill in kills:
        victim = Victim(
            name=kill.name,
            pid=kill.pid,
            at_us=kill.at_us,
            anonymous=kill.anonymous,
            file=kill.file,
            shared=kill.shared,
            limit=_whose(kill.limit, whom.pod),
            limit_group=kill.limit or "",
            main=kill.pid == whom.main_pid,
        )
        found.setdefault(kill.pid, victim)
    return tuple(found.values())


def _whose(limit: str | None, pod: str) -> OomLimit:
    if limit is None:
        return OomLimit.UNKNOWN
    if not limit:
        return OomLimit.HOST
    names = limit.split("/")
    if pod not in names:
        return OomLimit.ABOVE
    return OomLimit.POD if names[-1] == pod else OomLimit.CONTAINER
