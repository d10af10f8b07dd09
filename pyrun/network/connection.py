"""A Pod's connection: a veth pair between its network namespace and the instance's bridge."""

from __future__ import annotations

import contextlib
import os
import time

from pyrun.errors import NetworkError
from pyrun.network import requests, tables
from pyrun.network.netns import OWN, in_network_namespace
from pyrun.network.operations import POD_LINK
from pyrun.network.rtnetlink import RouteSocket
from pyrun.spec.network import NetworkConfig, mac_of

_PATIENCE = 1.0


def connect(config: NetworkConfig, link: str, address: str, sandbox: int) -> None:
    """Give the network namespace of `sandbox` (a pidfd) an eth0 with `address` and a default route.

    Raises OSError for what the kernel refuses, NetworkError when the bridge is not there.
    """
    # The guard knows the link before the link exists: there is no moment in which it can speak unguarded.
    tables.add_member(config, link, address)
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(RouteSocket())
        bridge = host.link(config.bridge)
        if bridge is None:
            raise NetworkError(
                f"the bridge {config.bridge} does not exist", hint="try again: it is made anew"
            )
        with in_network_namespace(sandbox):
            inside = stack.enter_context(RouteSocket())
            namespace = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, namespace)
        host.batch(
            requests.add_veth(link, bridge.index, bridge.mtu, (POD_LINK, mac_of(address), namespace)),
            requests.without_ipv6_address(link),
            requests.set_up(link),
        )
        own = inside.link(POD_LINK)
        if own is None:
            raise NetworkError(f"{POD_LINK} vanished from the Pod while it was made")
        inside.batch(
            requests.without_ipv6_address(POD_LINK),
            requests.add_address(own.index, address, config.prefix_length),
            requests.set_up(POD_LINK),
            requests.add_default_route(config.gateway),
        )
        for netlink, name in ((host, link), (inside, POD_LINK), (host, config.bridge)):
            _await_operation(netlink, name)


def _await_operation(netlink: RouteSocket, name: str) -> None:
    """Wait until packets pass a link that has been set up, for a second at most.

    The kernel begins to send through a link in a work item of its own, some time after "up" has been
    answered. What is sent before is dropped; were it the first ARP message, the Pod's first packet would
    come a second late. Asking for one link makes newer kernels do that work at once (linkwatch_sync_dev).
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        found = netlink.link(name)
        if found is None or found.operational:
            return
        time.sleep(0.001)


def disconnect(config: NetworkConfig, link: str) -> None:
    """Delete the veth pair by its name on the host, and what the guard knows of it; nothing there is fine."""
    with RouteSocket() as host:
        host.batch(requests.delete_link(link))
    tables.remove_member(config, link)
