"""The supervisor: one process for an instance that looks after its Pods and makes what is desired.

It sleeps until a process ends, a timer is due, a record or the store changes. All it knows it has read from the
kernel and the records, so it may be killed at any moment: the next one adopts what it finds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from pyrun.controllers.context import Context
from pyrun.controllers.desired import Desired
from pyrun.controllers.headroom import Headroom
from pyrun.controllers.loop import Loop
from pyrun.controllers.pods import PodUnit
from pyrun.controllers.replicasets import ReplicaSets
from pyrun.controllers.resizes import Resizes
from pyrun.controllers.running import holds_lock, take_lock
from pyrun.controllers.stored_pods import StoredPods
from pyrun.controllers.watches import Watches
from pyrun.controllers.workers import Failure, Workers
from pyrun.errors import PyrunError, StateError
from pyrun.kernel import syscalls
from pyrun.kernel.proc import boot_id
from pyrun.plan.host import HostFacts
from pyrun.runtime.pods import PodDirectory, pod_directories
from pyrun.runtime.remove import recover, remove_pod
from pyrun.runtime.signals import SignalPipe
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.layout import Layout
from pyrun.state.events import EventLog

STORE_CHANGES = Watches.MASK | syscalls.IN_MODIFY


def supervise(
    facts: HostFacts, backoff: BackoffSettings, storage_period_ns: int, report: Callable[[str], None]
) -> None:
    """Look after an instance until SIGTERM or SIGINT. Raises Conflict when another one does already.

    1. Take the lock. 2. Clear what belongs to another boot of the kernel. 3. Undo what was left half made.
    4. Adopt every Pod there is. 5. Make what is desired and missing. Then the loop.
    """
    lock = take_lock(facts.layout)
    try:
        with SignalPipe((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)) as signals:
            _Supervisor(facts, backoff, storage_period_ns, report, lock).run(signals)
    finally:
        os.close(lock)


class _Supervisor:
    def __init__(
        self,
        facts: HostFacts,
        backoff: BackoffSettings,
        storage_period_ns: int,
        report: Callable[[str], None],
        lock: int,
    ) -> None:
        self._layout = facts.layout
        loop = Loop()
        self._context = Context(
            loop=loop,
            workers=Workers(loop, private=(lock,)),
            watches=Watches(loop),
            facts=facts,
            headroom=Headroom(facts.capacity),
            recorder=EventLog(facts.layout.root),
            backoff=backoff,
            started_ns=loop.clock(),
            report=report,
            storage_period_ns=storage_period_ns,
        )
        self._units: dict[str, PodUnit] = {}
        self._desired = Desired(self._context, facts.layout.store, self._control_soon)
        self._stored_pods = StoredPods(self._context, self._desired, self._scan)
        self._resizes = Resizes(self._context, self._desired)
        self._replica_sets = ReplicaSets(self._context, self._desired, self._scan)
        self._stopping = False
        self._lock = lock

    def run(self, signals: SignalPipe) -> None:
        """Clear, adopt, and go on until a signal says that it is enough."""
        loop = self._context.loop
        loop.watch(signals.fileno(), lambda: self._on_signal(signals))
        for directory in (self._layout.pods, self._layout.locks, os.path.dirname(self._layout.store)):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        self._context.watches.add(self._layout.state, self._check_lock)
        self._context.watches.add(self._layout.pods, self._scan_soon)
        self._context.watches.add(os.path.dirname(self._layout.store), self._control_soon, STORE_CHANGES)
        clear_other_boots(self._layout, self._context.report)
        layout = self._layout
        self._context.workers.start("recover", lambda: recover(layout), self._recovered)
        self._scan()
        self._control_soon()
        try:
            while not self._stopping:
                loop.turn()
        finally:
            self._desired.close()

    def _on_signal(self, signals: SignalPipe) -> None:
        self._stopping = any(number != signal.SIGHUP for number in signals.read())

    def _recovered(self, failure: Failure | None) -> None:
        if failure is not None:
            self._context.report(f"what was left half made could not be undone: {failure.sentence}")
        self._scan()

    def _check_lock(self) -> None:
        """End when the lock is nobody's any more: the whole state was removed, and another may begin anew."""
        if not holds_lock(self._layout, self._lock):
            self._context.report("the state directory was removed; nothing is left to look after")
            self._stopping = True

    # Pods

    def _scan_soon(self) -> None:
        self._context.loop.at("scan", self._context.loop.clock(), self._scan)

    def _scan(self) -> None:
        """Take up Pods that have appeared; those that have gone say so themselves."""
        for directory in pod_directories(self._layout):
            if directory.uid not in self._units:
                self._units[directory.uid] = PodUnit(self._context, directory, self._changed)
                self._units[directory.uid].soon()
        self._control_soon()

    def _changed(self, unit: PodUnit) -> None:
        if unit.gone:
            self._units.pop(unit.uid, None)
        self._control_soon()

    # Objects

    def _control_soon(self) -> None:
        self._context.loop.at("control", self._context.loop.clock(), self._control)

    def _control(self) -> None:
        """Compare what is desired with the Pods there are, and with the room for more.

        Pods that wait to be resized come first, then applied Pods.
        """
        units = tuple(self._units.values())
        self._context.headroom.look(lambda: (unit.reservation for unit in units))
        self._resizes.sync(self._units)
        self._stored_pods.sync(self._units)
        self._replica_sets.sync(self._units)


def clear_other_boots(layout: Layout, report: Callable[[str], None]) -> None:
    """Remove the records of Pods that ran under another boot of this machine: nothing of them runs any more."""
    this = boot_id()
    for pod in pod_directories(layout):
        if _booted_elsewhere(pod, this):
            try:
                remove_pod(pod, force=True)
            except PyrunError as error:
                report(f"Pod {pod.uid} was of another boot and cannot be removed: {error.sentence()}")
            else:
                report(f"Pod {pod.uid} was of another boot; what it has left is removed")


def _booted_elsewhere(pod: PodDirectory, this: str) -> bool:
    try:
        sandbox = pod.sandbox()
    except StateError:
        return False
    return sandbox is not None and sandbox.pause.boot_id != this
