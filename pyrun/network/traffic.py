"""What has gone through the interfaces of a network namespace. Source: proc_pid_net(5), `dev`."""

from __future__ import annotations

from pyrun.kernel.proc import read_text
from pyrun.spec.value import Value

_RECEIVED, _SENT = 0, 8
"""The columns of bytes behind the name of an interface."""


class Traffic(Value, frozen=True, kw_only=True):
    """Bytes on all interfaces but the loopback, since they were made."""

    received_bytes: int = 0
    sent_bytes: int = 0


def traffic(pid: int) -> Traffic | None:
    """Return the traffic in the network namespace of a process; None when the process has gone."""
    try:
        return parse(read_text(f"/proc/{pid}/net/dev"))
    except OSError:
        return None


def parse(text: str) -> Traffic:
    """Read the text of /proc/PID/net/dev."""
    received = sent = 0
    for line in text.splitlines()[2:]:  # two lines of titles
        name, _, numbers = line.rpartition(":")
        if name.strip() != "lo":
            columns = numbers.split()
            received += int(columns[_RECEIVED])
            sent += int(columns[_SENT])
    return Traffic(received_bytes=received, sent_bytes=sent)
