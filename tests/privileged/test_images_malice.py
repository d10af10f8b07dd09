"""Malicious and damaged layers: refused with one error, nothing outside touched, nothing left."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pyrun.errors import ImageError
from pyrun.images.store import ImageStore
from pyrun.images.unpack import Limits
from pyrun.spec.image import ImageConfig
from tests.privileged.images_kit import (
    device,
    directory,
    docker_files,
    entry,
    file,
    hardlink,
    layer,
    leftovers,
    oci_files,
    pack,
    sha256,
    spread,
    symlink,
)

pytestmark = pytest.mark.requires("overlay")

GOOD = layer(directory("etc"), file("etc/motd", b"hello"))


def raw_entry(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header alone, with a size its data does not have."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def chained(count: int) -> bytes:
    """Extended headers that announce extended headers."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    return (info.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * count


def broken_checksum() -> bytes:
    data = bytearray(layer(file("a", b"x"), file("b", b"y")))
    data[1024 + 5] ^= 0xFF
    return bytes(data)


def sparse_bomb() -> bytes:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"}
    return layer(file("s", b"1\n0\n999999\n".ljust(512, b"\0") + b"x" * 512, pax_headers=headers))


EVIL: dict[str, tuple[bytes, str]] = {
    "absolute path": (layer(file("{out}/evil", b"x")), "absolute path"),
    "dot dot": (layer(file("a/../../../../../../../../{out}/evil", b"x")), r"with \.\."),
    "inner dot dot": (layer(directory("a"), file("a/../b")), r"with \.\."),
    "through a symlink": (layer(symlink("a", "{out}"), file("a/evil", b"x")), "symbolic link 'a'"),
    "through a relative symlink": (layer(symlink("a", "../../../.."), file("a/evil")), "symbolic link 'a'"),
    "symlinked parent of a directory": (layer(symlink("a", "{out}"), directory("a/b")), "symbolic link 'a'"),
    "symlinked parent of a symlink": (layer(symlink("a", "{out}"), symlink("a/evil", "x")), "symbolic link"),
    "whiteout through a symlink": (layer(symlink("a", "{out}"), file("a/.wh.victim")), "symbolic link"),
    "opaque through a symlink": (layer(symlink("a", "{out}"), file("a/.wh..wh..opq")), "symbolic link"),
    "absolute hard link": (layer(hardlink("evil", "{out}/victim")), "absolute path"),
    "hard link pointing out": (layer(hardlink("evil", "../../../../{out}/victim")), r"with \.\."),
    "hard link through a symlink": (layer(symlink("a", "{out}"), hardlink("e", "a/victim")), "symbolic link"),
    "hard link to nothing": (layer(hardlink("evil", "victim")), "No such file"),
    "hard link to a directory": (layer(directory("d"), hardlink("evil", "d")), "not permitted"),
    "through a file": (layer(file("a", b"x"), file("a/b", b"y")), "'a', which is not a directory"),
    "whiteout of the parent": (layer(directory("d"), file("d/.wh...")), "whiteout"),
    "whiteout of itself": (layer(directory("d"), file("d/.wh..")), "whiteout"),
    "whiteout of nothing": (layer(file(".wh.")), "whiteout"),
    "a disk": (layer(device("sda", 8, 0, tarfile.BLKTYPE)), "block device 8:0"),
    "kernel memory": (layer(device("mem", 1, 1)), "character device 1:1"),
    "a raw whiteout": (layer(device("a", 0, 0)), "character device 0:0"),
    "an unknown type": (layer(entry("x", b"V")), "unknown type"),
    "root as a file": (layer(file("./", b"x")), "root of the layer"),
    "null byte": (layer(file("x", pax_headers={"path": "a\0b"})), "null byte"),
    "owner -1": (layer(file("x", pax_headers={"uid": "4294967295"})), "owner"),
    "negative owner": (layer(file("x", pax_headers={"uid": "-5"})), "owner"),
    "a wild time": (layer(file("x", pax_headers={"mtime": "1e300"})), "time"),
    "a time that is no number": (layer(file("x", pax_headers={"mtime": "nan"})), "damaged"),
    "long name": (layer(file("n" * 256)), "too long"),
    "long path": (layer(file("d/" * 1900 + "x")), "too long"),
    "deep path": (layer(file("d/" * 300 + "x")), "too long"),
    "bad checksum": (broken_checksum(), "damaged header at byte 1024"),
    "garbage": (os.urandom(4096), "damaged header"),
    "truncated data": (layer(file("big", bytes(8192)))[:4096], "truncated data"),
    "truncated header": (GOOD[:700], "damaged header"),
    "negative size": (layer(file("a", pax_headers={"size": "-1024"}), file("b")), "size|backwards|damaged"),
    "huge header": (raw_entry("x", 1 << 40, tarfile.XHDTYPE), "extended header of"),
    "huge long name": (raw_entry("x", 1 << 33, tarfile.GNUTYPE_LONGNAME), "extended header of"),
    "endless chain of headers": (chained(20000), "damaged"),
    "sparse beyond the end": (sparse_bomb(), "sparse map"),
}


