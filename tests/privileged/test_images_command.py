"""`pyrun image` from the command line: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.privileged.images_kit import device, file, layer, leftovers, oci_files, pack, sha256

pytestmark = pytest.mark.requires("overlay")

ONE = layer(file("one", b"x" * 1500))
MAIN = "from pyrun.cli.main import main; main()"


class Command:
    def __init__(self, place: Path) -> None:
        self.root = str(place / "root")
        self.words = [
            sys.executable,
            "-c",
            MAIN,
            "--root",
            self.root,
            "--state",
            str(place / "state"),
            "image",
        ]

    def __call__(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*self.words, *words], input=stdin, capture_output=True, check=False)
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def image(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return pack(str(tmp_path / "one.tar"), oci_files([ONE], ["one:1"], Cmd=["/one"]))


def test_load_list_inspect_remove(image: Command, archive: str) -> None:
    assert image("load", archive).stdout == "loaded one:1\n"
    assert image("load", "-", "--name", "other", stdin=Path(archive).read_bytes()).stdout == (
        "loaded one:1, other:latest\n"
    )
    table = image("ls").stdout.splitlines()
    assert table[0].split() == ["NAME", "ID", "CREATED", "SIZE"]
    (found,) = json.loads(image("ls", "-o", "json").stdout)
    short = found["id"][7:19]
    assert [line.split() for line in table[1:]] == [
        ["one:1", short, "1.5", "kB"],
        ["other:latest", short, "1.5", "kB"],
    ]
    (details,) = json.loads(image("inspect", short).stdout)
    assert details["image"]["config"] == {"cmd": ["/one"]}
    assert details["layers"][0]["diff_id"] == sha256(ONE)
    assert image("rm", "one:1", "other").stdout == (
        f"removed one:1\nremoved other:latest\nremoved {found['id']}\n"
    )
    assert json.loads(image("ls", "-o", "json").stdout) == []


def test_import(image: Command, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(ONE)
    options = [
        "--cmd",
        "-g 'daemon off;'",
        "--entrypoint",
        "/sbin/app",
        "-e",
        "A=1",
        "-e",
        "B=",
        "-w",
        "/srv",
    ]
    done = image(
        "import", *options, "-u", "33", "--stop-signal", "SIGQUIT", str(tmp_path / "rootfs.tar"), "mine"
    )
    assert (done.stdout, done.stderr) == ("imported mine:latest\n", "")
    (details,) = json.loads(image("inspect", "mine").stdout)
    assert details["image"]["config"] == {
        "entrypoint": ["/sbin/app"],
        "cmd": ["-g", "daemon off;"],
        "env": ["A=1", "B="],
        "working_dir": "/srv",
        "user": "33",
        "stop_signal": "SIGQUIT",
    }


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("inspect", "nothing"), 1, "there is no image nothing:latest in the store"),
        (("inspect", "No/thing"), 1, "there is no image No/thing:latest"),
        (("inspect", "a//b"), 2, "invalid image name 'a//b': a part of the path is empty"),
        (("rm", "nothing"), 1, "there is no image"),
        (("load", "/nowhere"), 1, "/nowhere cannot be read: No such file or directory"),
        (("import", "-e", "NOVALUE", "x.tar", "x"), 2, "--env 'NOVALUE' is not KEY=VALUE"),
        (("import", "--cmd", "'open", "x.tar", "x"), 2, "cannot be split into words"),
    ],
)
def test_errors_are_one_sentence(image: Command, words: tuple[str, ...], code: int, reason: str) -> None:
    done = image(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("pyrun: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_refused_layer_is_one_sentence(image: Command, tmp_path: Path) -> None:
    evil = pack(str(tmp_path / "evil.tar"), oci_files([layer(device("disk", 8, 0))]))
    done = image("load", evil)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is refused: it has the character device 8:0 at 'disk', which is not allowed" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_an_interrupted_load_leaves_nothing(image: Command, tmp_path: Path, number: int, code: int) -> None:
    layers = [layer(*(file(f"{n}/{i}", os.urandom(999)) for i in range(3000))) for n in range(4)]
    big = pack(str(tmp_path / "big.tar"), oci_files(layers, ["big"], squeeze=bytes))
    process = subprocess.Popen(
        [*image.words, "load", big], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    store = f"{image.root}/images"
    deadline = time.monotonic() + 20
    while not (os.path.isdir(f"{store}/layers") and os.listdir(f"{store}/layers")):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code, errors
    assert "undone" in errors
    assert leftovers(store) == []
    assert os.listdir(f"{store}/layers") == []
