"""Beginning a check of any kind, and driving one to its end."""

from __future__ import annotations

import select
import time

from pyrun.errors import PyrunError
from pyrun.plan.host import HostFacts
from pyrun.runtime.probing.check import Check, Leftovers, Outcome, ProbeTarget, Verdict, paused
from pyrun.runtime.probing.sockets import Conversation, begin_connection, endpoint_of
from pyrun.spec.probe import ExecAction, GrpcAction, HttpGetAction, ProbeAction, TcpSocketAction

_LONGEST_WAIT = 86_400_000


def begin_check(action: ProbeAction, target: ProbeTarget, facts: HostFacts) -> Check | Outcome:
    """Begin a check of a container without waiting for anything; an outcome when it is over at once.

    A container that is frozen is not judged. What a program leaves running is killed when it ends. Raises
    NamespaceLost (see there), nothing else.
    """
    return _begin(action, target, facts, Leftovers.KILLED)


def begin_hook(action: ExecAction | HttpGetAction, target: ProbeTarget, facts: HostFacts) -> Check | Outcome:
    """Begin a hook as `begin_check` does a check, but what a program leaves running lives on if it ends in time."""
    return _begin(action, target, facts, Leftovers.KEPT)


def _begin(
    action: ProbeAction, target: ProbeTarget, facts: HostFacts, leftovers: Leftovers
) -> Check | Outcome:
    try:
        return paused(target) or _begin_action(action, target, facts, leftovers)
    except PyrunError as error:
        return Outcome(Verdict.UNKNOWN, error.sentence())
    except (OSError, ValueError) as error:
        return Outcome(Verdict.UNKNOWN, f"the check could not be begun: {error}")


def _begin_action(
    action: ProbeAction, target: ProbeTarget, facts: HostFacts, leftovers: Leftovers
) -> Check | Outcome:
    match action:
        case TcpSocketAction():
            return begin_connection(target, endpoint_of(target, action.host, action.port), "", None)
        case HttpGetAction():
            return _begin_http(action, target)
        case GrpcAction():
            return _begin_grpc(action, target)
        case ExecAction():
            from pyrun.runtime.probing.program import begin_program

            return begin_program(action, target, facts, leftovers)


def _begin_http(action: HttpGetAction, target: ProbeTarget) -> Check | Outcome:
    from pyrun.runtime.probing.http import HttpConversation, url_of

    endpoint = endpoint_of(target, action.host, action.port)
    subject = f'Get "{url_of(action, endpoint)}"'
    conversation: Conversation = HttpConversation(action, endpoint, subject)
    if action.scheme == "HTTPS":
        from pyrun.runtime.probing.tls import TlsConversation

        conversation = TlsConversation(conversation, subject)
    return begin_connection(target, endpoint, subject, conversation)


def _begin_grpc(action: GrpcAction, target: ProbeTarget) -> Check | Outcome:
    from pyrun.runtime.probing.grpc import GrpcConversation

    endpoint = endpoint_of(target, "", action.port)
    return begin_connection(target, endpoint, "health rpc", GrpcConversation(action, endpoint))


def run_check(action: ProbeAction, target: ProbeTarget, facts: HostFacts, deadline_ns: int) -> Outcome:
    """Carry out a check and wait for its end, at most until `deadline_ns` of CLOCK_MONOTONIC."""
    return _drive(begin_check(action, target, facts), deadline_ns)


def run_hook(
    action: ExecAction | HttpGetAction, target: ProbeTarget, facts: HostFacts, deadline_ns: int
) -> Outcome:
    """Carry out a hook and wait for its end, at most until `deadline_ns` of CLOCK_MONOTONIC."""
    return _drive(begin_hook(action, target, facts), deadline_ns)


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