@pytest.mark.parametrize("case", EVIL)
@pytest.mark.parametrize("below", [0, 1])
def test_a_malicious_layer_is_refused_and_leaves_nothing(tmp_path: Path, case: str, below: int) -> None:
    data, reason = EVIL[case]
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"untouched")
    # The layer names the directory outside; same length, so that the headers stay right.
    data = point_at(data, str(outside))
    layers = [GOOD] * below + [data]
    archive = pack(str(tmp_path / "a.tar"), oci_files(layers))
    store = ImageStore(str(tmp_path / "store"))
    with pytest.raises(ImageError, match=reason):
        store.load(archive)
    assert leftovers(store.root) == []
    assert store.list() == ()
    assert os.listdir(store.root + "/layers") == []
    assert os.listdir(outside) == ["victim"]
    assert (outside / "victim").read_bytes() == b"untouched"
    assert os.stat(outside / "victim").st_nlink == 1
    assert os.listxattr(outside) == []


def point_at(data: bytes, outside: str) -> bytes:
    """Write `outside` for {out} in every name and target."""
    if b"{out}" not in data:
        return data
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=buffer, mode="w") as new:
        for member in old:
            member.name = member.name.replace("{out}", outside)
            member.linkname = member.linkname.replace("{out}", outside)
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    return buffer.getvalue()


def test_a_bomb_meets_the_limits(tmp_path: Path) -> None:
    small = ImageStore(str(tmp_path / "store"), Limits(size=1 << 20))
    bomb = pack(str(tmp_path / "a.tar"), oci_files([layer(file("zeros", bytes(64 << 20)))]))
    with pytest.raises(ImageError, match="more than 1048576 bytes when unpacked"):
        small.load(bomb)
    few = ImageStore(str(tmp_path / "store"), Limits(size=1 << 30, entries=100))
    many = pack(str(tmp_path / "b.tar"), oci_files([layer(*(file(f"f{n}") for n in range(200)))]))
    with pytest.raises(ImageError, match="more than 100 entries"):
        few.load(many)
    assert leftovers(small.root) == []


def edited(files: dict[str, bytes], suffix: str, change: Any) -> dict[str, bytes]:
    """The archive with the largest file whose name ends so changed, and everything else as it was."""
    name = max((name for name in files if name.endswith(suffix)), key=lambda name: len(files[name]))
    return {**files, name: change(files[name])}


BIG = layer(file("random", os.urandom(1 << 16)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-20] + bytes(20), "wrong digest: the bytes"),
        (lambda data: gzip.compress(BIG + bytes(512), compresslevel=1)[: len(data)], "wrong digest"),
        (lambda data: data[:-1], "its manifest says"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "wrong digest"),
    ],
)
def test_a_layer_with_a_wrong_digest(tmp_path: Path, change: Any, reason: str) -> None:
    archive = spread(str(tmp_path / "layout"), edited(oci_files([BIG]), "", change))
    store = ImageStore(str(tmp_path / "store"))
    with pytest.raises(ImageError, match=reason):
        store.load(archive)
    assert leftovers(store.root) == []


