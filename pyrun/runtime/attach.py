"""attach: the caller's stdio connected to a container's, through its monitor.

Protocol: pyrun.process.control. While attached, what the container writes is not lost: a caller that does not
read holds the container up, as with the other engines.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

from pyrun.errors import Conflict, PyrunError
from pyrun.process import control
from pyrun.process.container import CONTROL, connect
from pyrun.process.control import Done, Exited, Output, Refused, Stream
from pyrun.runtime.exec import write_all
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.signals import FORWARDED, read_signals, signal_pipe
from pyrun.runtime.stop import signal_container
from pyrun.runtime.terminal import DetachScanner, raw_mode, window_size

_STREAMS = Stream.STDOUT | Stream.STDERR


class Detached(Exception):
    """The user has pressed the detach keys."""


class Attachment:
    """A connection to the monitor of one container."""

    def __init__(self, pod: PodDirectory, container: str, *, stdin: bool) -> None:
        """Connect and ask for the output from now on. Conflict when the container has ended."""
        key = pod.latest(container)
        self._pod = pod
        self._container = container
        record = pod.container(key) if key is not None else None
        config = record.config.process if record is not None else None
        self._terminal = config is not None and config.terminal
        self._stdin = stdin and config is not None and (config.stdin or config.terminal)
        self._scanner = DetachScanner()
        try:
            assert key is not None
            self._socket = connect(pod.container_directory(key), CONTROL)
        except (OSError, AssertionError):
            raise Conflict(f'container "{container}" has ended', hint="see pyrun logs") from None
        self._socket.send(control.attach(_STREAMS))

    def close(self) -> None:
        """Leave; the container goes on."""
        self._socket.close()

    def run(self) -> int:
        """Relay until the container ends; returns its exit code. Raises Detached."""
        own_terminal = 0 if self._terminal and self._stdin else -1
        with signal_pipe((*FORWARDED, signal.SIGWINCH)) as signals, raw_mode(own_terminal):
            self._resize()
            while True:
                code = self._step(signals)
                if code is not None:
                    return code

    def _step(self, signals: int) -> int | None:
        poller = select.poll()
        poller.register(signals, select.POLLIN)
        poller.register(self._socket, select.POLLIN)
        if self._stdin:
            poller.register(0, select.POLLIN)
        ready = {fd for fd, _ in poller.poll()}
        for number in read_signals(signals):
            self._on_signal(number)
        if self._stdin and 0 in ready:
            self._send_input()
        if self._socket.fileno() in ready:
            return self._receive()
        return None

    def _receive(self) -> int | None:
        data = self._socket.recv(control.DATAGRAM_MAX)
        if not data:
            raise PyrunError(
                f'the monitor of container "{self._container}" was killed', hint="see pyrun pod inspect"
            )
        message = control.decode(data)
        if isinstance(message, Output):
            write_all(2 if message.stream is Stream.STDERR else 1, message.data)
        elif isinstance(message, Exited):
            return message.code
        elif isinstance(message, Refused) and message.request == control.Request.STDIN:
            self._stdin = False
        elif isinstance(message, Done):
            return None
        return None

    def _send_input(self) -> None:
        data = os.read(0, control.STDIN_MAX)
        if self._terminal:
            data, detach = self._scanner.feed(data or b"\x04")
            if data:
                self._send(control.stdin(data))
            if detach:
                raise Detached
        elif data:
            self._send(control.stdin(data))
        else:
            self._send(control.close_stdin())
            self._stdin = False

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended: Exited is on its way
            self._socket.send(message)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._resize()
        else:
            signal_container(self._pod, self._container, number)

    def _resize(self) -> None:
        size = window_size(0) or window_size(1)
        if self._terminal and size is not None:
            self._send(control.resize(*size))
