"""What an image says about itself, as far as a container needs it.

Source: OCI image specification, config.md.
"""

from __future__ import annotations

import msgspec


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The `config` object of an OCI image configuration; absent fields are empty."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    labels: dict[str, str] = {}
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


class Image(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored image: its identity, its configuration and its unpacked layers, lowest first.

    `layers` are directory names below `layers_dir`, each an overlay lower directory as it is.
    """

    id: str
    names: tuple[str, ...] = ()
    config: ImageConfig = ImageConfig()
    layers_dir: str = ""
    layers: tuple[str, ...] = ()
    size: int = 0
    created: str = ""

    @property
    def from_registry(self) -> bool:
        """Whether it was pulled: only then has it a name with a digest."""
        return any("@" in name for name in self.names)
