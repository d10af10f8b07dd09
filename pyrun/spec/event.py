"""Events: what was decided about an object, and why.

Source: Kubernetes API reference, core/v1 Event (the fields that matter on one host).
"""

from __future__ import annotations

import enum

from pyrun.spec.value import Value


class EventType(enum.Enum):
    """Whether it is as it should be."""

    NORMAL = "Normal"
    WARNING = "Warning"


class ObjectReference(Value, frozen=True, kw_only=True):
    """What an event is about; `container` is empty for the whole object."""

    kind: str
    namespace: str
    name: str
    uid: str
    container: str = ""


class Event(Value, frozen=True, kw_only=True):
    """One thing that happened. `time` is RFC 3339 in UTC with nanoseconds, `source` who says so.

    `reason` is one word in CamelCase, `message` one sentence for a person.
    """

    time: str
    type: EventType = EventType.NORMAL
    reason: str
    message: str
    about: ObjectReference
    source: str = "pyrun"
