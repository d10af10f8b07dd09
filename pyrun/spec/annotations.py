"""The annotations that are pyrun's own: what Kubernetes has no field for.

- `rootfs.pyrun.io/<container>`: an absolute path of the host; that directory is the container's root file
  system, and the container's image is not looked up.
- `pyrun.io/time-offset-monotonic`, `pyrun.io/time-offset-boottime`: what the Pod's clocks are ahead of the
  host's (time_namespaces(7)), as a Go duration (`24h`, `-1h30m`, `1.5s`) or as plain seconds.
- `pyrun.io/backoff-initial`, `pyrun.io/backoff-max`, `pyrun.io/backoff-reset`: the delays of restarts (see
  `BackoffSettings`), as a duration (`1s`, `500ms`, `0`); what is not given is the host's.
- `pyrun.io/best-effort`: `true` lets the Pod run without those of its limits that the host cannot give, and without its
  requests when they are not free; its condition `pyrun.io/ResourcesApplied` says which.
"""

from __future__ import annotations

import re

import msgspec

from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Metadata, Pod
from pyrun.spec.value import Value

DOMAIN = "pyrun.io"
ROOTFS_PREFIX = "rootfs.pyrun.io/"
TIME_OFFSET_MONOTONIC = "pyrun.io/time-offset-monotonic"
TIME_OFFSET_BOOTTIME = "pyrun.io/time-offset-boottime"
BACKOFF_INITIAL = "pyrun.io/backoff-initial"
BACKOFF_MAX = "pyrun.io/backoff-max"
BACKOFF_RESET = "pyrun.io/backoff-reset"
BEST_EFFORT = "pyrun.io/best-effort"

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


def backoff_of(pod: Pod, default: BackoffSettings) -> BackoffSettings:
    """Return the delays of a Pod's restarts; ValueError when an annotation is no duration.

    The first delay is never longer than the longest one: a `backoff-max` below the default of the first cuts it.
    """
    given = pod.metadata.annotations

    def of(key: str, otherwise: int) -> int:
        return parse_duration(given[key]) if key in given else otherwise

    maximum = of(BACKOFF_MAX, default.maximum_ns)
    return BackoffSettings(
        initial_ns=min(of(BACKOFF_INITIAL, default.initial_ns), maximum),
        maximum_ns=maximum,
        reset_ns=of(BACKOFF_RESET, default.reset_ns),
    )


def takes_best_effort(pod: Pod) -> bool:
    """Whether the Pod may run without limits that the host cannot give, and without requests that are not free."""
    return pod.metadata.annotations.get(BEST_EFFORT) == "true"


def with_best_effort(metadata: Metadata) -> Metadata:
    """Return the metadata of a Pod that takes what it can get."""
    return msgspec.structs.replace(metadata, annotations={**metadata.annotations, BEST_EFFORT: "true"})


def parse_switch(text: str) -> bool:
    """Read `true` or `false`; raises ValueError with a sentence."""
    if text not in ("true", "false"):
        raise ValueError(f"{text[:_MAX_TEXT]!r} is neither true nor false")
    return text == "true"


def parse_offset(text: str) -> int:
    """Read a clock offset into nanoseconds (a finer rest is cut off); raises ValueError with a sentence."""
    total = _total(text[1:] if text[:1] in ("+", "-") else text)
    if total is None:
        raise ValueError(f"{text[:_MAX_TEXT]!r} is not a duration such as 24h, -1h30m, 90s or 90")
    if total > MAX_OFFSET_NS:
        raise ValueError(f"{text!r} is farther than the kernel can set a clock, 146 years")
    return -total if text.startswith("-") else total


def parse_duration(text: str) -> int:
    """Read a duration that is not negative into nanoseconds; raises ValueError with a sentence."""
    total = _total(text)
    if total is None:
        raise ValueError(f"{text[:_MAX_TEXT]!r} is not a duration such as 1s, 500ms, 1m30s or 0")
    if total > MAX_OFFSET_NS:
        raise ValueError(f"{text!r} is longer than 146 years")
    return total


def _total(text: str) -> int | None:
    """Return the nanoseconds of a duration without a sign, None when it is none."""
    if len(text) >= _MAX_TEXT:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text):
        return _nanoseconds(text, _UNITS["s"])
    if not re.fullmatch(f"({_PART})+", text):
        return None
    parts: list[tuple[str, str]] = re.findall(_PART, text)
    return sum(_nanoseconds(number, _UNITS[unit]) for number, unit in parts)


def _nanoseconds(number: str, unit: int) -> int:
    whole, _, fraction = number.partition(".")
    finer: int = 10 ** len(fraction)
    return int(whole or "0") * unit + int(fraction or "0") * unit // finer
