"""Waiting for containers to end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pyrun.errors import PyrunError
from pyrun.process.container import wait_for_exit
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.status import pod_status


def wait_until_ended(pods: Sequence[PodDirectory], timeout: float | None) -> None:
    """Wait until every container of the Pods has ended. PyrunError when `timeout` seconds pass before."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for pod in pods:
        for key in pod.attempts():
            if not wait_for_exit(pod.container_directory(key), deadline):
                raise PyrunError(
                    f'container "{key[0]}" of Pod {pod.uid} still runs after {timeout:g} s',
                    hint="it goes on; stop it with pyrun pod stop, or wait longer",
                )


def exit_code(pod: PodDirectory) -> int:
    """Return the exit code of the first container that did not end well; 0 when all did."""
    status = pod_status(pod)
    codes = [
        s.state.terminated.exit_code for s in status.container_statuses if s.state.terminated is not None
    ]
    return next((code for code in codes if code != 0), 0)
