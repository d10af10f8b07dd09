"""What an archive says it holds: names, configurations and layers, in any of the three layouts.

    OCI image layout     oci-layout, index.json, blobs/<algorithm>/<hex>
    docker save          manifest.json (a list), file names inside the archive
    skopeo's dir:        manifest.json (a manifest), <hex>

Only names and digests are read here; layers are verified when they are unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

import msgspec

from pyrun.errors import ImageError
from pyrun.images import reference, wire
from pyrun.images.layers import LayerBlob
from pyrun.images.source import Extent, Source

NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
MAX_NESTING = 4

# What `uname -m` says, and the architecture and variants of OCI this machine runs, best first.
_ARCHITECTURES = {
    "x86_64": ("amd64", ("", "v1")),
    "aarch64": ("arm64", ("v8", "")),
    "armv7l": ("arm", ("v7", "v6", "v5", "")),
    "armv6l": ("arm", ("v6", "v5", "")),
    "i686": ("386", ("",)),
    "ppc64le": ("ppc64le", ("",)),
    "s390x": ("s390x", ("",)),
    "riscv64": ("riscv64", ("",)),
    "loongarch64": ("loong64", ("",)),
}


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """One image of an archive: canonical names, its configuration byte for byte, and its layers."""

    names: tuple[str, ...]
    config: bytes
    layers: tuple[LayerBlob, ...]
    digest: str = ""

    @property
    def id(self) -> str:
        """The image id: the digest of its configuration."""
        return f"sha256:{hashlib.sha256(self.config).hexdigest()}"


def host_platform() -> tuple[str, tuple[str, ...]]:
    """Return this machine's architecture as OCI spells it, and the variants it runs, best first."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, (machine, ("",)))


def read(source: Source) -> tuple[Contents, ...]:
    """Read every image of an archive that is for this machine. Raises ImageError; there is at least one."""
    manifest = source.find("manifest.json")
    if manifest is not None:
        data = manifest.document()
        if data.lstrip()[:1] == b"[":
            saved = wire.decode(data, tuple[wire.SavedImage, ...], f"{source.path}: manifest.json")
            return tuple(_saved(source, image) for image in saved) or _nothing(source)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return (_from_manifest(source, data, digest, ()),)
    index = source.find("index.json")
    if index is None:
        raise ImageError(
            f"{source.path} is no OCI or Docker archive: it has neither index.json nor manifest.json",
            hint="for a plain root file system use `pyrun image import`",
        )
    entries = wire.decode(index.document(), wire.ManifestIndex, f"{source.path}: index.json")
    found = _from_index(source, entries, (), 0)
    return found or _nothing(source)


def _nothing(source: Source) -> tuple[Contents, ...]:
    raise ImageError(f"{source.path} has no image in it")


def _from_index(
    source: Source, index: wire.ManifestIndex, names: tuple[str, ...], depth: int
) -> tuple[Contents, ...]:
    if depth > MAX_NESTING:
        raise ImageError(f"{source.path}: indexes inside indexes, more than {MAX_NESTING} deep")
    found: list[Contents] = []
    for entry in _for_this_machine(source, index, top=depth == 0):
        named = _names(entry) or names
        data = _blob(source, entry)
        if b'"manifests"' in data:
            with contextlib.suppress(msgspec.MsgspecError):
                inner = msgspec.json.decode(data, type=wire.ManifestIndex)
                found += _from_index(source, inner, named, depth + 1)
                continue
        found.append(_from_manifest(source, data, entry.digest, named))
    return tuple(found)


def _for_this_machine(source: Source, index: wire.ManifestIndex, *, top: bool) -> list[wire.Descriptor]:
    """Choose from an index: at the top every image counts, further inside one of its platforms."""
    architecture, variants = host_platform()
    free = [entry for entry in index.manifests if entry.platform is None]
    fitting = sorted(
        (variants.index(entry.platform.variant), number)
        for number, entry in enumerate(index.manifests)
        if entry.platform is not None
        and (entry.platform.os, entry.platform.architecture) == ("linux", architecture)
        and entry.platform.variant in variants
    )
    chosen = [index.manifests[number] for _, number in fitting]
    if not chosen and not free and index.manifests:
        there = {
            f"{entry.platform.os}/{entry.platform.architecture}"
            for entry in index.manifests
            if entry.platform and entry.platform.os != "unknown"
        }
        raise ImageError(
            f"{source.path} has no image for linux/{architecture}, only for {', '.join(sorted(there))}"
        )
    if top:
        return free + chosen
    return chosen[:1] or free[:1]


