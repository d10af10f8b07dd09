"""The instance's own nftables: a table of family ip that masquerades, a table of family bridge that guards.

Only pyrun's tables are touched; the host's own rules stay as they are. A packet accepted here can still be
dropped by another table (Docker sets the policy of FORWARD to drop): `pyrun check` names such a table.
Sources: nft(8), the netfilter wiki.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyrun.errors import Unsupported
from pyrun.network import nftables
from pyrun.network.nftables import NftError
from pyrun.spec.network import NetworkConfig


def creation(config: NetworkConfig, members: Iterable[tuple[str, str]]) -> str:
    """Return the commands that make both tables, with `members` (link, address) already in the sets.

    The guard lets a Pod send only IPv4 and ARP, and only with the address it was given: a Pod, even one
    with CAP_NET_ADMIN, cannot speak in another's name. A link in `links` without its address says nothing.
    """
    table, subnet = config.table, config.subnet
    lines = [
        f"add table ip {table}",
        f"add chain ip {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}",
        f"add rule ip {table} postrouting ip saddr {subnet} ip daddr != {subnet} masquerade",
        f"add table bridge {table}",
        f"add set bridge {table} links {{ type ifname; }}",
        f"add set bridge {table} addresses {{ type ifname . ipv4_addr; }}",
        f"add chain bridge {table} prerouting {{ type filter hook prerouting priority -300; }}",
    ]
    for rule in (
        "ether type ip iifname . ip saddr != @addresses drop",
        "ether type arp iifname . arp saddr ip != @addresses drop",
        "ether type != { ip, arp } drop",
    ):
        lines.append(f"add rule bridge {table} prerouting iifname @links {rule}")
    lines += [membership("add", table, link, address) for link, address in members]
    return "\n".join(lines)


def membership(verb: str, table: str, link: str, address: str) -> str:
    """Return the commands that `add` or `delete` a link and its address to or from the guard's sets."""
    return (
        f'{verb} element bridge {table} links {{ "{link}" }}\n'
        f'{verb} element bridge {table} addresses {{ "{link}" . {address} }}'
    )


def have_tables(config: NetworkConfig) -> bool:
    """Whether both tables exist."""
    # Listing costs 0.3 ms. A `create` that is refused would tell as well, but the kernel then waits for an
    # RCU grace period: 8 to 16 ms.
    tables = nftables.run("list tables").splitlines()
    return f"table ip {config.table}" in tables and f"table bridge {config.table}" in tables


def make_tables(config: NetworkConfig, members: Iterable[tuple[str, str]]) -> None:
    """Make both tables in one transaction; whatever was there of them is replaced."""
    try:
        nftables.run(_removal(config) + creation(config, members))
    except NftError as error:
        if "not supported" in error.text:
            raise Unsupported(
                f"the Pod network needs nftables with NAT and bridge tables: {error}",
                hint="use a kernel with CONFIG_NF_TABLES_IPV4, CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_MASQ "
                "and CONFIG_NFT_NAT (modules nf_tables, nft_masq, nft_chain_nat)",
            ) from error
        raise


def remove_tables(config: NetworkConfig) -> None:
    """Remove both tables; none is fine."""
    commands = _removal(config)
    if commands:
        nftables.run(commands)


def _removal(config: NetworkConfig) -> str:
    tables = nftables.run("list tables").splitlines()
    own = (f"table ip {config.table}", f"table bridge {config.table}")
    return "".join(f"delete {table}\n" for table in own if table in tables)


def add_member(config: NetworkConfig, link: str, address: str) -> None:
    """Let `link` speak as `address`, and as nobody else."""
    nftables.run(membership("add", config.table, link, address))


def remove_member(config: NetworkConfig, link: str) -> None:
    """Forget a link and its addresses, found by the link's name; none, or no table, is fine."""
    try:
        links = nftables.run(f"list set bridge {config.table} links")
        addresses = nftables.run(f"list set bridge {config.table} addresses")
    except NftError as error:
        if error.is_missing:
            return
        raise
    commands = []
    if f'"{link}"' in links:
        commands.append(f'delete element bridge {config.table} links {{ "{link}" }}')
    for address in re.findall(rf'"{re.escape(link)}" \. ([0-9.]+)', addresses):
        commands.append(f'delete element bridge {config.table} addresses {{ "{link}" . {address} }}')
    if commands:
        nftables.run("\n".join(commands))
