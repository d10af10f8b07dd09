"""Network namespaces for tests: one that plays the host, one that plays the outside world, and Pods.

Nothing here can reach the machine's own network: a new network namespace has no way out but the links that
are made here, and those end in other new namespaces.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

from pyrun.kernel.operation import Results
from pyrun.kernel.syscalls import CLONE_NEWNET, pidfd_open, setns, unshare
from pyrun.network.loopback import LoopbackUp
from pyrun.network.netns import OWN, in_network_namespace

HOST_ADDRESS = "198.51.100.1"
OUTSIDE_ADDRESS = "198.51.100.2"
UPLINK = "uplink0"


@contextlib.contextmanager
def new_network() -> Iterator[int]:
    """Give a descriptor of a new network namespace with loopback up; it lives as long as the block."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        LoopbackUp().apply(Results())
        namespace = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)
    try:
        yield namespace
    finally:
        os.close(namespace)


@contextlib.contextmanager
def host_namespace() -> Iterator[int]:
    """Run the block, and every process it starts, in a new network namespace that plays the host."""
    with new_network() as namespace, in_network_namespace(namespace):
        yield namespace


@contextlib.contextmanager
def outside_world(mtu: int = 1500) -> Iterator[int]:
    """Give a namespace behind the current one's default route; OUTSIDE_ADDRESS knows HOST_ADDRESS only."""
    with new_network() as outside:
        ip(f"link add {UPLINK} mtu {mtu} type veth peer name world0")
        ip(f"link set world0 netns /proc/self/fd/{outside}", outside)
        ip(f"addr add {HOST_ADDRESS}/24 dev {UPLINK}")
        ip(f"link set {UPLINK} up")
        with in_network_namespace(outside):
            ip(f"addr add {OUTSIDE_ADDRESS}/24 dev world0")
            ip(f"link set world0 mtu {mtu} up")
        ip(f"route add default via {OUTSIDE_ADDRESS}")
        try:
            yield outside
        finally:
            ip(f"link delete {UPLINK}")


def ip(arguments: str, *descriptors: int) -> str:
    """Run ip(8) in the current namespace and return what it prints."""
    command = ["ip", *arguments.split()]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=10, pass_fds=descriptors
    ).stdout


def ruleset() -> str:
    """Return the nftables rules of the current namespace, as nft(8) sees them."""
    return subprocess.run(
        ["nft", "list", "ruleset"], check=True, capture_output=True, text=True, timeout=10
    ).stdout


@contextlib.contextmanager
def pod_process() -> Iterator[int]:
    """Give the pidfd of a process that sleeps in a network namespace of its own, as pause does."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWNET)
            LoopbackUp().apply(Results())
            os.write(tell, b"+")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    pidfd = pidfd_open(pid)
    try:
        assert os.read(ready, 1) == b"+", "the Pod's process could not make its network namespace"
        yield pidfd
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)


@contextlib.contextmanager
def udp_socket(
    namespace: int | None = None, address: str = "0.0.0.0", port: int = 0
) -> Iterator[socket.socket]:
    """Give a UDP socket of a namespace (the current one without) with a timeout of one second."""
    with contextlib.ExitStack() as stack:
        with in_network_namespace(namespace) if namespace is not None else contextlib.nullcontext():
            opened = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        opened.settimeout(1.0)
        opened.bind((address, port))
        yield opened


def sender_seen(
    source: int | None, target: int | None, address: str, *, claim: str = "0.0.0.0"
) -> str | None:
    """Send a datagram from one namespace to `address` of another; return the sender seen, None if lost.

    `claim` is the source address that the sender binds.
    """
    with udp_socket(target) as receiver, udp_socket(source, claim) as sender:
        port = receiver.getsockname()[1]
        try:
            sender.sendto(b"hello", (address, port))
            return str(receiver.recvfrom(100)[1][0])
        except OSError:
            return None


@contextlib.contextmanager
def sniffer(namespace: int) -> Iterator[socket.socket]:
    """Give a packet socket that sees every IPv4 packet arriving in a namespace; it does not block."""
    with in_network_namespace(namespace):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    with opened:
        opened.settimeout(0.3)
        yield opened


def packet_to(listener: socket.socket, address: str) -> bool:
    """Whether the sniffer sees a packet to this address before it falls silent."""
    wanted = socket.inet_aton(address)
    try:
        while True:
            if listener.recv(2048)[30:34] == wanted:
                return True
    except TimeoutError:
        return False
