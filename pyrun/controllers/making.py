"""Making Pods for a controller: in a worker, known by uid and name before it begins, and tried again after a while."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import msgspec

from pyrun.controllers.context import SOURCE, Context
from pyrun.controllers.workers import Failure
from pyrun.runtime.beginnings import beginnings
from pyrun.runtime.create import create_pod, named
from pyrun.runtime.pods import PodDirectory
from pyrun.spec.pod import Pod
from pyrun.state.events import EventLog, Reason, about_pod

Made = Callable[["Birth", Failure | None], None]


class Birth(msgspec.Struct, frozen=True):
    """A Pod that is being made: its uid and the Pod, which has its name by now."""

    uid: str
    pod: Pod


def make(context: Context, pod: Pod, made: Made, uid: str = "") -> Birth:
    """Begin to make a Pod; `made` is called in the loop when that has succeeded or failed (then nothing is left)."""
    birth = Birth(uid or str(uuid.uuid4()), named(pod))
    facts = context.facts
    context.headroom.begin(birth.uid, birth.pod)

    def finished(failure: Failure | None) -> None:
        context.headroom.end(birth.uid)
        if failure is None:
            text = f"Created Pod {birth.pod.metadata.name}"
            context.record(about_pod(birth.uid, birth.pod), Reason.CREATED, text)
        made(birth, failure)

    def job() -> None:
        create_pod(birth.pod, facts, uid=birth.uid)
        events = beginnings(PodDirectory(facts.layout, birth.uid), birth.pod, SOURCE)
        if events:
            EventLog(facts.layout.root).append(*events)

    context.workers.start(("make", birth.uid), job, finished)
    return birth


def exists(context: Context, uid: str) -> bool:
    """Whether there are records of a Pod, even of one that is half made."""
    return PodDirectory(context.facts.layout, uid).record() is not None
