"""Events of a Pod that was just made: its containers were created and started."""

from __future__ import annotations

from msgspec.structs import replace

from pyrun.errors import StateError
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.event import Event
from pyrun.spec.pod import Pod
from pyrun.state.events import Reason, about_pod, happened


def beginnings(directory: PodDirectory, pod: Pod, source: str = "pyrun") -> list[Event]:
    """Return the events of the containers that were made with a Pod; with init containers they come later.

    The times are those of their records: a supervisor may have told more of them by now.
    """
    events = []
    for container in () if pod.spec.init_containers else pod.spec.containers:
        try:
            found = directory.container((container.name, 0))
        except StateError:
            found = None
        if found is None:  # it has gone since
            continue
        about = about_pod(directory.uid, pod, container.name)
        created = happened(about, Reason.CREATED, f"Created container {container.name}", source)
        started = happened(about, Reason.STARTED, f"Started container {container.name} (attempt 0)", source)
        events.append(replace(created, time=found.created_at))
        events.append(replace(started, time=found.started_at or started.time))
    return events
