"""What the kernel did in a container for want of memory: how often, to whom, and at whose limit."""

from __future__ import annotations

import enum

from pyrun.spec.value import Value


class OomLimit(enum.Enum):
    """Whose limit of memory was reached; ABOVE is that of a cgroup around the Pod, HOST all memory there is.

    UNKNOWN: the kernel's log does not tell of so many in a moment.
    """

    CONTAINER = "container"
    POD = "pod"
    ABOVE = "above"
    HOST = "host"
    UNKNOWN = "unknown"


class Victim(Value, frozen=True, kw_only=True):
    """A process that the kernel killed, at `at_us` of its log. What it had in memory is in bytes: `anonymous`, of
    files, and shared. `main` is true for the main process of its container, `pid` as the kernel counts. `limit_group`
    is the cgroup whose limit was reached, as a path from the root of the hierarchy.
    """

    name: str
    pid: int
    at_us: int
    anonymous: int
    file: int
    shared: int
    limit: OomLimit
    limit_group: str = ""
    main: bool = False

    @property
    def memory(self) -> int:
        """All that it had in memory."""
        return self.anonymous + self.file + self.shared


class OomReport(Value, frozen=True, kw_only=True):
    """Kills in one attempt of a container, which memory.events counts: one process may be counted twice when all of a
    container are killed together (memory.oom.group).

    `victims` are those that the kernel's log names, `unread` why it could not be read. `limit` and `pod_limit` are
    memory.max of container and Pod in bytes (None: none), `peak` the most that the container has had.
    """

    kills: int
    victims: tuple[Victim, ...] = ()
    unread: str = ""
    limit: int | None = None
    pod_limit: int | None = None
    peak: int | None = None