def _names(entry: wire.Descriptor) -> tuple[str, ...]:
    """Read the names an index gives an image; the plain tag `latest` is none."""
    for key in NAME_ANNOTATIONS:
        text = (entry.annotations or {}).get(key, "")
        if text and text != reference.DEFAULT_TAG:
            with contextlib.suppress(reference.InvalidImageName):
                return (reference.parse(text).canonical,)
    return ()


def _locate(source: Source, digest: str) -> Extent:
    algorithm, _, encoded = digest.partition(":")
    _check_digest(source, digest)
    extent = source.find(f"blobs/{algorithm}/{encoded}") or source.find(encoded)
    if extent is None:
        raise ImageError(f"{source.path} is incomplete: the blob {digest} is missing")
    return extent


def _check_digest(source: Source, digest: str) -> None:
    """Refuse what is no digest before it becomes a part of a path."""
    if fault := reference.digest_fault(digest):
        raise ImageError(f"{source.path}: the digest {digest!r} is not valid: {fault}")


def _blob(source: Source, descriptor: wire.Descriptor) -> bytes:
    """Return a small blob, verified."""
    data = _locate(source, descriptor.digest).document()
    algorithm, _, encoded = descriptor.digest.partition(":")
    found = hashlib.new(algorithm, data).hexdigest()
    if found != encoded:
        raise ImageError(f"{source.path}: wrong digest: {descriptor.digest} is {algorithm}:{found}")
    return data


def _from_manifest(source: Source, data: bytes, digest: str, names: tuple[str, ...]) -> Contents:
    manifest = wire.decode(data, wire.Manifest, f"{source.path}: manifest {digest[:19]}")
    config = _blob(source, manifest.config)
    diff_ids = _diff_ids(source, config, len(manifest.layers))
    layers = []
    for descriptor, diff_id in zip(manifest.layers, diff_ids, strict=True):
        if "encrypted" in descriptor.media_type:
            raise ImageError(f"layer {descriptor.digest[:19]} is encrypted ({descriptor.media_type})")
        extent = _locate(source, descriptor.digest)
        if extent.size != descriptor.size:
            raise ImageError(
                f"layer {descriptor.digest[:19]} has {extent.size} bytes, its manifest says {descriptor.size}"
            )
        layers.append(LayerBlob(extent=extent, digest=descriptor.digest, diff_id=diff_id))
    return Contents(names=names, config=config, layers=tuple(layers), digest=digest)


def _saved(source: Source, image: wire.SavedImage) -> Contents:
    def member(name: str) -> Extent:
        extent = source.find(name)
        if extent is None:
            raise ImageError(f"{source.path} is incomplete: {name!r} is missing")
        return extent

    config = member(image.config).document()
    diff_ids = _diff_ids(source, config, len(image.layers))
    names = tuple(dict.fromkeys(reference.parse(tag).canonical for tag in image.repo_tags or ()))
    layers = tuple(
        LayerBlob(extent=member(name), diff_id=diff_id)
        for name, diff_id in zip(image.layers, diff_ids, strict=True)
    )
    return Contents(names=names, config=config, layers=layers)


def _diff_ids(source: Source, config: bytes, count: int) -> tuple[str, ...]:
    document = wire.decode(config, wire.ImageDocument, f"{source.path}: the image configuration")
    if document.os not in ("", "linux"):
        raise ImageError(f"{source.path} is an image for {document.os}, this is linux")
    diff_ids = document.rootfs.diff_ids
    if len(diff_ids) != count:
        raise ImageError(
            f"{source.path}: the configuration names {len(diff_ids)} layers, the manifest {count}"
        )
    for diff_id in diff_ids:
        _check_digest(source, diff_id)
    return diff_ids
