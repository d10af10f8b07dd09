"""Pulling from a real registry: Debian's docker-registry on loopback, in the network namespace of the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.errors import ImageError, Unsupported
from pyrun.images.store import ImageStore
from tests.privileged.images_kit import directory, file, layer, leftovers, oci_files, pack, sha256
from tests.registry import free_port, push, running_registry

pytestmark = pytest.mark.requires("overlay", "skopeo", "docker_registry")

BASE = layer(directory("etc"), file("etc/base", b"base"))
TOP = layer(file("etc/top", b"top"))
HUGE = layer(file("random", os.urandom(48 << 20)))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give host and port of a running registry that has `app:1` and `huge`."""
    place = tmp_path_factory.mktemp("registry")
    with running_registry(place) as address:
        for name, layers in (("app:1", [BASE, TOP]), ("huge", [HUGE])):
            archive = pack(str(place / "a.tar"), oci_files(layers, ["push:me"], Cmd=["/bin/app"]))
            push(f"oci-archive:{archive}", f"{address}/team/{name}")
        yield address


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"))


def test_pull_by_tag_and_by_digest(registry: str, store: ImageStore, tmp_path: Path) -> None:
    image = store.pull(f"{registry}/team/app:1")
    assert image.config.cmd == ("/bin/app",)
    assert image.layers == (sha256(BASE)[7:39], sha256(TOP)[7:39])
    assert Path(image.layers_dir, image.layers[1], "etc/top").read_bytes() == b"top"
    tag, by_digest = sorted(image.names, key=lambda name: "@" in name)
    assert tag == f"{registry}/team/app:1"
    assert store.resolve(by_digest) == image
    assert leftovers(store.root) == []
    other = ImageStore(str(tmp_path / "other"))
    assert other.pull(by_digest).id == image.id
    assert other.resolve(by_digest).names == (by_digest,)
    assert other.inspect(by_digest).digests == (by_digest,)
    # With its last tag an image goes, and its digests with it.
    assert store.remove(tag) == (tag, by_digest, image.id)
    assert store.list() == ()


def test_localhost_needs_no_tls(registry: str, store: ImageStore) -> None:
    port = registry.partition(":")[2]
    image = store.pull(f"localhost:{port}/team/app:1")
    assert f"localhost:{port}/team/app:1" in image.names


def test_a_missing_image_is_named_with_the_registry_s_word(registry: str, store: ImageStore) -> None:
    with pytest.raises(ImageError, match=rf"{registry}/team/none:latest cannot be pulled .*manifest unknown"):
        store.pull(f"{registry}/team/none")
    with pytest.raises(ImageError, match=r"cannot be pulled"):
        store.pull(f"{registry}/team/app@sha256:{'0' * 64}")
    with pytest.raises(ImageError, match=r"connection refused"):
        store.pull(f"127.0.0.1:{free_port()}/x")
    assert leftovers(store.root) == []


def test_without_skopeo(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unsupported, match="skopeo") as caught:
        store.pull("127.0.0.1:1/x")
    assert caught.value.hint == "apt-get install skopeo"
    assert leftovers(store.root) == []


def skopeos_of(store: ImageStore) -> list[str]:
    """Processes with this store in their arguments, the puller itself left out."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"skopeo") and any(store.root.encode() in word for word in words):
                found.append(pid)
    return found


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_pull_ends_skopeo_and_leaves_nothing(
    registry: str, store: ImageStore, kill: signal.Signals
) -> None:
    code = "import sys; from pyrun.images.store import ImageStore; ImageStore(sys.argv[1]).pull(sys.argv[2])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, store.root, f"{registry}/team/huge"], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    while not skopeos_of(store) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert skopeos_of(store), "skopeo was not seen"
    process.send_signal(kill)
    assert process.wait(timeout=10) != 0
    assert store.list() == ()
    assert skopeos_of(store) == []
    assert leftovers(store.root) == []
