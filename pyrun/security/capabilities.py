"""Capability sets: names, the default set, and the step that takes the others away.

Source: capabilities(7); the default set is that of the Docker family.
"""

from __future__ import annotations

import prctl

from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results, Step
from pyrun.spec.capability import ALL_CAPABILITIES, number_of


def mask_of(names: tuple[str, ...]) -> int:
    """Return the bit mask of capability names without CAP_."""
    mask = 0
    for name in names:
        mask |= 1 << number_of(name)
    return mask


def bounding_set() -> tuple[str, ...]:
    """Return the names of the caller's bounding set: what a container on this host can be given."""
    held = []
    for number, name in enumerate(ALL_CAPABILITIES):
        try:
            present = bool(prctl.capbset_read(number))
        except OSError:  # a capability newer than this kernel
            present = False
        if present:
            held.append(name)
    return tuple(held)


class DropBoundingSet(Step, frozen=True, tag=True):
    """Remove from the bounding set what the container shall never hold; prctl(PR_CAPBSET_DROP).

    The first of the capability steps: it needs CAP_SETPCAP, which may be among what is dropped next. For a
    root process this set alone decides what exec gives it.
    """

    keep: tuple[str, ...]

    def describe(self) -> str:
        return f"prctl(PR_CAPBSET_DROP, all but {_words(self.keep)})"

    def apply(self, results: Results) -> None:
        keep = mask_of(self.keep)
        for number in range(len(ALL_CAPABILITIES)):
            if keep & (1 << number):
                continue
            try:
                if prctl.capbset_read(number):
                    prctl.capbset_drop(number)
            except OSError:  # a capability newer than this kernel: nothing to drop
                continue


class SetCapabilities(Step, frozen=True, tag=True):
    """Reduce effective and permitted to `keep`, clear inheritable and ambient; capset(2).

    Inheritable stays empty: a non-root process gains nothing through files with inheritable capabilities.
    A process that has left uid 0 before has lost both sets already, and the intersection is empty.
    """

    keep: tuple[str, ...]

    def describe(self) -> str:
        return f"capset(effective=permitted={_words(self.keep)}, inheritable=none), clear ambient"

    def apply(self, results: Results) -> None:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
        _, permitted, _ = syscalls.capget()
        kept = mask_of(self.keep) & permitted
        syscalls.capset(kept, kept, 0)


class SetNoNewPrivileges(Step, frozen=True, tag=True):
    """exec never again grants rights (setuid bits, file capabilities); prctl(PR_SET_NO_NEW_PRIVS)."""

    def describe(self) -> str:
        return "prctl(PR_SET_NO_NEW_PRIVS, 1)"

    def apply(self, results: Results) -> None:
        prctl.set_no_new_privs(1)


def _words(names: tuple[str, ...]) -> str:
    if len(names) == len(ALL_CAPABILITIES):
        return "all"
    return ",".join(names) or "none"
