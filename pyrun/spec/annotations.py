"""The annotations that are pyrun's own: what Kubernetes has no field for.

- `rootfs.pyrun.io/<container>`: an absolute path of the host; that directory is the container's root file
  system, and the container's image is not looked up.
- `pyrun.io/time-offset-monotonic`, `pyrun.io/time-offset-boottime`: what the Pod's clocks are ahead of the
  host's (time_namespaces(7)), as a Go duration (`24h`, `-1h30m`, `1.5s`) or as plain seconds.
"""

from __future__ import annotations

import re

from pyrun.spec.pod import Pod
from pyrun.spec.value import Value

DOMAIN = "pyrun.io"
ROOTFS_PREFIX = "rootfs.pyrun.io/"
TIME_OFFSET_MONOTONIC = "pyrun.io/time-offset-monotonic"
TIME_OFFSET_BOOTTIME = "pyrun.io/time-offset-boottime"

MAX_OFFSET_NS = (2**63 - 1) // 2
"""Farthest offset in nanoseconds that the kernel takes: 146 years (kernel/time/namespace.c)."""

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_MAX_TEXT = 64


class TimeOffsets(Value, frozen=True, kw_only=True):
    """What the Pod's clocks are ahead of the host's, in nanoseconds; behind when negative."""

    monotonic_ns: int = 0
    boottime_ns: int = 0


def is_ours(key: str) -> bool:
    """Whether an annotation is in pyrun's domain (`pyrun.io/` or a subdomain of it)."""
    prefix, slash, _ = key.partition("/")
    return bool(slash) and (prefix.lower() == DOMAIN or prefix.lower().endswith(f".{DOMAIN}"))


def rootfs_of(pod: Pod, container_name: str) -> str | None:
    """Return the directory of the host that is the container's root file system, or None: its image is."""
    return pod.metadata.annotations.get(f"{ROOTFS_PREFIX}{container_name}")


def time_offsets(pod: Pod) -> TimeOffsets:
    """Return the clock offsets of the Pod's time namespace; ValueError when an annotation is no duration."""
    annotations = pod.metadata.annotations
    return TimeOffsets(
        monotonic_ns=parse_offset(annotations.get(TIME_OFFSET_MONOTONIC, "0")),
        boottime_ns=parse_offset(annotations.get(TIME_OFFSET_BOOTTIME, "0")),
    )


def parse_offset(text: str) -> int:
    """Read a clock offset into nanoseconds (a finer rest is cut off); raises ValueError with a sentence."""
    body = text.lstrip("+-") if text[:2] not in ("+-", "-+", "--", "++") else ""
    parts: list[tuple[str, str]] = re.findall(_PART, body)
    if len(text) > _MAX_TEXT or not body:
        parts = []
    elif re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", body):
        parts = [(body, "s")]
    elif not re.fullmatch(f"({_PART})+", body):
        parts = []
    if not parts:
        raise ValueError(f"{text[:_MAX_TEXT]!r} is not a duration such as 24h, -1h30m, 90s or 90")
    total = sum(_nanoseconds(number, _UNITS[unit]) for number, unit in parts)
    if total > MAX_OFFSET_NS:
        raise ValueError(f"{text!r} is farther than the kernel can set a clock, 146 years")
    return -total if text.startswith("-") else total


def _nanoseconds(number: str, unit: int) -> int:
    whole, _, fraction = number.partition(".")
    finer: int = 10 ** len(fraction)
    return int(whole or "0") * unit + int(fraction or "0") * unit // finer
