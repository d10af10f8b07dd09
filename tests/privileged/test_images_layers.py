"""Layers: what they hold is unpacked exactly, and overlayfs shows what the image means."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pyrun.images.store import ImageStore
from pyrun.spec.image import Image
from tests.privileged.images_kit import (
    device,
    directory,
    entry,
    file,
    hardlink,
    layer,
    leftovers,
    merged,
    oci_files,
    pack,
    sha256,
    symlink,
)

pytestmark = pytest.mark.requires("overlay")


def loaded(tmp_path: Path, *layers: bytes, squeeze: Any = gzip.compress) -> Image:
    archive = pack(str(tmp_path / "archive.tar"), oci_files(layers, squeeze=squeeze))
    image = ImageStore(str(tmp_path / "store")).load(archive)[0]
    assert leftovers(str(tmp_path / "store")) == []
    return image


def tree(image: Image, number: int = 0) -> str:
    return os.path.join(image.layers_dir, image.layers[number])


def test_every_kind_of_entry(tmp_path: Path) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    top = tree(
        loaded(
            tmp_path,
            layer(
                directory("./", mode=0o755, mtime=1000),
                directory("./bin", mode=0o1777, uid=7, gid=8, mtime=1234),
                file(
                    "./bin/tool",
                    b"#!tool",
                    mode=0o6755,
                    uid=12,
                    gid=34,
                    pax_headers={
                        "mtime": "1234567890.123456789",
                        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
                        "SCHILY.xattr.user.note": "täxt",
                        "SCHILY.xattr.trusted.overlay.opaque": "y",
                        "SCHILY.xattr.security.selinux": "label",
                    },
                ),
                hardlink("./bin/again", "./bin/tool"),
                symlink("./bin/abs", "/etc/passwd", mtime=77, uid=5, gid=6),
                hardlink("./bin/abs2", "bin/abs"),
                entry("./pipe", tarfile.FIFOTYPE, mode=0o620, mtime=9),
                device("./null", 1, 3),
                file("./far", uid=4_000_000_000, gid=3_000_000_000),
                file("./umlaut-ä"),
                file("./" + "long/" * 40 + "name" * 30, b"deep"),
            ),
        )
    )
    tool = os.stat(f"{top}/bin/tool")
    assert (tool.st_mode, tool.st_uid, tool.st_gid) == (stat.S_IFREG | 0o6755, 12, 34)
    assert tool.st_mtime_ns == 1234567890_123456789
    assert tool.st_nlink == 2
    assert os.stat(f"{top}/bin/again").st_ino == tool.st_ino
    assert os.getxattr(f"{top}/bin/tool", "security.capability") == capability
    assert os.getxattr(f"{top}/bin/tool", "user.note") == "täxt".encode()
    assert {"trusted.overlay.opaque", "security.selinux"}.isdisjoint(os.listxattr(f"{top}/bin/tool"))
    bin_ = os.stat(f"{top}/bin")
    assert (bin_.st_mode & 0o7777, bin_.st_uid, bin_.st_gid, bin_.st_mtime) == (0o1777, 7, 8, 1234)
    assert os.stat(top).st_mtime == 1000
    link = os.lstat(f"{top}/bin/abs")
    assert (os.readlink(f"{top}/bin/abs"), link.st_mtime, link.st_uid, link.st_gid) == (
        "/etc/passwd",
        77,
        5,
        6,
    )
    assert os.lstat(f"{top}/bin/abs2").st_ino == link.st_ino
    pipe = os.stat(f"{top}/pipe")
    assert (pipe.st_mode, pipe.st_mtime) == (stat.S_IFIFO | 0o620, 9)
    null = os.stat(f"{top}/null")
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev) == (True, os.makedev(1, 3))
    far = os.stat(f"{top}/far")
    assert (far.st_uid, far.st_gid) == (4_000_000_000, 3_000_000_000)
    assert Path(f"{top}/umlaut-ä").exists()
    assert Path(top, "long/" * 40 + "name" * 30).read_bytes() == b"deep"


@pytest.mark.parametrize("form", ["gnu", "posix"])
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_keep_their_holes(tmp_path: Path, form: str, version: str) -> None:
    source = tmp_path / "rootfs"
    source.mkdir()
    pieces = [(0, b"start"), *((number * (1 << 20), b"piece %d" % number) for number in range(1, 30))]
    with open(source / "sparse", "wb") as out:
        for offset, data in pieces:
            out.seek(offset)
            out.write(data)
        out.truncate(40 << 20)
    (source / "plain").write_bytes(b"after")
    command = ["tar", "-C", str(source), "--sparse", f"--format={form}", "-cf", str(tmp_path / "l.tar")]
    if form == "posix":
        command.append(f"--sparse-version={version}")
    subprocess.run([*command, "--sort=name", "plain", "sparse"], check=True)
    top = tree(loaded(tmp_path, (tmp_path / "l.tar").read_bytes()))
    found = os.stat(f"{top}/sparse")
    assert found.st_size == 40 << 20
    assert found.st_blocks * 512 < 1 << 20
    with open(f"{top}/sparse", "rb") as unpacked, open(source / "sparse", "rb") as original:
        assert unpacked.read() == original.read()
    assert Path(top, "plain").read_bytes() == b"after"


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


def in_members(data: bytes) -> bytes:
    return gzip.compress(data[:700]) + gzip.compress(data[700:])


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress, in_members, bz2.compress, lzma.compress, zstd])
def test_every_compression(tmp_path: Path, squeeze: Any) -> None:
    data = os.urandom(3 << 20)
    top = tree(loaded(tmp_path, layer(file("random", data), file("zeros", bytes(5 << 20))), squeeze=squeeze))
    assert Path(top, "random").read_bytes() == data
    assert Path(top, "zeros").read_bytes() == bytes(5 << 20)


def test_the_last_entry_of_a_name_counts(tmp_path: Path) -> None:
    top = tree(
        loaded(
            tmp_path,
            layer(
                file("a", b"first"),
                hardlink("b", "a"),
                file("a", b"second"),
                directory("d"),
                file("d/inside"),
                file("d", b"a file now"),
                file("e"),
                directory("e", mode=0o700),
                file("e/inside"),
                directory("e", mode=0o711),
                symlink("s", "/nowhere"),
                directory("s"),
                file("s/inside"),
            ),
        )
    )
    assert Path(top, "a").read_bytes() == b"second"
    assert Path(top, "b").read_bytes() == b"first"
    assert Path(top, "d").read_bytes() == b"a file now"
    assert os.stat(f"{top}/e").st_mode & 0o7777 == 0o711
    assert Path(top, "e/inside").exists()
    assert Path(top, "s/inside").exists()


BASE = layer(
    directory("keep"),
    file("keep/old", b"old"),
    file("gone", b"x"),
    directory("gonedir"),
    file("gonedir/x"),
    directory("opaque"),
    file("opaque/hidden"),
    directory("again"),
    file("again/hidden"),
    file("changed", b"below"),
)


def test_whiteouts_hide_lower_layers(tmp_path: Path) -> None:
    top = layer(
        file(".wh.gone"),
        file(".wh.gonedir"),
        directory("opaque"),
        file("opaque/.wh..wh..opq"),
        file("opaque/fresh"),
        file("keep/new"),
        file("keep/.wh.never-there"),
        file(".wh..wh.plnk"),
    )
    image = loaded(tmp_path, BASE, top)
    text = merged(image.layers_dir, image.layers, "find . -type f | sort")
    assert text.split() == ["./again/hidden", "./changed", "./keep/new", "./keep/old", "./opaque/fresh"]
    assert os.lstat(f"{tree(image, 1)}/gone").st_rdev == os.makedev(0, 0)


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_whiteouts_spare_their_own_layer(tmp_path: Path, whiteout_first: bool) -> None:
    hide = [file(".wh.again"), file(".wh.changed")]
    make = [directory("again"), file("again/fresh"), file("changed", b"above")]
    image = loaded(tmp_path, BASE, layer(*(hide + make if whiteout_first else make + hide)))
    text = merged(image.layers_dir, image.layers, "find again changed -type f | sort; cat changed")
    assert text.split() == ["again/fresh", "changed", "above"]


def test_a_whiteout_before_an_implied_directory(tmp_path: Path) -> None:
    image = loaded(tmp_path, BASE, layer(file(".wh.again"), file("again/fresh")))
    assert merged(image.layers_dir, image.layers, "ls again").split() == ["fresh"]


def test_an_opaque_root_hides_everything_below(tmp_path: Path) -> None:
    image = loaded(tmp_path, BASE, layer(file(".wh..wh..opq"), file("only")), layer(file("more")))
    assert len(image.layers) == 2
    assert merged(image.layers_dir, image.layers, "ls -A").split() == ["more", "only"]


def test_a_layer_is_unpacked_once_and_shared(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "store"))
    upper = layer(file("upper"))
    first = store.load(pack(str(tmp_path / "1.tar"), oci_files([BASE], ["one"])))[0]
    inode = os.stat(tree(first)).st_ino
    second = store.load(pack(str(tmp_path / "2.tar"), oci_files([BASE, upper], ["two"], squeeze=bytes)))[0]
    assert first.layers == (sha256(BASE)[7:39],)
    assert second.layers == (first.layers[0], sha256(upper)[7:39])
    assert os.stat(tree(second)).st_ino == inode
