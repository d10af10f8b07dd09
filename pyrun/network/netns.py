"""Entering another network namespace for the moment in which a socket is opened there.

A socket belongs for its whole life to the namespace in which it was made (network_namespaces(7)), so one
visit is enough to talk to a Pod's network from outside.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from pyrun.kernel.syscalls import CLONE_NEWNET, setns

OWN = "/proc/thread-self/ns/net"


@contextlib.contextmanager
def in_network_namespace(fd: int) -> Iterator[None]:
    """Run the body in the network namespace of `fd`, a pidfd or a descriptor of a namespace; setns(2).

    Only for a process of one thread: the others would stay behind. OSError when the namespace is gone.
    """
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)
