"""What the control loops of one supervisor share."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pyrun.controllers.headroom import Headroom
from pyrun.controllers.loop import Loop
from pyrun.controllers.watches import Watches
from pyrun.controllers.workers import Workers
from pyrun.lifecycle.eviction import PERIOD_NS
from pyrun.plan.host import HostFacts
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.event import ObjectReference
from pyrun.state.events import Recorder, happened

SOURCE = "supervisor"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The loop and what hangs on it, the facts of the host and what it has left, and who is told.

    `started_ns` is when this supervisor began (CLOCK_MONOTONIC); `report` takes a sentence for the operator. The
    storage of Pods that have a limit is measured every `storage_period_ns`.
    """

    loop: Loop
    workers: Workers
    watches: Watches
    facts: HostFacts
    headroom: Headroom
    recorder: Recorder
    backoff: BackoffSettings
    started_ns: int
    report: Callable[[str], None]
    storage_period_ns: int = PERIOD_NS

    def record(self, about: ObjectReference, reason: str, message: str) -> None:
        """Record an event; the operator is told when the log does not take it."""
        if not self.recorder.append(happened(about, reason, message, SOURCE)):
            self.report(f"the event log takes nothing ({reason}: {message})")
