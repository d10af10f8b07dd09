"""The names of the kernel's capabilities in their numbers' order, and the default set of a container.

Source: capabilities(7), linux/capability.h; the default set is that of the Docker family.
"""

from __future__ import annotations

ALL_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)

DEFAULT_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
)


def normalise(name: str) -> str:
    """Return a capability name as this table spells it: upper case, without CAP_."""
    return name.upper().removeprefix("CAP_")


def number_of(name: str) -> int:
    """Return the kernel's number of a capability; ValueError for an unknown name."""
    return ALL_CAPABILITIES.index(name)


def effective_set(add: tuple[str, ...], drop: tuple[str, ...]) -> tuple[str, ...]:
    """Return the set of a container that adds and drops, in the kernel's order.

    `ALL` in `drop` starts from nothing, `ALL` in `add` from everything; otherwise what is dropped wins over
    the default, and what is added over what is dropped, as in containerd and CRI-O.
    """
    added = {normalise(name) for name in add}
    dropped = {normalise(name) for name in drop}
    held = set(ALL_CAPABILITIES) if "ALL" in added else set(DEFAULT_CAPABILITIES)
    if "ALL" in dropped:
        held = set() if "ALL" not in added else held
    held = (held - dropped) | (added - {"ALL"})
    return tuple(name for name in ALL_CAPABILITIES if name in held)


def named_set(add: tuple[str, ...], drop: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a container must be given: `ALL` asks for what there is, every other name for itself."""
    if "ALL" not in {normalise(name) for name in add}:
        return effective_set(add, drop)
    named = {normalise(name) for name in add}
    return tuple(name for name in ALL_CAPABILITIES if name in named)
