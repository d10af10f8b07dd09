"""Events of what commands do. An event that cannot be recorded keeps no command from its work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyrun.errors import NotFound, StateError

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
    """Record that the containers of Pods were created and started; init containers come later, one by one.

    The times are those of their records: a supervisor may have told more of them by now.
    """
    from msgspec.structs import replace

    from pyrun.state.events import Reason, about_pod, happened

    events = []
    for directory, pod in made:
        for container in () if pod.spec.init_containers else pod.spec.containers:
            try:
                found = directory.container((container.name, 0))
            except StateError:
                found = None
            if found is None:  # it has gone since
                continue
            about = about_pod(directory.uid, pod, container.name)
            created = happened(about, Reason.CREATED, f"Created container {container.name}")
            started = happened(about, Reason.STARTED, f"Started container {container.name} (attempt 0)")
            events.append(replace(created, time=found.created_at))
            events.append(replace(started, time=found.started_at or started.time))
    record(application, *events)


def ends_of(directory: PodDirectory) -> list[Event]:
    """Return events of how containers have ended that no supervisor has told of; nothing else outlives the Pod."""
    from pyrun.runtime.history import how_it_ended
    from pyrun.runtime.observe import observe
    from pyrun.state.events import Reason, about_pod, happened

    try:
        record, told = directory.record(), directory.conditions().told
        containers = observe(directory).containers
    except (StateError, NotFound):
        return []
    if record is None:
        return []
    ends = [(c.name, c.latest) for c in containers if c.latest is not None and c.latest.ended is not None]
    return [
        happened(
            about_pod(directory.uid, record.pod, name),
            Reason.MONITOR_LOST if end.lost else Reason.OOM_KILLING if end.oom_kills else Reason.EXITED,
            f"Container {name} (attempt {attempt.attempt}) {how_it_ended(end)}",
        )
        for name, attempt in ends
        if (end := attempt.ended) is not None and told.get(name, -1) < attempt.attempt
    ]
