"""The status of a Pod, derived from the kernel and the records each time it is asked for."""

from __future__ import annotations

import time

from pyrun.lifecycle import status as rules
from pyrun.lifecycle.course import live_containers
from pyrun.runtime.observe import observe
from pyrun.runtime.pods import PodDirectory, require_pod
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.status import PodStatus


def pod_status(pod: PodDirectory, defaults: BackoffSettings | None = None) -> PodStatus:
    """Return the status of a Pod; `defaults` are the host's delays of restarts. StateError when it is half made."""
    return rules.pod_status(
        require_pod(pod), observe(pod), defaults or BackoffSettings(), time.monotonic_ns()
    )


def running_containers(pod: PodDirectory) -> list[str]:
    """Return the names of the containers that have not ended; none of a Pod that is half made."""
    if pod.record() is None or pod.sandbox() is None:
        return []
    live = live_containers(require_pod(pod).spec, observe(pod))
    return [container.name for container, _ in live]
