"""Waiting for containers to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pyrun.errors import PyrunError
from pyrun.lifecycle.course import is_over, live_containers
from pyrun.lifecycle.observation import PodObservation
from pyrun.process.container import wait_for_exit
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory, require_pod
from pyrun.runtime.status import pod_status
from pyrun.runtime.watch import Watch
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Pod, RestartPolicy
from pyrun.spec.status import Phase, PodStatus

_OVER = (Phase.SUCCEEDED, Phase.FAILED)

_AGAIN = 0.05
"""Seconds until it is looked again for a container that somebody else is to start."""


def wait_until_running(pods: Sequence[PodDirectory], timeout: float | None) -> None:
    """Wait until every container runs, or has run. PyrunError when `timeout` seconds pass before."""

    def run(status: PodStatus) -> bool:
        started = [s.restart_count > 0 or s.state.waiting is None for s in status.container_statuses]
        return status.phase in _OVER or all(started)

    _wait_until(pods, run, timeout, "do not run")


def wait_until_ready(pods: Sequence[PodDirectory], timeout: float | None) -> None:
    """Wait until every Pod is ready. PyrunError when one has ended, or `timeout` seconds pass before."""

    def ready(status: PodStatus) -> bool:
        if status.phase in _OVER:
            raise PyrunError("a Pod ended before it was ready", hint="see pyrun get pods, pyrun pod why")
        return any(c.type == "Ready" and c.status == "True" for c in status.conditions)

    _wait_until(pods, ready, timeout, "are not ready")


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
                    hint="they go on; pyrun pod why says what it is about",
                )
            watch.wait(deadline)
    finally:
        watch.close()


def wait_until_ended(pods: Sequence[PodDirectory], timeout: float | None) -> None:
    """Wait until the Pods have come to their end. PyrunError when `timeout` seconds pass before.

    One whose containers are always restarted has none: of it, until each container has ended once.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    for pod in pods:
        manifest = require_pod(pod)
        while not _has_ended(manifest, observed := observe(pod)):
            live = [container.name for container, _ in live_containers(manifest.spec, observed)]
            if deadline is not None and time.monotonic() >= deadline:
                names = ", ".join(f'"{name}"' for name in live) or "to come"
                raise PyrunError(
                    f"container {names} of Pod {manifest.metadata.name} still runs after {timeout:g} s",
                    hint="it goes on; stop it with pyrun pod stop, or wait longer",
                )
            if not _wait_for_one(pod, live, deadline):
                time.sleep(_AGAIN)


def _has_ended(pod: Pod, observed: PodObservation) -> bool:
    if is_over(pod.spec, observed, BackoffSettings()):
        return not live_containers(pod.spec, observed)
    latest = [observed.container(container.name).latest for container in pod.spec.containers]
    always = pod.spec.restart_policy is RestartPolicy.ALWAYS
    return always and all(a is not None and (a.ended is not None or a.attempt > 0) for a in latest)


def _wait_for_one(pod: PodDirectory, live: list[str], deadline: float | None) -> bool:
    """Wait for the end of one of the containers, whatever becomes of the others; false when there is none."""
    key = pod.latest(live[-1]) if live else None
    return key is not None and wait_for_exit(pod.container_directory(key), _soon(deadline))


def _soon(deadline: float | None) -> float:
    later = time.monotonic() + 1.0
    return later if deadline is None else min(deadline, later)


def exit_code(pod: PodDirectory) -> int:
    """Return the exit code of the first container that did not end well; 0 when all did."""
    seen = [container.latest for container in observe(pod).containers]
    codes = [attempt.ended.exit_code for attempt in seen if attempt is not None and attempt.ended is not None]
    return next((code for code in codes if code != 0), 0)
