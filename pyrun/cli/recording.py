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
    """Record that the containers of Pods were created and started; init containers come later, one by one."""
    from pyrun.runtime.beginnings import beginnings

    record(application, *(event for directory, pod in made for event in beginnings(directory, pod)))


def ends_of(directory: PodDirectory) -> list[Event]:
    """Return events of how containers have ended that no supervisor has told of; nothing else outlives the Pod."""
    from pyrun.runtime.history import how_it_ended
    from pyrun.runtime.observe import observe
    from pyrun.runtime.oom import with_reports
    from pyrun.state.events import Reason, about_pod, happened

    try:
        record, told = directory.record(), directory.conditions().told
        containers = with_reports(directory, observe(directory)).containers
    except (StateError, NotFound):
        return []
    if record is None:
        return []
    ends = [(c.name, c.latest) for c in containers if c.latest is not None and c.latest.ended is not None]
    return [
        happened(
            about_pod(directory.uid, record.pod, name),
            Reason.MONITOR_LOST if end.lost else Reason.OOM_KILLING if end.oom_kills else Reason.EXITED,
            f"Container {name} (attempt {attempt.attempt}) {how_it_ended(attempt, end)}",
        )
        for name, attempt in ends
        if (end := attempt.ended) is not None and told.get(name, -1) < attempt.attempt
    ]
