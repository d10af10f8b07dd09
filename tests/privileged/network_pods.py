"""What the tests of the network share: a host, and Pods that pyrun's operations connect to it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pyrun.kernel.operation import Operation, Results
from pyrun.network.operations import ConnectPod, EnsureNetwork, LeaseAddress
from pyrun.spec.network import NetworkConfig
from tests.netns import ip, pod_process, ruleset


class ConnectedPod(NamedTuple):
    """A Pod on the network: its address and the pidfd that stands for its namespace."""

    uid: str
    address: str
    pidfd: int
    link: str


def config_at(
    directory: Path, instance: str = "pyrun", *, subnet: str = "10.137.0.0/16", mtu: int | None = None
) -> NetworkConfig:
    """Return the network of an instance whose state lives below a test's directory."""
    return NetworkConfig.of(instance, str(directory / instance), subnet=subnet, mtu=mtu)


def operations(config: NetworkConfig, uid: str) -> tuple[Operation, ...]:
    """Return the network's part of a sandbox's plan."""
    return (LeaseAddress(config, uid), EnsureNetwork(config, uid), ConnectPod(config, uid))


@contextmanager
def connected_pod(config: NetworkConfig) -> Iterator[ConnectedPod]:
    """Give a Pod on the network; its operations are undone in reverse at the end."""
    uid = str(uuid.uuid4())
    plan = operations(config, uid)
    results = Results()
    with pod_process() as pidfd:
        results.put_fd("pause.pidfd", os.dup(pidfd))
        try:
            for operation in plan:
                operation.apply(results)
            yield ConnectedPod(uid, results.text("address"), pidfd, config.link_of(uid))
        finally:
            results.close()
            for operation in reversed(plan):
                operation.undo()


def traces() -> tuple[str, str, str, str, str]:
    """Return everything of the current namespace that a Pod network changes."""
    links = [line.split(": ")[1].split("@")[0] for line in ip("-o link").splitlines()]
    return (
        " ".join(sorted(links)),
        ip("-4 -o addr"),
        ip("route show table all"),
        ruleset(),
        Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    )


def files(config: NetworkConfig) -> list[str]:
    """Return the files of an instance's network; the lock file stays."""
    found = [name for _, _, names in os.walk(config.directory) for name in names]
    return [name for name in found if name != "lock"]
