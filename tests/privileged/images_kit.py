"""Makes layers and archives for the tests of the image store, entry by entry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from typing import Any


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """One tar entry; `fields` are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def file(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.REGTYPE, data, **fields)


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, linkname=target, **fields)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def device(name: str, major: int, minor: int, kind: bytes = tarfile.CHRTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind, devmajor=major, devminor=minor)


def layer(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config_of(layers: Sequence[bytes], **config: Any) -> bytes:
    return json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [sha256(data) for data in layers]},
        }
    ).encode()


def pack(path: str, files: dict[str, bytes]) -> str:
    """Write a tar archive of these files."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info, _ = file(name, data)
            tar.addfile(info, io.BytesIO(data))
    return path


def spread(path: str, files: dict[str, bytes]) -> str:
    """Write these files below a directory."""
    for name, data in files.items():
        place = os.path.join(path, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as out:
            out.write(data)
    return path


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


OCI = "application/vnd.oci.image."


def oci_files(
    layers: Sequence[bytes], names: Sequence[str] = ("x:1",), squeeze: Any = gzip.compress, **config: Any
) -> dict[str, bytes]:
    """The files of an OCI layout of one image; each layer is compressed by `squeeze`."""
    packed = [squeeze(data) for data in layers]
    settings = config_of(layers, **config)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": descriptor(settings, OCI + "config.v1+json"),
            "layers": [descriptor(data, OCI + "layer.v1.tar+gzip") for data in packed],
        }
    ).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            descriptor(
                manifest, OCI + "manifest.v1+json", annotations={"org.opencontainers.image.ref.name": name}
            )
            for name in names
        ],
    }
    blobs = {"blobs/sha256/" + sha256(data)[7:]: data for data in (settings, manifest, *packed)}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **blobs,
    }


def docker_files(layers: Sequence[bytes], tags: Sequence[str] = ("x:1",), **config: Any) -> dict[str, bytes]:
    """The files of `docker save` for one image."""
    settings = config_of(layers, **config)
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "c.json", "RepoTags": list(tags), "Layers": names}]
    return {
        "c.json": settings,
        "manifest.json": json.dumps(manifest).encode(),
        **dict(zip(names, layers, strict=True)),
    }


def merged(layers_dir: str, layers: Sequence[str], script: str) -> str:
    """Run a shell script with the overlay of these layers (lowest first) at ./m; own mount namespace."""
    lower = ":".join(os.path.join(layers_dir, name) for name in reversed(layers))
    command = (
        'set -e; d=$(mktemp -d); trap \'umount "$d/m" 2>/dev/null || true; umount "$d"; rmdir "$d"\' EXIT; '
        'mount -t tmpfs none "$d"; mkdir "$d/u" "$d/w" "$d/m"; '
        'mount -t overlay overlay -o "lowerdir=$0,upperdir=$d/u,workdir=$d/w" "$d/m"; ( cd "$d/m"; eval "$1" )'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", command, lower, script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def leftovers(root: str) -> list[str]:
    """What a store has that no complete image needs: an empty list is a clean store."""
    index: dict[str, Any] = {"images": []}
    if os.path.exists(f"{root}/index.json"):
        with open(f"{root}/index.json") as text:
            index = json.load(text)
    needed: set[str] = set()
    for digits in index["images"]:
        with open(f"{root}/images/{digits}.json") as text:
            needed |= {diff_id.partition(":")[2][:32] for diff_id in json.load(text).get("diff_ids", ())}
    found = [f"work/{name}" for name in _names(f"{root}/work")]
    for folder, keep in (
        ("layers", needed),
        ("facts", needed),
        ("images", index["images"]),
        ("blobs", index["images"]),
    ):
        found += [
            f"{folder}/{name}"
            for name in _names(f"{root}/{folder}")
            if name.removesuffix(".json") not in keep
        ]
    return found + [name for name in _names(root) if name not in ("lock", "index.json", *_FOLDERS)]


_FOLDERS = ("images", "blobs", "layers", "facts", "work")


def _names(path: str) -> list[str]:
    return os.listdir(path) if os.path.isdir(path) else []
