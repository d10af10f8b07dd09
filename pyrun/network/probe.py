"""What this host can do for the Pod network: for `pyrun check`. Nothing of the host is changed.

What must be tried is tried by a child in a network namespace of its own, which vanishes with the child; the
rest is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import msgspec

from pyrun.errors import NetworkError, PyrunError
from pyrun.kernel.syscalls import CLONE_NEWNET, capget, unshare
from pyrun.kernel.trial import in_child
from pyrun.spec.capability import number_of
from pyrun.spec.network import NetworkConfig, mac_of

_TIMEOUT = 20.0
_AS_ROOT = "run it as root (CAP_NET_ADMIN and CAP_SYS_ADMIN)"


class Finding(msgspec.Struct, frozen=True):
    """One line of a check: what was looked at, whether it will do, what was seen and what would help."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def probe(config: NetworkConfig) -> tuple[Finding, ...]:
    """Return the findings about links, nftables, forwarding, other firewalls and the subnet."""
    return (
        _tried("network namespace, bridge and veth", _try_links, config),
        _tried("nftables: masquerade and guard", _try_tables, config),
        _forwarding(),
        _other_firewalls(config),
        _subnet(config),
    )


def _tried(name: str, trial: Callable[[NetworkConfig], None], config: NetworkConfig) -> Finding:
    """Run a trial in a child with a network namespace of its own; its failure is the finding."""

    def body() -> Finding:
        try:
            unshare(CLONE_NEWNET)
            trial(config)
        except PyrunError as error:
            return Finding(name, False, str(error), error.hint or "")
        except PermissionError as error:
            return Finding(name, False, error.strerror or str(error), _AS_ROOT)
        except OSError as error:
            remedy = "use a kernel with CONFIG_NET_NS, CONFIG_BRIDGE and CONFIG_VETH (modules bridge, veth)"
            return Finding(name, False, f"{error.strerror or error}", remedy)
        return Finding(name, True, "works")

    answer = in_child(lambda: msgspec.json.encode(body()), _TIMEOUT)
    if answer is None:
        return Finding(name, False, f"the trial gave no answer in {_TIMEOUT:g} s")
    return msgspec.json.decode(answer, type=Finding)


def _try_links(config: NetworkConfig) -> None:
    from pyrun.network import requests
    from pyrun.network.netns import OWN
    from pyrun.network.rtnetlink import RouteSocket

    with RouteSocket() as netlink:
        netlink.batch(
            requests.add_unreachable(config.network, config.route_protocol),
            requests.add_bridge(config.bridge, mac_of(config.gateway)),
        )
        bridge = netlink.link(config.bridge)
        if bridge is None:
            raise NetworkError(f"the bridge {config.bridge} cannot be made")
        unshare(CLONE_NEWNET)  # a second one for the other end
        namespace = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        peer = ("eth0", mac_of(config.gateway), namespace)
        netlink.batch(
            requests.add_veth(config.link_of("probe"), bridge.index, bridge.mtu, peer),
            requests.set_up(config.link_of("probe")),
        )


def _try_tables(config: NetworkConfig) -> None:
    from pyrun.network import tables

    tables.make_tables(config, [(config.link_of("probe"), config.gateway)])


def _forwarding() -> Finding:
    from pyrun.network import forwarding

    name = "IP forwarding"
    if forwarding.is_on():
        return Finding(name, True, "net.ipv4.ip_forward is 1")
    if os.access(forwarding.PATH, os.W_OK):
        return Finding(
            name, True, "net.ipv4.ip_forward is 0: the first Pod sets it to 1, the last sets it back"
        )
    remedy = f"{_AS_ROOT}, or set net.ipv4.ip_forward=1 where /proc/sys is writable"
    return Finding(name, False, f"{forwarding.PATH} is 0 and cannot be written", remedy)


def _other_firewalls(config: NetworkConfig) -> Finding:
    from pyrun.network import nftables

    name = "other firewalls"
    if not capget()[0] & 1 << number_of("NET_ADMIN"):  # libnftables itself would complain on stderr
        return Finding(name, False, "the rules cannot be read", _AS_ROOT)
    try:
        chains = dropping_chains(nftables.run("list chains"))
        strict = [chain for chain in chains if config.bridge not in nftables.run(f"list chain {chain}")]
    except PyrunError as error:
        return Finding(name, False, str(error), error.hint or _AS_ROOT)
    if strict:
        rules = [
            f"nft insert rule {chain} {way} {config.bridge} accept"
            for chain in strict
            for way in ("iifname", "oifname")
        ]
        detail = f"{', '.join(strict)} drops what it is not told to forward: Pods may not reach the outside"
        return Finding(name, False, detail, "let the Pods through: " + "; ".join(rules))
    return Finding(name, True, "no nftables chain drops forwarded packets by policy")


def dropping_chains(listing: str) -> list[str]:
    """Return "family table chain" of each chain of `nft list chains` that drops forwarded IPv4 by policy."""
    found: list[str] = []
    table = chain = ""
    for line in listing.splitlines():
        if match := re.match(r"table (\S+ \S+) \{", line):
            table = match[1]
        elif match := re.match(r"\s+chain (\S+) \{", line):
            chain = match[1]
        elif "hook forward" in line and "policy drop" in line and not table.startswith("ip6 "):
            found.append(f"{table} {chain}")
    return found


def _subnet(config: NetworkConfig) -> Finding:
    from pyrun.network.host import check_subnet_is_free
    from pyrun.network.rtnetlink import RouteSocket

    name = f"Pod subnet {config.subnet}"
    try:
        with RouteSocket() as netlink:
            check_subnet_is_free(config, netlink, netlink.routes(), netlink.links())
    except NetworkError as error:
        return Finding(name, False, str(error), error.hint or "")
    return Finding(name, True, "free")
