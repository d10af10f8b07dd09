"""attach: the caller's stdio connected to a container's, through its monitor.

Protocol: pyrun.process.control. While attached, what the container writes is not lost: a caller that does not
read holds the container up, as with the other engines.
"""

from __future__ import annotations

import contextlib
import errno
import select
import signal
from collections import deque

from pyrun.errors import Busy, Conflict, PyrunError
from pyrun.process import control
from pyrun.process.channel import DEADLINE
from pyrun.process.container import CONTROL, connect
from pyrun.process.control import Done, Exited, Output, Refused, Request, Stream
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.relay import Outlet, read_input, wait_for
from pyrun.runtime.signals import FORWARDED, SignalPipe
from pyrun.runtime.stop import signal_container
from pyrun.runtime.terminal import END_OF_INPUT, DetachScanner, raw_mode, window_size

_STREAMS = Stream.STDOUT | Stream.STDERR


class Detached(Exception):
    """The user has pressed the detach keys."""


class Attachment:
    """A connection to the monitor of one container.

    From its beginning to `close` the forwarded signals are for the container, whatever this process does.
    """

    def __init__(self, pod: PodDirectory, container: str, *, stdin: bool, closes_stdin: bool = False) -> None:
        """Connect and ask for the output from now on; a terminal has its size before that.

        With `closes_stdin` the end of the caller's input is the container's; else the container may be attached
        to once more. Raises Conflict when the container has ended, Busy when it has too many clients.
        """
        key = pod.latest(container)
        record = pod.container(key) if key is not None else None
        if key is None or record is None:
            raise Conflict(f'container "{container}" has not been created', hint="see pyrun pod ls")
        process = record.config.process
        self._pod = pod
        self._container = container
        self._terminal = process.terminal
        self._stdin = stdin and (process.stdin or process.terminal)
        self._closes_stdin = closes_stdin
        self._scanner = DetachScanner()
        self._outlet = Outlet()
        self._outgoing: deque[bytes] = deque()
        self._code: int | None = None
        try:
            self._socket = connect(pod.container_directory(key), CONTROL)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                raise
            raise self._ended() from None
        self._signals = SignalPipe((*FORWARDED, signal.SIGWINCH))
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave; the container goes on."""
        self._signals.close()
        self._socket.close()

    def _begin(self) -> None:
        """Attach, after a terminal has got its size: its program must not find another one at its start."""
        self._socket.settimeout(DEADLINE)
        size = self._window()
        if size is not None:
            self._ask(control.resize(*size))
        self._ask(control.attach(_STREAMS))
        self._socket.setblocking(False)

    def _ask(self, request: bytes) -> None:
        """Send a request and wait for its answer; before that the monitor sends nothing else but the end."""
        with contextlib.suppress(BrokenPipeError):  # it may have said why before it hung up
            self._socket.send(request)
        try:
            data = self._socket.recv(control.DATAGRAM_MAX)
        except ConnectionResetError:
            raise self._ended() from None
        answer = control.decode(data) if data else None
        if isinstance(answer, Refused) and answer.errno == errno.EUSERS:
            raise Busy(
                f'container "{self._container}" has as many clients as its monitor serves',
                hint="end one of the attach, run or stop commands on it",
            )
        if answer is None or isinstance(answer, Exited):
            raise self._ended()

    def _ended(self) -> Conflict:
        return Conflict(f'container "{self._container}" has ended', hint="see pyrun logs")

    def run(self) -> int:
        """Relay until the container ends and its output is written; returns its exit code.

        Raises Detached, and BrokenPipeError when nobody reads the output any more.
        """
        with raw_mode(0 if self._terminal and self._stdin else -1):
            while self._code is None or not self._outlet.empty:
                self._step()
        return self._code

    def _step(self) -> None:
        ready = wait_for(self._events())
        for number in self._signals.read():
            self._on_signal(number)
        self._outlet.write(ready)
        if 0 in ready and self._stdin:
            self._take_input()
        state = ready.get(self._socket.fileno(), 0)
        if self._outgoing and state:
            self._send()
        if state & ~select.POLLOUT and self._outlet.empty and self._code is None:
            self._receive()

    def _events(self) -> dict[int, int]:
        """What is waited for: no output while older output is kept, no input while older input is."""
        events = {self._signals.fileno(): select.POLLIN} | self._outlet.events()
        if self._stdin and not self._outgoing:
            events[0] = select.POLLIN
        if self._code is None:
            events[self._socket.fileno()] = (select.POLLIN if self._outlet.empty else 0) | (
                select.POLLOUT if self._outgoing else 0
            )
        return events

    def _receive(self) -> None:
        try:
            data = self._socket.recv(control.DATAGRAM_MAX)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            raise PyrunError(
                f'the monitor of container "{self._container}" was killed', hint="see pyrun pod inspect"
            )
        message = control.decode(data)
        if isinstance(message, Output):
            self._outlet.put(2 if message.stream is Stream.STDERR else 1, message.data)
        elif isinstance(message, Exited):
            self._code = message.code
            self._stdin = False
        elif isinstance(message, Refused) and message.request == Request.STDIN:
            self._stdin = False
        else:
            assert isinstance(message, Done | Refused)

    def _take_input(self) -> None:
        data = read_input()
        if data is None:
            return
        if not data:
            self._stdin = False
            if self._closes_stdin:
                self._outgoing.append(
                    control.stdin(END_OF_INPUT) if self._terminal else control.close_stdin()
                )
            return
        detach = False
        if self._terminal:
            data, detach = self._scanner.feed(data)
        if data:
            self._outgoing.append(control.stdin(data))
            self._send()
        if detach:
            raise Detached

    def _send(self) -> None:
        """Send what there is room for: a container that reads nothing must not keep this process from its output."""
        try:
            while self._outgoing:
                self._socket.send(self._outgoing[0])
                self._outgoing.popleft()
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):  # it has ended: Exited is on its way
            self._outgoing.clear()
            self._stdin = False

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            size = self._window()
            if size is not None:
                self._outgoing.append(control.resize(*size))
        elif not signal_container(self._pod, self._container, number):
            self._outlet.close()  # it has ended; this waits only for a reader who does not read

    def _window(self) -> tuple[int, int] | None:
        return (window_size(0) or window_size(1)) if self._terminal else None