def test_a_layer_with_a_wrong_diff_id(tmp_path: Path) -> None:
    files = docker_files([BIG])
    settings = json.loads(files["c.json"])
    settings["rootfs"]["diff_ids"] = [sha256(b"something else")]
    files["c.json"] = json.dumps(settings).encode()
    store = ImageStore(str(tmp_path / "store"))
    with pytest.raises(ImageError, match="wrong digest: the uncompressed tar should be"):
        store.load(pack(str(tmp_path / "a.tar"), files))
    assert leftovers(store.root) == []


@pytest.mark.parametrize("what", ["config", "manifest"])
def test_a_document_with_a_wrong_digest(tmp_path: Path, what: str) -> None:
    files = oci_files([GOOD])
    needle = b'"rootfs"' if what == "config" else b'"mediaType"'
    name = next(name for name, data in files.items() if name.startswith("blobs") and needle in data)
    files[name] = files[name] + b" "
    with pytest.raises(ImageError, match="wrong digest"):
        ImageStore(str(tmp_path / "store")).load(spread(str(tmp_path / "layout"), files))
    assert leftovers(str(tmp_path / "store")) == []


@pytest.mark.parametrize("digest", ["sha256:../../../../etc/passwd", "md5:" + "0" * 32, "sha256:" + "0" * 64])
def test_an_index_that_points_out_of_the_layout(tmp_path: Path, digest: str) -> None:
    files = oci_files([GOOD])
    index = json.loads(files["index.json"])
    index["manifests"][0]["digest"] = digest
    files["index.json"] = json.dumps(index).encode()
    with pytest.raises(ImageError, match=r"digest|missing"):
        ImageStore(str(tmp_path / "store")).load(spread(str(tmp_path / "layout"), files))


def test_a_truncated_archive(tmp_path: Path) -> None:
    archive = pack(str(tmp_path / "a.tar"), oci_files([layer(file("random", os.urandom(1 << 18)))]))
    with open(archive, "r+b") as cut:
        cut.truncate(os.stat(archive).st_size // 2)
    with pytest.raises(ImageError, match=r"truncated|not a tar|incomplete"):
        ImageStore(str(tmp_path / "store")).load(archive)
    assert leftovers(str(tmp_path / "store")) == []


@pytest.mark.parametrize("cut", [512, 1024, 1500, 2048])
def test_a_truncated_root_file_system(tmp_path: Path, cut: int) -> None:
    whole = layer(file("a", b"x" * 512), file("b", b"y" * 512), form=tarfile.USTAR_FORMAT)
    (tmp_path / "rootfs.tar").write_bytes(whole[:cut])
    store = ImageStore(str(tmp_path / "store"))
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        store.import_rootfs(str(tmp_path / "rootfs.tar"), "x", ImageConfig())
    assert leftovers(store.root) == []


def test_one_bad_image_of_an_archive_stores_none(tmp_path: Path) -> None:
    good, bad = docker_files([GOOD], ["good"]), docker_files([EVIL["a disk"][0]], ["bad"])
    files = {f"bad-{name}": data for name, data in bad.items()} | good
    (entry_bad,) = json.loads(bad["manifest.json"])
    entry_bad["Config"] = "bad-c.json"
    entry_bad["Layers"] = ["bad-0/layer.tar"]
    files["manifest.json"] = json.dumps([*json.loads(good["manifest.json"]), entry_bad]).encode()
    store = ImageStore(str(tmp_path / "store"))
    with pytest.raises(ImageError, match="block device"):
        store.load(pack(str(tmp_path / "a.tar"), files))
    assert store.list() == ()
    assert leftovers(store.root) == []
