"""The operations that give a Pod its network, in the order of a plan: lease, network, connection.

The values are cheap to import and to plan with; netlink and nftables are loaded when one is applied.
"""

from __future__ import annotations

from pyrun.kernel.operation import Operation, Results
from pyrun.network.leases import leases_of, take_lease
from pyrun.spec.network import NetworkConfig

ADDRESS = "address"
POD_LINK = "eth0"


class LeaseAddress(Operation, frozen=True, tag=True):
    """Take a free address of the subnet for a Pod; the result is `address` ("10.137.0.5").

    Raises NetworkError when the subnet is exhausted.
    """

    config: NetworkConfig
    pod_uid: str

    def describe(self) -> str:
        leases = self.config.lease_directory
        return f'symlink("{self.pod_uid}", "{leases}/<address from {self.config.subnet}>")'

    def apply(self, results: Results) -> None:
        results.put(ADDRESS, take_lease(self.config, self.pod_uid))

    def undo(self) -> None:
        # A Pod without a lease is not counted: whoever removed its lease has looked after the network too.
        if leases_of(self.config, self.pod_uid):
            from pyrun.network.host import release

            release(self.config, self.pod_uid)


class EnsureNetwork(Operation, frozen=True, tag=True):
    """Make what the Pods of an instance share, unless it is there: route, bridge, forwarding, nftables.

    Comes after `LeaseAddress`, whose lease counts the Pod; undone, it takes all down when the Pod is the
    last. Raises NetworkError when the subnet clashes with a route or an address of the host.
    """

    config: NetworkConfig
    pod_uid: str

    def describe(self) -> str:
        config = self.config
        return (
            f"ip route add unreachable {config.subnet} metric 4294967295; "
            f"ip link add {config.bridge} type bridge; "
            f"ip addr add {config.gateway}/{config.prefix_length} dev {config.bridge}; "
            f"ip link set {config.bridge} up; sysctl net.ipv4.ip_forward=1; "
            f"nft add rule ip {config.table} postrouting ip saddr {config.subnet} "
            f"ip daddr != {config.subnet} masquerade (each unless there)"
        )

    def apply(self, results: Results) -> None:
        from pyrun.network.host import ensure

        ensure(self.config)

    def undo(self) -> None:
        from pyrun.network.host import release

        release(self.config, self.pod_uid)


class ConnectPod(Operation, frozen=True, tag=True):
    """Join a Pod's network namespace to the bridge by a veth pair; its end in the Pod is eth0.

    Needs the results `address` and, under `sandbox`, the pidfd of a process in the Pod's namespaces. The
    name on the host is `config.link_of(pod_uid)`. Source: veth(4), network_namespaces(7).
    """

    config: NetworkConfig
    pod_uid: str
    sandbox: str = "pause.pidfd"

    @property
    def link(self) -> str:
        """Name of the veth on the host."""
        return self.config.link_of(self.pod_uid)

    def describe(self) -> str:
        config, link, inside = self.config, self.link, f"<{self.sandbox}>"
        return (
            f"nft add element bridge {config.table} addresses {{ {link} . <{ADDRESS}> }}; "
            f"ip link add {link} type veth peer name {POD_LINK} netns {inside}; "
            f"ip link set {link} master {config.bridge} up; "
            f"ip -n {inside} addr add <{ADDRESS}>/{config.prefix_length} dev {POD_LINK}; "
            f"ip -n {inside} link set {POD_LINK} up; ip -n {inside} route add default via {config.gateway}"
        )

    def apply(self, results: Results) -> None:
        from pyrun.network.connection import connect

        connect(self.config, self.link, results.text(ADDRESS), results.fd(self.sandbox))

    def undo(self) -> None:
        from pyrun.network.connection import disconnect

        disconnect(self.config, self.link)
