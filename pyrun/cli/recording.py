"""Events of what commands do. An event that cannot be recorded keeps no command from its work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyrun.errors import StateError

if TYPE_CHECKING:
    from pyrun.cli.application import Application
    from pyrun.runtime.pods import PodDirectory
    from pyrun.spec.event import Event
    from pyrun.spec.pod import Pod
    from pyrun.state.events import Reason


def of_pod(directory: PodDirectory, reason: Reason, message: str, container: str = "") -> Event | None:
    """Return an event of a Pod, None when the Pod cannot be read."""
    from pyrun.state.events import about_pod, happened

    try:
        record = directory.record()
    except StateError:
        return None
    if record is None:
        return None
    return happened(about_pod(directory.uid, record.pod, container), reason, message)


def record(application: Application, *events: Event | None) -> None:
    """Record events in one write."""
    from pyrun.state.events import EventLog

    known = [event for event in events if event is not None]
    if known:
        EventLog(application.root).append(*known)


def record_created(application: Application, made: Sequence[tuple[PodDirectory, Pod]]) -> None:
    """Record that the containers of Pods were created and started; init containers come later, one by one."""
    from pyrun.state.events import Reason, about_pod, happened

    events = []
    for directory, pod in made:
        for container in () if pod.spec.init_containers else pod.spec.containers:
            about = about_pod(directory.uid, pod, container.name)
            events.append(happened(about, Reason.CREATED, f"Created container {container.name}"))
            events.append(happened(about, Reason.STARTED, f"Started container {container.name} (attempt 0)"))
    record(application, *events)
