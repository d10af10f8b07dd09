"""IP forwarding: without it the host drops what Pods send to the world (ip-sysctl, net.ipv4.ip_forward).

The switch is one for the whole network namespace, shared by every instance and every other engine. Who
turns it on leaves a mark that lives and dies with the same namespace, an empty nftables table; the last
instance to leave turns it off again if the mark is there. When a bridge of somebody else (Docker, libvirt)
is there by then, forwarding is left on: its owner may have found it on and rely on it.
"""

from __future__ import annotations

import errno

from pyrun.errors import NetworkError
from pyrun.network import nftables
from pyrun.network.rtnetlink import Link, RouteSocket
from pyrun.spec.network import MAC_PREFIX

PATH = "/proc/sys/net/ipv4/ip_forward"
MARK = "pyrun-ip-forward-was-off"


def is_on() -> bool:
    """Whether this network namespace forwards IPv4 packets."""
    with open(PATH, encoding="ascii") as file:
        return file.read().strip() != "0"


def turn_on() -> None:
    """Switch forwarding on, with the mark first; nothing when it is on.

    Called after the instance's bridge exists, so that an instance that leaves at the same moment sees it.
    """
    if is_on():
        return
    nftables.run(f"add table ip {MARK}")
    _write("1")


def restore(netlink: RouteSocket) -> None:
    """Switch forwarding off if an instance had switched it on and nobody is left who may need it.

    Called after the instance's own bridge is gone.
    """
    if not _marked():
        return
    if not _bridges(netlink):
        _write("0")
    # Instances share no lock, so one may join at any moment: its bridge first, then the mark and the switch.
    # Looking for bridges after each of our own steps sees every newcomer whose step ours has overwritten.
    # The mark goes after the switch: who is killed between them leaves the mark, and is finished later.
    if not _joined(netlink):
        nftables.run(f"delete table ip {MARK}")
        if not _joined(netlink):
            return
    nftables.run(f"add table ip {MARK}")
    _write("1")


def _bridges(netlink: RouteSocket) -> list[Link]:
    return [link for link in netlink.links() if link.kind == "bridge"]


def _joined(netlink: RouteSocket) -> bool:
    """Whether another instance is there."""
    return any(bridge.mac.startswith(MAC_PREFIX) for bridge in _bridges(netlink))


def _marked() -> bool:
    return f"table ip {MARK}" in nftables.run("list tables").splitlines()


def _write(value: str) -> None:
    try:
        with open(PATH, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise NetworkError(
            f"cannot write {value} to {PATH}: {error.strerror}",
            hint="Pods reach the outside only with net.ipv4.ip_forward=1; set it where /proc/sys is writable "
            "(a container around pyrun needs it from its engine)",
        ) from error
