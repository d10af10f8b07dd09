"""What a process inherits and a container must not depend on: resource limits and umask.

Source: getrlimit(2), umask(2). The values are those podman and Docker give, cut to what the host allows:
raising a hard limit needs CAP_SYS_RESOURCE.
"""

from __future__ import annotations

import os
import resource

import msgspec

from pyrun.kernel.operation import Results, Step


class Rlimit(msgspec.Struct, frozen=True):
    """One limit; `name` without RLIMIT_, `soft` and `hard` in the limit's own unit, -1 is unlimited."""

    name: str
    soft: int
    hard: int


WANTED = (Rlimit("CORE", 0, -1), Rlimit("NOFILE", 1048576, 1048576), Rlimit("NPROC", 4194304, 4194304))


def hard_limits() -> tuple[Rlimit, ...]:
    """Return the limits of this process for each limit a container is given."""
    return tuple(Rlimit(w.name, *resource.getrlimit(_number(w.name))) for w in WANTED)


def limits_within(host: tuple[Rlimit, ...]) -> tuple[Rlimit, ...]:
    """Return the wanted limits, none above the hard limit of the host."""
    ceilings = {limit.name: limit.hard for limit in host}
    return tuple(
        Rlimit(
            w.name, _lower(w.soft, ceilings.get(w.name, w.hard)), _lower(w.hard, ceilings.get(w.name, w.hard))
        )
        for w in WANTED
    )


def _lower(wanted: int, ceiling: int) -> int:
    if ceiling == resource.RLIM_INFINITY:
        return wanted
    return ceiling if wanted == resource.RLIM_INFINITY else min(wanted, ceiling)


def _number(name: str) -> int:
    return int(getattr(resource, f"RLIMIT_{name}"))


class SetLimits(Step, frozen=True, tag=True):
    """Set resource limits and umask 022."""

    limits: tuple[Rlimit, ...]

    def describe(self) -> str:
        words = ", ".join(f"{limit.name}={limit.soft}:{limit.hard}" for limit in self.limits)
        return f"setrlimit({words}), umask(022)"

    def apply(self, results: Results) -> None:
        for limit in self.limits:
            resource.setrlimit(_number(limit.name), (limit.soft, limit.hard))
        os.umask(0o022)
