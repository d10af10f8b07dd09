"""The terminal of a container: made in its own devpts, so that ttyname(3) works inside.

Source: pts(4), ioctl_tty(2).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios

from pyrun.kernel import syscalls
from pyrun.kernel.operation import Results, Step

_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_TIOCGPTPEER = 0x5441
MASTER_MESSAGE = b"terminal"


class OpenTerminal(Step, frozen=True, tag=True):
    """Open a pseudoterminal, make it the controlling terminal and stdio, and hand its master out.

    The master goes over the descriptor `terminal` of the results to the process that will hold it; with
    `console` the slave is bound on /dev/console, as programs that write there expect. `window` is its size,
    rows and columns; None leaves it at 0, which programs take for unknown.
    """

    console: bool = True
    window: tuple[int, int] | None = None

    def describe(self) -> str:
        return "open /dev/ptmx, TIOCSCTTY, dup2 to 0, 1, 2" + (", bind /dev/console" if self.console else "")

    def apply(self, results: Results) -> None:
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        fcntl.ioctl(master, _TIOCSPTLCK, b"\0\0\0\0")
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        if self.window is not None:
            set_window_size(slave, self.window)
        channel = socket.socket(fileno=os.dup(results.fd("terminal")))
        socket.send_fds(channel, [MASTER_MESSAGE], [master])
        channel.close()
        if self.console:
            number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, b"\0\0\0\0"))[0]
            os.close(os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC, 0o600))
            syscalls.mount(f"/dev/pts/{number}", "/dev/console", "", syscalls.MS_BIND)
        os.close(master)
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.close(slave)


def set_window_size(fd: int, size: tuple[int, int]) -> None:
    """Give a terminal rows and columns; TIOCSWINSZ of ioctl_tty(2)."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def receive_master(channel: socket.socket) -> int | None:
    """Return the master of the terminal a child has opened, or None when it ended before."""
    data, fds, _, _ = socket.recv_fds(channel, 64, 1)
    if data != MASTER_MESSAGE or not fds:
        return None
    os.set_inheritable(fds[0], False)
    return fds[0]
