"""Checks by TCP: a socket that is made inside the Pod's network namespace, and a conversation over it.

The target is an address of the Pod itself and the socket belongs to the Pod's namespace, so nothing of a check
leaves that namespace, no tool in the image is needed, and no rule of the host's firewall is in the way.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import Protocol

from pyrun.kernel import syscalls
from pyrun.network.netns import OWN
from pyrun.runtime.probing.check import OUTPUT_LIMIT, Check, Outcome, ProbeTarget, Verdict, paused

HOST_NETWORK_ADDRESS = "127.0.0.1"
"""Where a Pod on the host's network is asked."""

_CHUNK = 65536
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)


class NamespaceLost(SystemError):
    """This process could not return from a Pod's network namespace and must end: all it did now would be there.

    No PyrunError and no OSError, so that nothing that handles a failed check handles it.
    """


class Conversation(Protocol):
    """What is said over a connection, without the connection: bytes to send, bytes received, an outcome.

    Failures of the other side are outcomes; anything that is raised counts as one too.
    """

    def outgoing(self) -> bytes:
        """Take what shall be sent now."""

    def incoming(self, data: bytes) -> Outcome | None:
        """Hear what was received; empty at its end, after which there must be an outcome."""


class Endpoint:
    """An IPv4 address and a port."""

    def __init__(self, address: str, port: int) -> None:
        self.pair = (address, port)

    def __str__(self) -> str:
        return f"{self.pair[0]}:{self.pair[1]}"


def endpoint_of(target: ProbeTarget, host: str, port: int | str) -> Endpoint:
    """Return where an action of a probe leads: the Pod's own address unless `host` names another.

    A `host` is an IPv4 address or `localhost`, and is reached from the Pod's namespace: names are not looked
    up, which could take long. Raises InputError for an unknown port, ValueError for such a host.
    """
    address = target.address or HOST_NETWORK_ADDRESS
    if host:
        address = "127.0.0.1" if host == "localhost" else host
        try:
            socket.inet_pton(socket.AF_INET, address)
        except OSError:
            raise ValueError(
                f'host "{host}" is not an IPv4 address; leave it out, and set a Host header if the server wants one'
            ) from None
    return Endpoint(address, target.port(port))


def open_socket(target: ProbeTarget) -> socket.socket:
    """Return a non-blocking TCP socket of the target's network namespace.

    Raises ProcessLookupError when the sandbox is gone, OSError when no socket can be made, NamespaceLost when
    this process cannot return. Only for a process of one thread.
    """
    if not target.address:
        return _nonblocking()
    pidfd = target.pause.open()
    if pidfd is None:
        raise ProcessLookupError(errno.ESRCH, "the Pod's sandbox is gone")
    try:
        return _visit(pidfd)
    finally:
        os.close(pidfd)


def _visit(pidfd: int) -> socket.socket:
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(pidfd, syscalls.CLONE_NEWNET)
        try:
            return _nonblocking()
        finally:
            _return_to(home)
    finally:
        os.close(home)


def _return_to(home: int) -> None:
    try:
        syscalls.setns(home, syscalls.CLONE_NEWNET)
    except BaseException as error:
        raise NamespaceLost(f"cannot return from a Pod's network namespace: {error}") from error


def _nonblocking() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def begin_connection(
    target: ProbeTarget, endpoint: Endpoint, subject: str, conversation: Conversation | None
) -> Check | Outcome:
    """Begin a check by TCP; without a conversation, that the connection is accepted is success.

    `subject` begins every message of a failure.
    """
    try:
        opened = open_socket(target)
    except ProcessLookupError:
        return Outcome(Verdict.UNKNOWN, "the Pod's sandbox is gone")
    except OSError as error:
        return Outcome(Verdict.UNKNOWN, f"no socket in the Pod's network namespace: {error.strerror}")
    check = SocketCheck(opened, target, endpoint, subject, conversation)
    outcome = check.advance()
    if outcome is not None:
        check.close()
        return outcome
    return check


class SocketCheck:
    """A check by TCP: connects, then holds its conversation. The socket is its own."""

    def __init__(
        self,
        opened: socket.socket,
        target: ProbeTarget,
        endpoint: Endpoint,
        subject: str,
        conversation: Conversation | None,
    ) -> None:
        self._socket = opened
        self._target = target
        self._endpoint = endpoint
        self._subject = subject
        self._conversation = conversation
        self._connected = False
        self._pending = b""
        self._began = time.monotonic_ns()

    def fileno(self) -> int:
        return self._socket.fileno()

    def events(self) -> int:
        if not self._connected:
            return select.POLLOUT
        return select.POLLIN | (select.POLLOUT if self._pending else 0)

    def advance(self) -> Outcome | None:
        try:
            if not self._connected:
                return self._connect()
            return self._receive()
        except OSError as error:
            return self._failure(f"read tcp {self._endpoint}: {_text(error)}")

    def expire(self) -> Outcome:
        seconds = (time.monotonic_ns() - self._began) / 1e9
        what = "no answer" if self._connected else f"dial tcp {self._endpoint}: i/o timeout"
        return paused(self._target) or self._failure(f"{what} after {seconds:.1f} s")

    def close(self) -> None:
        self._socket.close()

    def _connect(self) -> Outcome | None:
        number = self._socket.connect_ex(self._endpoint.pair)
        if number in _UNDER_WAY:
            return None
        if number not in (0, errno.EISCONN):
            return self._refused(number)
        # Within one namespace a connection can meet itself (RFC 793, simultaneous open) when nobody listens.
        if self._socket.getsockname() == self._endpoint.pair:
            return self._refused(errno.ECONNREFUSED)
        self._connected = True
        if self._conversation is None:
            return Outcome(Verdict.SUCCESS, "")
        self._send(self._conversation)
        return None

    def _receive(self) -> Outcome | None:
        assert self._conversation is not None
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            data = None
        outcome = None if data is None else self._hear(self._conversation, data)
        if outcome is None:
            self._send(self._conversation)
        return outcome

    def _hear(self, conversation: Conversation, data: bytes) -> Outcome | None:
        try:
            outcome = conversation.incoming(data)
        except Exception as error:  # a parser that garbage has surprised; no target may stop who drives
            outcome = self._failure(f"malformed answer: {type(error).__name__}: {error}")
        return None if outcome is None else Outcome(outcome.verdict, outcome.message[:OUTPUT_LIMIT])

    def _send(self, conversation: Conversation) -> None:
        self._pending += conversation.outgoing()
        if not self._pending:
            return
        try:
            self._pending = self._pending[self._socket.send(self._pending) :]
        except BlockingIOError:
            return
        except OSError:  # it reads no more; what it has answered is still to be read
            self._pending = b""

    def _refused(self, number: int) -> Outcome:
        return self._failure(f"dial tcp {self._endpoint}: connect: {os.strerror(number).lower()}")

    def _failure(self, reason: str) -> Outcome:
        return Outcome(Verdict.FAILURE, f"{self._subject}: {reason}" if self._subject else reason)


def _text(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
