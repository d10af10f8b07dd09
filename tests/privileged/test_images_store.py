"""The store as a whole: names, archives of every layout, removal, and what faults and kills leave behind."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pyrun.errors import Conflict, ImageError
from pyrun.images.contents import host_platform
from pyrun.images.reference import InvalidImageName
from pyrun.images.store import ImageStore
from pyrun.images.usage import mounted_layers
from pyrun.spec.image import ImageConfig
from tests.privileged.images_kit import (
    OCI,
    config_of,
    descriptor,
    directory,
    docker_files,
    file,
    layer,
    leftovers,
    oci_files,
    pack,
    sha256,
    spread,
)

pytestmark = pytest.mark.requires("overlay")

ONE = layer(directory("etc"), file("etc/one", b"1"))
TWO = layer(file("etc/two", b"22"))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"))


def load(store: ImageStore, files: dict[str, bytes]) -> None:
    store.load(pack(store.root + ".tar", files))


def test_configuration_and_layers(store: ImageStore) -> None:
    config = {
        "Entrypoint": ["/bin/tool"],
        "Cmd": ["--serve"],
        "Env": ["A=1", "B=x=y"],
        "WorkingDir": "/srv",
        "User": "app:staff",
        "StopSignal": "SIGQUIT",
        "Labels": {"k": "v"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}},
    }
    load(store, oci_files([ONE, TWO], ["tool:1.0"], **config))
    image = store.resolve("tool:1.0")
    assert image.config == ImageConfig(
        entrypoint=("/bin/tool",),
        cmd=("--serve",),
        env=("A=1", "B=x=y"),
        working_dir="/srv",
        user="app:staff",
        stop_signal="SIGQUIT",
        labels={"k": "v"},
        exposed_ports=("53/udp", "80/tcp"),
        volumes=("/data",),
    )
    assert image.layers == (sha256(ONE)[7:39], sha256(TWO)[7:39])
    assert image.layers_dir == store.root + "/layers"
    assert image.size == 3
    assert image.id == sha256(config_of([ONE, TWO], **config))


def test_nulls_in_a_configuration_are_defaults(store: ImageStore) -> None:
    load(store, oci_files([ONE], Cmd=None, Env=None, Labels=None, Volumes=None, Entrypoint=None, User=None))
    assert store.resolve("x:1").config == ImageConfig()


@pytest.mark.parametrize("place", ["archive", "directory", "archive.gz", "pipe"])
@pytest.mark.parametrize("make", [oci_files, docker_files])
def test_every_layout_and_every_way(store: ImageStore, tmp_path: Path, place: str, make: Any) -> None:
    files = make([ONE, TWO], ["tool:2"])
    source = str(tmp_path / "a.tar")
    if place == "directory":
        spread(source, files)
    else:
        pack(source, files)
    if place == "archive.gz":
        packed = gzip.compress(Path(source).read_bytes())
        Path(source).write_bytes(packed)
    if place == "pipe":
        os.mkfifo(tmp_path / "pipe")
        data = Path(source).read_bytes()
        threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data), daemon=True).start()
        source = str(tmp_path / "pipe")
    (image,) = store.load(source)
    assert store.resolve("tool:2") == image
    assert Path(image.layers_dir, image.layers[1], "etc/two").read_bytes() == b"22"
    assert leftovers(store.root) == []


def test_names_and_ids_resolve(store: ImageStore) -> None:
    load(store, oci_files([ONE], ["nginx"]))
    load(store, docker_files([TWO], ["localhost:5000/x:tag"]))
    nginx, other = store.resolve("nginx"), store.resolve("localhost:5000/x:tag")
    for name in (
        "nginx:latest",
        "library/nginx",
        "docker.io/library/nginx",
        nginx.id,
        nginx.id[:19],
        nginx.id[7:13],
    ):
        assert store.resolve(name) == nginx
    assert nginx != other
    assert nginx.names == ("docker.io/library/nginx:latest",)
    with pytest.raises(ImageError, match=r"no image nginx:2 in the store") as caught:
        store.resolve("nginx:2")
    assert caught.value.hint is not None
    assert "pyrun image pull nginx:2" in caught.value.hint
    with pytest.raises(InvalidImageName):
        store.resolve("Nginx")
    with pytest.raises(ImageError, match="no image"):
        store.resolve("f" * 64)


def test_an_ambiguous_id_is_refused(store: ImageStore) -> None:
    load(store, oci_files([ONE], ["one"]))
    with open(store.root + "/index.json", "rb") as text:
        index = json.load(text)
    index["images"] = ["abc" + "0" * 61, "abc" + "1" * 61]
    Path(store.root, "index.json").write_text(json.dumps(index))
    with pytest.raises(ImageError, match="beginning of 2 image ids"):
        store.resolve("abc")


def test_a_name_moves_to_the_newer_image(store: ImageStore) -> None:
    load(store, oci_files([ONE], ["app"]))
    old = store.resolve("app")
    load(store, oci_files([TWO], ["app"]))
    assert store.resolve("app").layers == (sha256(TWO)[7:39],)
    assert store.resolve(old.id).names == ()
    assert [image.id for image in store.list()] == [store.resolve("app").id, old.id]


def test_the_machine_s_platform_is_chosen(store: ImageStore) -> None:
    architecture = host_platform()[0]
    files: dict[str, bytes] = {}
    entries = []
    for machine, data in (("sparc", TWO), (architecture, ONE), ("unknown", TWO)):
        one = oci_files([data], os=machine)
        blobs = {name: blob for name, blob in one.items() if name.startswith("blobs")}
        manifest = next(blob for blob in blobs.values() if b'"mediaType"' in blob)
        files |= blobs
        platform = {"os": "linux" if machine != "unknown" else machine, "architecture": machine}
        entries.append(descriptor(manifest, OCI + "manifest.v1+json", platform=platform))
    inner = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    files["blobs/sha256/" + sha256(inner)[7:]] = inner
    name = {"org.opencontainers.image.ref.name": "multi:1"}
    outer = {"manifests": [descriptor(inner, OCI + "index.v1+json", annotations=name)]}
    files["index.json"] = json.dumps(outer).encode()
    load(store, files)
    assert store.resolve("multi:1").layers == (sha256(ONE)[7:39],)
    outer["manifests"] = [entries[0]]
    files["index.json"] = json.dumps(outer).encode()
    with pytest.raises(ImageError, match=f"no image for linux/{architecture}, only for linux/sparc"):
        load(store, files)


def test_import_a_root_file_system(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(ONE)
    config = ImageConfig(cmd=("sh",), env=("A=1",), user="1:2", working_dir="/w", stop_signal="SIGINT")
    image = store.import_rootfs(str(tmp_path / "rootfs.tar"), "mine", config)
    assert image.names == ("docker.io/library/mine:latest",)
    assert image.config == config
    assert image.layers == (sha256(ONE)[7:39],)
    again = store.import_rootfs(str(tmp_path / "rootfs.tar"), "mine", config)
    assert again.id == image.id
    assert leftovers(store.root) == []
    with pytest.raises(InvalidImageName):
        store.import_rootfs(str(tmp_path / "rootfs.tar"), "x@" + sha256(b""), config)


def test_removal_takes_what_no_other_image_uses(store: ImageStore) -> None:
    load(store, oci_files([ONE], ["base"]))
    load(store, oci_files([ONE, TWO], ["app:1", "app:2"]))
    with pytest.raises(Conflict, match="several names"):
        store.remove(store.resolve("app:1").id)
    assert store.remove("app:1") == ("docker.io/library/app:1",)
    both = store.resolve("app:2").layers
    assert sorted(os.listdir(store.root + "/layers")) == sorted(both)
    image_id = store.resolve("app:2").id
    assert store.remove("app:2") == ("docker.io/library/app:2", image_id)
    assert os.listdir(store.root + "/layers") == [both[0]]
    assert store.resolve("base").layers == both[:1]
    assert store.remove(store.resolve("base").id[:19])[0] == "docker.io/library/base:latest"
    assert store.list() == ()
    assert leftovers(store.root) == []
    assert os.listdir(store.root + "/layers") == []
    with pytest.raises(ImageError, match="no image"):
        store.remove("base")


def test_an_image_in_use_is_not_removed(store: ImageStore) -> None:
    load(store, oci_files([ONE], ["base"]))
    load(store, oci_files([ONE, TWO], ["app"]))
    base, top = store.resolve("app").layers
    place = store.root + ".mnt"
    os.mkdir(place)
    layers_dir = store.root + "/layers"
    mount = f"mount -t overlay overlay -o lowerdir={top}:{base} {place}"
    command = f"cd {layers_dir} && {mount} && echo ready && exec sleep 60"
    with subprocess.Popen([*OWN_MOUNTS, command], stdout=subprocess.PIPE) as user:
        try:
            assert user.stdout is not None
            assert user.stdout.readline() == b"ready\n"
            used = mounted_layers(layers_dir)
            assert used == {base, top}
            with pytest.raises(Conflict, match="in use by a container"):
                store.remove("app", used.__contains__)
            # Its own image still needs the layer, so nothing in use would go.
            store.remove("base", used.__contains__)
        finally:
            user.kill()
    assert sorted(os.listdir(layers_dir)) == sorted([base, top])
    assert mounted_layers(layers_dir) == frozenset()
    store.remove("app", mounted_layers(layers_dir).__contains__)
    assert os.listdir(layers_dir) == []


OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
LOAD = "import sys; from pyrun.images.store import ImageStore; ImageStore(sys.argv[1]).load(sys.argv[2])"


def loader(store: ImageStore, archive: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", LOAD, store.root, archive], stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An archive that takes a moment: four layers of many files."""
    layers = [
        layer(*(file(f"{number}/{name}", os.urandom(2000)) for name in range(1500))) for number in range(4)
    ]
    return pack(str(tmp_path_factory.mktemp("big") / "a.tar"), oci_files(layers, ["big"], squeeze=bytes))


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_at_any_moment_leaves_nothing(store: ImageStore, big: str, kill: signal.Signals) -> None:
    load(store, oci_files([ONE], ["before"]))
    hit = 0
    for step in range(12):
        process = loader(store, big)
        time.sleep(0.1 + step * 0.08)
        process.send_signal(kill)
        process.communicate()
        if kill == signal.SIGINT and process.returncode != 0 and "Keyboard" not in str(process.returncode):
            hit += 1
            assert leftovers(store.root) == []
        hit += kill == signal.SIGKILL and bool(os.listdir(store.root + "/work"))
        names = [name for image in store.list() for name in image.names]
        assert leftovers(store.root) == []
        assert "docker.io/library/before:latest" in names
        if "docker.io/library/big:latest" in names:
            store.remove("big")
    assert hit, "no kill came while a load was running"
    assert unpackers(store) == []


