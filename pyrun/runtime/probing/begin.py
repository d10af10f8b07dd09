"""Beginning a check of any kind, and driving one to its end."""

from __future__ import annotations

import select
import time

from pyrun.cgroups import group
from pyrun.errors import PyrunError
from pyrun.plan.host import HostFacts
from pyrun.runtime.probing.check import Check, Outcome, ProbeTarget, Verdict
from pyrun.runtime.probing.sockets import begin_connection, endpoint_of
from pyrun.spec.probe import HttpGetAction, ProbeAction, TcpSocketAction

_LONGEST_WAIT = 86_400_000


def begin_check(action: ProbeAction, target: ProbeTarget, facts: HostFacts) -> Check | Outcome:
    """Begin a check of a container without waiting for anything; an outcome when it is over at once.

    A container that is frozen is not judged. Raises NamespaceLost (see there), nothing else.
    """
    if group.is_frozen(target.leaf):
        return Outcome(Verdict.UNKNOWN, f'container "{target.container}" is paused')
    try:
        return _begin(action, target, facts)
    except PyrunError as error:
        return Outcome(Verdict.UNKNOWN, error.sentence())
    except ValueError as error:
        return Outcome(Verdict.UNKNOWN, str(error))


def _begin(action: ProbeAction, target: ProbeTarget, facts: HostFacts) -> Check | Outcome:
    if isinstance(action, TcpSocketAction):
        return begin_connection(target, endpoint_of(target, action.host, action.port), "", None)
    if isinstance(action, HttpGetAction):
        return _begin_http(action, target)
    raise AssertionError(action)


def _begin_http(action: HttpGetAction, target: ProbeTarget) -> Check | Outcome:
    from pyrun.runtime.probing.http import HttpConversation, url_of

    endpoint = endpoint_of(target, action.host, action.port)
    conversation = HttpConversation(action, endpoint)
    return begin_connection(target, endpoint, f'Get "{url_of(action, endpoint)}"', conversation)


def run_check(action: ProbeAction, target: ProbeTarget, facts: HostFacts, deadline_ns: int) -> Outcome:
    """Carry out a check and wait for its end, at most until `deadline_ns` of CLOCK_MONOTONIC."""
    return _drive(begin_check(action, target, facts), deadline_ns)


def _drive(begun: Check | Outcome, deadline_ns: int) -> Outcome:
    if isinstance(begun, Outcome):
        return begun
    try:
        while (left := deadline_ns - time.monotonic_ns()) > 0:
            poller = select.poll()
            poller.register(begun.fileno(), begun.events())
            if poller.poll(min(left / 1e6 + 1, _LONGEST_WAIT)):
                outcome = begun.advance()
                if outcome is not None:
                    return outcome
        return begun.expire()
    finally:
        begun.close()
