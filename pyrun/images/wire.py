"""The JSON documents of images, as far as they are read. Nothing here travels further than contents.py.

Sources: OCI image specification (descriptor.md, manifest.md, image-index.md, config.md) and the Docker
image specification 1.2 with the manifest of `docker save`; Docker's media types mean the same structures.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from pyrun.errors import ImageError
from pyrun.spec.image import ImageConfig

T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    """For which machine a manifest is."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A pointer to a blob: its digest and its size."""

    digest: str
    size: int
    media_type: str = ""
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One image for one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""


class ManifestIndex(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Several manifests: `index.json`, or an image for several platforms."""

    manifests: tuple[Descriptor, ...]


class SavedImage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One entry of the manifest.json of `docker save`; all are file names in the archive."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


class ContainerDefaults(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The `config` object of an image configuration."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    working_dir: str | None = None
    user: str | None = None
    stop_signal: str | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, dict[str, str]] | None = None
    volumes: dict[str, dict[str, str]] | None = None

    def value(self) -> ImageConfig:
        """Return the value the rest of pyrun works with."""
        return ImageConfig(
            entrypoint=self.entrypoint or (),
            cmd=self.cmd or (),
            env=self.env or (),
            working_dir=self.working_dir or "",
            user=self.user or "",
            stop_signal=self.stop_signal or "",
            labels=self.labels or {},
            exposed_ports=tuple(sorted(self.exposed_ports or {})),
            volumes=tuple(sorted(self.volumes or {})),
        )


class RootFs(msgspec.Struct, frozen=True, kw_only=True):
    """Digests of the uncompressed layers, lowest first."""

    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class ImageDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image configuration."""

    rootfs: RootFs
    os: str = ""
    architecture: str = ""
    created: str | None = None
    config: ContainerDefaults | None = None


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Read one document; raises ImageError that says which document and which field."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ImageError(f"{what} is not valid: {error}") from error


def document(config: ImageConfig, diff_id: str, created: str, architecture: str) -> bytes:
    """Return the image configuration of an imported root file system."""
    defaults = ContainerDefaults(
        entrypoint=config.entrypoint or None,
        cmd=config.cmd or None,
        env=config.env or None,
        working_dir=config.working_dir or None,
        user=config.user or None,
        stop_signal=config.stop_signal or None,
        labels=config.labels or None,
        exposed_ports={port: {} for port in config.exposed_ports} or None,
        volumes={path: {} for path in config.volumes} or None,
    )
    return msgspec.json.encode(
        ImageDocument(
            created=created,
            architecture=architecture,
            os="linux",
            config=defaults,
            rootfs=RootFs(diff_ids=(diff_id,)),
        ),
        order="sorted",
    )
