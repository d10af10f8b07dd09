"""Address leases: one symbolic link a Pod, named by the address, pointing to the Pod's uid.

symlink(2) creates the name and its content at once and refuses a name that exists, so a lease is exclusive
without a lock, is never half-written, and always says whose it is. The leases are also the count of the
Pods that need the bridge: the last to leave takes it down.
"""

from __future__ import annotations

import contextlib
import os

from pyrun.errors import NetworkError
from pyrun.spec.network import NetworkConfig


def take_lease(config: NetworkConfig, pod_uid: str) -> str:
    """Lease an address to `pod_uid` and return it; NetworkError when the subnet is exhausted.

    The search starts at a place that depends on the uid: parallel creations seldom meet, and the address
    of a Pod that has just gone is not the next one given out.
    """
    from binascii import crc32

    os.makedirs(config.lease_directory, mode=0o755, exist_ok=True)
    network = config.network
    count = network.num_addresses - 3  # without network, gateway and broadcast
    start = crc32(pod_uid.encode())
    for step in range(count):
        address = str(network[2 + (start + step) % count])
        with contextlib.suppress(FileExistsError):
            os.symlink(pod_uid, f"{config.lease_directory}/{address}")
            return address
    raise NetworkError(
        f"subnet {config.subnet} is exhausted: its {count} addresses are leased in {config.lease_directory}",
        hint="remove Pods that are not needed, or choose a larger subnet with --subnet or PYRUN_SUBNET",
    )


def leases(config: NetworkConfig) -> list[tuple[str, str]]:
    """Return (address, Pod uid) of every lease."""
    found: list[tuple[str, str]] = []
    try:
        names = sorted(os.listdir(config.lease_directory))
    except FileNotFoundError:
        return found
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # another Pod may be leaving
            found.append((name, os.readlink(f"{config.lease_directory}/{name}")))
    return found


def leases_of(config: NetworkConfig, pod_uid: str) -> list[str]:
    """Return the addresses leased to a Pod."""
    return [address for address, owner in leases(config) if owner == pod_uid]


def remove_leases(config: NetworkConfig, pod_uid: str) -> None:
    """Give back every address of a Pod; none is fine."""
    for address in leases_of(config, pod_uid):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{config.lease_directory}/{address}")
