"""The loopback interface of a new network namespace, which the kernel makes but leaves down."""

from __future__ import annotations

import fcntl
import socket
import struct

from pyrun.kernel.operation import Results, Step

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_IFREQ = struct.Struct("16sh22x")


class LoopbackUp(Step, frozen=True, tag=True):
    """Bring `lo` up from inside the namespace; netdevice(7). The kernel gives it 127.0.0.1 and ::1.

    Two ioctls, so that the process that runs it needs no netlink.
    """

    def describe(self) -> str:
        return "ip link set lo up: ioctl(SIOCSIFFLAGS, lo, IFF_UP)"

    def apply(self, results: Results) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
            answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
            (_, flags) = _IFREQ.unpack(answer)
            fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
