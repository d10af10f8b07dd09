"""Times as records hold them: RFC 3339 in UTC with nanoseconds, as Kubernetes and the CRI log format do."""

from __future__ import annotations

import time


def rfc3339(nanoseconds: int) -> str:
    """Return a time of the real-time clock (nanoseconds since 1970) as text."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = time.gmtime(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{rest:09d}Z"


def now() -> str:
    """Return the present time as text."""
    return rfc3339(time.time_ns())


def parse_rfc3339(text: str) -> float:
    """Return the seconds since 1970 of an RFC 3339 time in UTC or with an offset; ValueError otherwise."""
    from datetime import UTC, datetime

    cut = text
    if "." in text:
        whole, _, rest = text.partition(".")
        digits = len(rest) - len(rest.lstrip("0123456789"))
        cut = f"{whole}.{rest[:digits][:6]}{rest[digits:]}"
    moment = datetime.fromisoformat(cut)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
