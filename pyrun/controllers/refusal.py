"""The status of an applied Pod that could not be made (yet): it is Pending, and its conditions say why.

A Pod that finds no room, or asks for what this host lacks, is one that Kubernetes could not have scheduled; one whose
making failed was scheduled, and has no sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pyrun.controllers.workers import Failure
from pyrun.errors import ControllersMissing, Unschedulable, Unsupported
from pyrun.lifecycle.status import RESOURCES_APPLIED
from pyrun.spec.object import Json
from pyrun.spec.status import Condition, Phase, PodStatus

FAILED_CREATE = "FailedCreate"

_LACKS = (Unschedulable.__name__, Unsupported.__name__, ControllersMissing.__name__)
"""Failures that say that the host has not what the Pod needs."""


def is_lack_of_room(failure: Failure) -> bool:
    """Whether a Pod was refused because what it requests is not free."""
    return failure.kind == Unschedulable.__name__


def refused_status(failure: Failure, before: Json, at: str) -> PodStatus:
    """Return the status of a Pod that was refused or could not be made; `before` is its last one, `at` RFC 3339."""
    known = {one.type: one for one in _conditions_of(before)}
    return PodStatus(
        phase=Phase.PENDING,
        conditions=tuple(_since(one, known.get(one.type), at) for one in _conditions(failure)),
        reason="" if is_lack_of_room(failure) else FAILED_CREATE,
        message=failure.sentence,
        container_statuses=(),
    )


def _conditions(failure: Failure) -> Iterable[Condition]:
    if failure.kind == ControllersMissing.__name__:
        yield _false(RESOURCES_APPLIED, ControllersMissing.__name__, failure)
    if failure.kind in _LACKS:
        yield _false("PodScheduled", "Unschedulable", failure)
    else:
        yield _false("PodReadyToStartContainers", FAILED_CREATE, failure)
        yield Condition(type="PodScheduled", status="True")


def _false(kind: str, reason: str, failure: Failure) -> Condition:
    return Condition(type=kind, status="False", reason=reason, message=failure.sentence)


def _since(condition: Condition, before: Condition | None, at: str) -> Condition:
    """The condition with the time of its last transition."""
    if before is not None and before.status == condition.status and before.last_transition_time:
        at = before.last_transition_time
    return msgspec.structs.replace(condition, last_transition_time=at)


def _conditions_of(status: Json) -> tuple[Condition, ...]:
    try:
        return msgspec.json.decode(status, type=_Conditions).conditions
    except msgspec.DecodeError:
        return ()


class _Conditions(msgspec.Struct):
    conditions: tuple[Condition, ...] = ()
