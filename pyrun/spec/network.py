"""The Pod network of one instance: one bridge, one subnet, one nftables table.

Every name in the kernel carries the instance, so that several instances live on one machine. The default
subnet lies outside what podman (10.88), Docker (172.17 to 172.31, 192.168), kind (172.18), minikube
(192.168.49), Kubernetes (10.244, 10.96), k3s (10.42, 10.43) and libvirt (192.168.122) use.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from pyrun.errors import InputError

if TYPE_CHECKING:
    from ipaddress import IPv4Network

DEFAULT_INSTANCE = "pyrun"
DEFAULT_SUBNET = "10.137.0.0/16"
LINK_NAME_LENGTH = 15  # IFNAMSIZ without its final NUL
SMALLEST_SUBNET = 30  # network, gateway, one Pod, broadcast
# The first two octets of the MAC address of everything pyrun makes: unicast, locally administered.
MAC_PREFIX = "72:70"


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the Pods of an instance reach each other, the host and the world.

    `directory` holds the leases and the lock. `link_prefix` begins the name of every veth on the host; no
    instance's prefix begins another's. `mtu` in bytes; None means that of the host's default route.
    """

    instance: str
    directory: str
    bridge: str
    table: str
    link_prefix: str
    subnet: str = DEFAULT_SUBNET
    mtu: int | None = None

    @classmethod
    def of(
        cls, instance: str, state: str, *, subnet: str = DEFAULT_SUBNET, mtu: int | None = None
    ) -> NetworkConfig:
        """Return the network of an instance whose state lives in the directory `state`.

        Raises InputError for a subnet that is no IPv4 network, has host bits set, or is too small or too
        special to hold Pods.
        """
        subnet = parse_subnet(subnet)
        if instance == DEFAULT_INSTANCE:
            bridge, table, prefix = "pyrun0", "pyrun", "pr"
        else:
            mark = _mark_of(instance)
            bridge, table, prefix = f"pyrun-{mark}", f"pyrun_{_identifier(instance)}_{mark}", f"py{mark[:4]}"
        return cls(
            instance=instance,
            directory=f"{state}/network",
            bridge=bridge,
            table=table,
            link_prefix=prefix,
            subnet=subnet,
            mtu=mtu,
        )

    @property
    def network(self) -> IPv4Network:
        """The subnet as a value one can calculate with."""
        # Imported where used: two milliseconds that commands without a network need not spend.
        from ipaddress import IPv4Network

        return IPv4Network(self.subnet)

    @property
    def prefix_length(self) -> int:
        """Length of the subnet's prefix in bits."""
        return int(self.subnet.partition("/")[2])

    @property
    def gateway(self) -> str:
        """The bridge's own address, the first of the subnet."""
        return str(self.network[1])

    @property
    def lease_directory(self) -> str:
        """Directory of the leases: one symbolic link a Pod, named by the address, pointing to the uid."""
        return f"{self.directory}/leases"

    @property
    def lock_file(self) -> str:
        """Lock of the shared parts (bridge, table, route); held for milliseconds."""
        return f"{self.directory}/lock"

    @property
    def route_protocol(self) -> int:
        """The routing protocol number by which the instance knows its own route; rtnetlink(7), above RTPROT_STATIC.

        64 to 183: numbers that /etc/iproute2/rt_protos gives to nobody.
        """
        return 64 + int(_mark_of(self.instance), 16) % 120

    def link_of(self, pod_uid: str) -> str:
        """Return the name of a Pod's veth on the host: the prefix and the beginning of the uid.

        A uid that is not a UUID is represented by its digest. Names are as unique as uids, so that one is
        never reused while the kernel still removes its former owner. A reference of a plan, `<uid>`, stays.
        """
        if pod_uid.startswith("<"):
            return self.link_prefix + pod_uid
        digits = pod_uid.replace("-", "").lower()
        if not re.fullmatch(r"[0-9a-f]{32}", digits):
            import hashlib

            digits = hashlib.sha256(pod_uid.encode()).hexdigest()
        return (self.link_prefix + digits)[:LINK_NAME_LENGTH]


def parse_subnet(text: str) -> str:
    """Return the subnet as address/length; InputError unless Pods can live in it."""
    from ipaddress import IPv4Network

    hint = f"give an IPv4 network such as {DEFAULT_SUBNET} with --subnet or PYRUN_SUBNET"
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise InputError(f"subnet {text!r} is not an IPv4 network: {error}", hint=hint) from None
    if "/" not in text or network.prefixlen > SMALLEST_SUBNET:
        raise InputError(f"subnet {text!r} is too small for a Pod (at most /{SMALLEST_SUBNET})", hint=hint)
    special = network.is_loopback or network.is_multicast or network.is_link_local or network.is_unspecified
    if special or network.prefixlen < 8 or network.is_reserved:
        raise InputError(f"subnet {text!r} is not a network of ordinary addresses", hint=hint)
    return str(network)


def mac_of(address: str) -> str:
    """Return the MAC address derived from an IPv4 address: stable, and unique in the subnet."""
    return MAC_PREFIX + "".join(f":{int(part):02x}" for part in address.split("."))


def _identifier(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())[:20]


def _mark_of(instance: str) -> str:
    from binascii import crc32

    return f"{crc32(instance.encode()):08x}"
