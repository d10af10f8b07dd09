"""The kernel's log, /dev/kmsg: records as they are there now, read without waiting for more.

Source: Documentation/ABI/testing/dev-kmsg.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

PATH = "/dev/kmsg"

_KERNEL = 0
"""The facility of what the kernel itself says; what processes write to /dev/kmsg has another."""
_SIZE = 8192
"""No record is longer: PRINTKRB_RECORD_MAX, CONSOLE_EXT_LOG_MAX."""
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class LogRecord(NamedTuple):
    """A line of the kernel. `at_us` is its local_clock(): nearly CLOCK_MONOTONIC, which is steered and it is not."""

    at_us: int
    text: str


def read_kernel_log(path: str = PATH) -> tuple[LogRecord, ...]:
    """Return what the kernel has said and still keeps, oldest first. Raises OSError when it may not be read."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return tuple(parse_records(raw_records(lambda: os.read(fd, _SIZE))))
    finally:
        os.close(fd)


def raw_records(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Yield what reads of /dev/kmsg give, one record each, until there is no more for now."""
    while True:
        try:
            data = read()
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue  # the next one was overwritten before it was read; the one after it is there
        except OSError as error:
            if error.errno == errno.EINVAL:
                continue  # longer than any record may be; it is skipped
            raise
        if not data:
            return
        yield data


def parse_records(raw: Iterator[bytes]) -> Iterator[LogRecord]:
    """Read records (`PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,...];TEXT`), leaving out those of processes.

    A record with the flag `c` goes on with the line of the one before it.
    """
    before: LogRecord | None = None
    for data in raw:
        head, _, body = data.partition(b";")
        try:
            priority, _, at_us, flags = head.split(b",")[:4]
            facility, when = int(priority) >> 3, int(at_us)
        except ValueError:
            continue
        if facility != _KERNEL:
            continue
        # What follows the line, each beginning with a space, are the device's names.
        text = _unescaped(body.partition(b"\n")[0])
        if flags == b"c" and before is not None:
            before = before._replace(text=before.text + text)
            continue
        if before is not None:
            yield before
        before = LogRecord(when, text)
    if before is not None:
        yield before


def _unescaped(text: bytes) -> str:
    plain = _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), text)
    return plain.decode("utf-8", "replace")
