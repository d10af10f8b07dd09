"""What every command gets: the instance it works on, and the facts of the host when it needs them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pyrun.spec.layout import DEFAULT_ROOT, DEFAULT_STATE, Layout
from pyrun.spec.network import DEFAULT_SUBNET, NetworkConfig

if TYPE_CHECKING:
    from pyrun.plan.host import HostFacts


class Application:
    """The instance that the global options choose."""

    def __init__(
        self, root: str = DEFAULT_ROOT, state: str = DEFAULT_STATE, subnet: str = DEFAULT_SUBNET
    ) -> None:
        self.layout = Layout.of(root, state)
        self._subnet = subnet

    @property
    def root(self) -> str:
        """The directory of what survives a reboot."""
        return self.layout.root

    @property
    def subnet(self) -> str:
        """The subnet of Pods, as it was given."""
        return self._subnet

    @cached_property
    def network(self) -> NetworkConfig:
        """The Pod network of the instance. Raises InputError for a subnet that cannot be one."""
        return NetworkConfig.of(self.layout.name, self.layout.state, subnet=self._subnet)

    @cached_property
    def host(self) -> HostFacts:
        """The facts of the host. Raises PyrunError unless this process is root."""
        from pyrun.runtime.host import read_host, require_root

        require_root()
        return read_host(self.layout, self.network)

    def require_root(self) -> None:
        """Raise PyrunError unless this process is root."""
        from pyrun.runtime.host import require_root

        require_root()
