"""Waiting for Pods: until their containers run, until they are ready, until they have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pyrun.errors import PyrunError
from pyrun.process.container import wait_for_exit
from pyrun.runtime.pods import PodDirectory, require_pod
from pyrun.runtime.status import pod_status
from pyrun.runtime.watch import Watch
from pyrun.spec.pod import RestartPolicy
from pyrun.spec.status import Phase, PodStatus

_OVER = (Phase.SUCCEEDED, Phase.FAILED)


def wait_until_running(pods: Sequence[PodDirectory], timeout: float | None) -> None:
    """Wait until every container runs or has run. PyrunError when `timeout` seconds pass before."""
    _wait_until(
        pods,
        lambda status: (
            status.phase in _OVER
            or all(s.restart_count > 0 or s.state.waiting is None for s in status.container_statuses)
        ),
        timeout,
        "do not run",
    )


def wait_until_ready(pods: Sequence[PodDirectory], timeout: float | None) -> None:
    """Wait until every Pod is ready. PyrunError when one has ended, or `timeout` seconds pass before."""

    def ready(status: PodStatus) -> bool:
        if status.phase in _OVER:
            raise PyrunError("a Pod ended before it was ready", hint="see pyrun get pods, pyrun pod why")
        return any(c.type == "Ready" and c.status == "True" for c in status.conditions)

    _wait_until(pods, ready, timeout, "are not ready")


def wait_until_ended(pods: Sequence[PodDirectory], timeout: float | None, *, supervised: bool) -> None:
    """Wait until every container of the Pods has ended. PyrunError when `timeout` seconds pass before.

    Where restarts come to an end and somebody restarts, that is when the Pods are through; otherwise when each
    container that is there now has ended once.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    for pod in pods:
        spec = require_pod(pod).spec
        if supervised and spec.restart_policy is not RestartPolicy.ALWAYS:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            _wait_until([pod], lambda status: status.phase in _OVER, left, "have not ended")
            continue
        names = {container.name for container in spec.containers}  # sidecars do not end by themselves
        for key in (key for key in pod.attempts() if key[0] in names):
            if not wait_for_exit(pod.container_directory(key), deadline):
                raise PyrunError(
                    f'container "{key[0]}" of Pod {pod.uid} still runs after {timeout:g} s',
                    hint="it goes on; stop it with pyrun pod stop, or wait longer",
                )


def _wait_until(
    pods: Sequence[PodDirectory], test: Callable[[PodStatus], bool], timeout: float | None, negative: str
) -> None:
    if not pods:
        return
    deadline = None if timeout is None else time.monotonic() + timeout
    watch = Watch(pods[0].layout)
    try:
        while left := [pod for pod in pods if not test(pod_status(pod))]:
            if deadline is not None and time.monotonic() >= deadline:
                names = ", ".join(require_pod(pod).metadata.name for pod in left)
                raise PyrunError(
                    f"after {timeout:g} s these Pods {negative}: {names}",
                    hint="they go on; see why: pyrun pod why",
                )
            watch.wait(deadline)
    finally:
        watch.close()


def exit_code(pod: PodDirectory) -> int:
    """Return the exit code of the first container that did not end well; 0 when all did.

    Of a container that was started again it is the code of its last end.
    """
    status = pod_status(pod)
    ends = [
        s.state.terminated or s.last_state.terminated
        for s in (*status.init_container_statuses, *status.container_statuses)
    ]
    return next((end.exit_code for end in ends if end is not None and end.exit_code != 0), 0)