def unpackers(store: ImageStore) -> list[str]:
    """Processes whose root is inside the store."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/root").startswith(store.root):
                found.append(pid)
        except OSError:
            continue
    return found


def test_parallel_loads_of_one_archive(store: ImageStore, big: str) -> None:
    processes = [loader(store, big) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert len(store.list()) == 1
    assert leftovers(store.root) == []
    assert len(os.listdir(store.root + "/layers")) == 4


def test_removing_while_loading_keeps_what_is_loaded(store: ImageStore, big: str, tmp_path: Path) -> None:
    with open(big, "rb") as data:
        ImageStore(store.root).load(shutil.copy(data.name, tmp_path / "copy.tar"))
    process = loader(store, big)
    while process.poll() is None:
        try:
            store.remove("big")
        except ImageError:
            continue
    assert process.communicate()[1].decode() == ""
    assert leftovers(store.root) == []
    for image in store.list():
        assert all(os.path.isdir(os.path.join(image.layers_dir, name)) for name in image.layers)


@pytest.mark.parametrize("fill", ["bytes", "inodes"])
def test_a_full_disk(tmp_path: Path, big: str, fill: str) -> None:
    """In a mount namespace of its own, on a tmpfs that is too small."""
    size = "size=200m,nr_inodes=1000" if fill == "inodes" else "size=5m"
    code = (
        "import os, sys; from pyrun.errors import ImageError; from pyrun.images.store import ImageStore\n"
        "from pyrun.images.unpack import Limits\n"
        "store = ImageStore('store', Limits(size=1 << 30))\n"
        "try: store.load(sys.argv[1])\n"
        "except ImageError as error: print(error.sentence())\n"
        "print([os.listdir('store/' + name) for name in ('layers', 'facts', 'work', 'images', 'blobs')])\n"
    )
    shell = f'mount -t tmpfs -o {size} none "$0" && cd "$0" && "$1" -c "$2" "$3"'
    done = subprocess.run(
        [*OWN_MOUNTS, shell, str(tmp_path), sys.executable, code, big],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    first, second = done.stdout.splitlines()
    assert "No space left on device" in first
    assert "free some space" in first
    assert second == "[[], [], [], [], []]"


def test_a_disk_that_is_nearly_full_stops_a_bomb(tmp_path: Path, store: ImageStore, big: str) -> None:
    """Without limits of the caller's the free space is the limit, less a reserve for the host."""
    code = f"{LOAD.replace('sys.argv[1]', repr('store'))}"
    shell = 'mount -t tmpfs -o size=66m none "$0" && cd "$0" && "$1" -c "$2" x "$3"'
    done = subprocess.run(
        [*OWN_MOUNTS, shell, str(tmp_path), sys.executable, code, big],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert "the file system of the image store has no space for it" in done.stderr


def test_a_failed_write_of_the_index_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    os.makedirs(store.root + "/index.json/taken")
    with pytest.raises((ImageError, OSError)):
        load(store, oci_files([ONE], ["app"]))
    os.rmdir(store.root + "/index.json/taken")
    os.rmdir(store.root + "/index.json")
    assert store.list() == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a tar"),
        (b"hello" * 1000, "not a tar"),
        (gzip.compress(b"hello" * 1000, mtime=0), "not a tar"),
        (gzip.compress(os.urandom(5000), mtime=0)[:3000], "truncated gzip"),
        (b"\x1f\x8b" + b"x" * 600, "damaged gzip"),
        (ONE, "neither index.json nor manifest.json"),
    ],
)
def test_files_that_are_no_images(store: ImageStore, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        store.load(str(tmp_path / "file"))
    assert leftovers(store.root) == []


def test_a_file_that_is_not_there(store: ImageStore) -> None:
    with pytest.raises(ImageError, match=r"/nowhere cannot be read: No such file"):
        store.load("/nowhere")
    with pytest.raises(ImageError, match=r"/nowhere cannot be read: No such file"):
        store.import_rootfs("/nowhere", "x", ImageConfig())


@pytest.mark.parametrize(
    ("document", "change", "reason"),
    [
        ("index.json", b"{", "not valid"),
        ("index.json", b'{"manifests": []}', "no image in it"),
        ("index.json", b'{"manifests": [{"digest": 5}]}', "not valid"),
        ("manifest.json", b"[]", "no image in it"),
        ("manifest.json", b'[{"Config": "../x", "Layers": []}]', "'../x' is missing"),
        ("manifest.json", b'[{"Config": "c.json", "Layers": []}]', "names 1 layers, the manifest 0"),
    ],
)
def test_documents_that_make_no_sense(store: ImageStore, document: str, change: bytes, reason: str) -> None:
    files = docker_files([ONE]) if document == "manifest.json" else oci_files([ONE])
    files[document] = change
    with pytest.raises(ImageError, match=reason):
        load(store, files)
    assert leftovers(store.root) == []


def test_resolve_is_cheap(store: ImageStore) -> None:
    """Nothing heavy is imported on the way of every container."""
    load(store, oci_files([ONE], ["app"]))
    code = (
        "import sys; from pyrun.images.store import ImageStore; ImageStore(sys.argv[1]).resolve('app')\n"
        "print(sorted({'tarfile', 'hashlib', 'subprocess', 'shutil', 'prctl', 'tempfile'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.root], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_unpacking_child_has_the_layer_as_its_root(store: ImageStore, big: str) -> None:
    """The wall behind the checks of paths: no path means anything outside."""
    process = loader(store, big)
    seen: list[str] = []
    while process.poll() is None and not seen:
        seen = unpackers(store)
    process.communicate()
    assert seen


def test_the_child_cannot_import_from_the_layer() -> None:
    """Python's search path names directories that a layer may fill once it is the root."""
    code = "from pyrun.images import layers; layers._forbid_imports(); import this"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in done.stderr
    assert done.stdout == ""


def test_only_root_may_enter_the_store(store: ImageStore) -> None:
    """Layers hold setuid programs, which no other user of the host may run."""
    load(store, oci_files([ONE], ["app"]))
    assert os.stat(store.root).st_mode & 0o777 == 0o700
    assert os.stat(store.root + "/layers").st_mode & 0o777 == 0o700
