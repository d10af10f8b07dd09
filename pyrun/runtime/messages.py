"""The termination message: what a container has written about its end, or the end of its log.

Source: Kubernetes, "Determine the Reason for Pod Failure"; core/v1 Container.terminationMessagePath.
"""

from __future__ import annotations

import errno
import os

from pyrun.runtime.logfiles import LogFiles
from pyrun.runtime.pods import ContainerKey, PodDirectory
from pyrun.spec.pod import Container, PodSpec, TerminationMessagePolicy

CONTAINER_LIMIT = 4096
"""Bytes of the message that are kept of one container."""

POD_LIMIT = 12 * 1024
"""Bytes that all containers of a Pod share evenly."""

LOG_LINES = 80
LOG_BYTES = 2048


def message_limit(spec: PodSpec) -> int:
    """Return how many bytes of its message a container of this Pod may keep."""
    return min(CONTAINER_LIMIT, POD_LIMIT // len(spec.all_containers()))


def termination_message(
    pod: PodDirectory, key: ContainerKey, container: Container, exit_code: int, limit: int
) -> str:
    """Return the message of an attempt that has ended: the end of its file, at most `limit` bytes.

    When that is empty, the exit was an error and the policy says so: the last lines of its log.
    """
    text = _tail_of_file(pod.layout.termination_log(pod.uid, *key), limit)
    fallback = TerminationMessagePolicy.FALLBACK_TO_LOGS_ON_ERROR
    if not text and exit_code != 0 and container.termination_message_policy is fallback:
        text = _tail_of_log(f"{pod.layout.logs(pod.uid, key[0])}/{key[1]}.log", min(limit, LOG_BYTES))
    return text.decode(errors="replace")


def _tail_of_file(path: str, limit: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return b""
        raise
    try:
        return os.pread(fd, limit, max(os.fstat(fd).st_size - limit, 0))
    finally:
        os.close(fd)


def _tail_of_log(path: str, limit: int) -> bytes:
    files = LogFiles(path)
    try:
        files.skip_to_tail(LOG_LINES)
        return b"".join(record.data for record in files.read())[-limit:]
    finally:
        files.close()
