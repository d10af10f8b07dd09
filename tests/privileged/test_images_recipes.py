"""The images of the recipes, as built by `make images`: their programs run and do what the demo needs.

Each runs by chroot in an overlay, in namespaces of its own; the network is that of the tests.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.images.store import ImageStore
from pyrun.spec.image import Image

pytestmark = pytest.mark.requires("overlay")

ARCHIVES = os.environ.get("PYRUN_TEST_IMAGES", ".cache/images")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return ImageStore(str(tmp_path_factory.mktemp("store")))


def image_of(store: ImageStore, name: str) -> Image:
    archive = os.path.join(ARCHIVES, f"{name}.tar")
    if not os.path.exists(archive):
        reason = f"{archive} is missing (make images)"
        if os.environ.get("PYRUN_MUST_WORK") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return store.load(archive)[0]


class Rooted:
    """Runs programs in an image's root file system, with a directory of ours at /var/log/nginx."""

    def __init__(self, image: Image, place: Path) -> None:
        self.image = image
        self.logs = place / "logs"
        self.place = place
        for name in ("logs", "up"):
            (place / name).mkdir()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        lower = ":".join(os.path.join(self.image.layers_dir, name) for name in reversed(self.image.layers))
        shell = (
            'set -e; mount -t tmpfs none "$0"; mkdir "$0/u" "$0/w" "$0/m"; '
            'mount -t overlay overlay -o "lowerdir=$1,upperdir=$0/u,workdir=$0/w" "$0/m"; '
            'mount -t proc proc "$0/m/proc"; mount --rbind /dev "$0/m/dev"; '
            'mkdir -p "$0/m/var/log/nginx"; mount --bind "$2" "$0/m/var/log/nginx"; '
            'm="$0/m"; shift 2; exec chroot "$m" "$@"'
        )
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        words = [str(self.place / "up"), lower, str(self.logs), *command]
        return subprocess.Popen(
            [*namespaces, "sh", "-c", shell, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(word.split("=", 1) for word in self.image.config.env),
        )

    def output(self, *command: str) -> str:
        out, errors = self.start(*command).communicate(timeout=20)
        assert errors == b""
        return out.decode()


@pytest.fixture
def rooted(store: ImageStore, tmp_path: Path, request: pytest.FixtureRequest) -> Rooted:
    return Rooted(image_of(store, request.param), tmp_path)


@pytest.mark.parametrize("rooted", ["busybox"], indirect=True)
def test_busybox(rooted: Rooted) -> None:
    assert rooted.image.config.cmd == ("sh",)
    script = "id -un; id -u nobody; stat -c %a /tmp; ls / | wc -l; echo hi | sed s/h/H/; /usr/bin/env true; echo $?"
    assert rooted.output("sh", "-c", script).split()[:3] == ["root", "65534", "1777"]
    assert rooted.output("sh", "-c", script).split()[-2:] == ["Hi", "0"]


@pytest.fixture
def running(rooted: Rooted) -> Iterator[subprocess.Popen[bytes]]:
    process = rooted.start(*rooted.image.config.cmd)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("rooted", ["nginx"], indirect=True)
def test_nginx_serves_and_logs_to_files(rooted: Rooted, running: subprocess.Popen[bytes]) -> None:
    assert rooted.image.config.stop_signal == "SIGQUIT"
    assert rooted.image.config.exposed_ports == ("80/tcp",)
    deadline = time.monotonic() + 10
    page = b""
    while not page and time.monotonic() < deadline:
        try:
            page = urllib.request.urlopen("http://127.0.0.1/index.html", timeout=2).read()
        except OSError:
            assert running.poll() is None, running.communicate()[1]
            time.sleep(0.05)
    assert b"It works" in page
    line = (rooted.logs / "access.log").read_text()
    assert '"GET /index.html HTTP/1.1" 200' in line
    workers = [pid for pid in children_of(running.pid) if b"nginx: master" in command_line(pid)]
    os.kill(int(workers[0]), signal.SIGQUIT)
    assert running.wait(timeout=10) == 0


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def command_line(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("rooted", ["collector"], indirect=True)
def test_the_collector_prints_each_line_as_it_is(rooted: Rooted, running: subprocess.Popen[bytes]) -> None:
    lines = [
        '10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/7.88.1"',
        "  leading blanks, a tab\there, %percent% and ümläut",
        "x" * 20_000,
    ]
    log = rooted.logs / "access.log"
    assert running.stdout is not None
    time.sleep(0.3)
    with log.open("a") as out:
        out.write(lines[0] + "\n")
    assert read_line(running) == lines[0]
    for line in lines[1:]:
        with log.open("a") as out:
            out.write(line + "\n")
        began = time.monotonic()
        assert read_line(running) == line
        assert time.monotonic() - began < 10
    # As logrotate does it.
    log.rename(rooted.logs / "access.log.1")
    log.write_text("after rotation\n")
    assert read_line(running) == "after rotation"


def read_line(process: subprocess.Popen[bytes]) -> str:
    """Read one line of stdout, 10 s at most."""
    assert process.stdout is not None
    line = b""
    deadline = time.monotonic() + 10
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            pytest.fail(f"no line came; so far {line!r}")
        data = os.read(process.stdout.fileno(), 1 << 16)
        if not data:
            pytest.fail(f"it ended: {process.communicate()[1].decode()}")
        line += data
    return line.decode().rstrip("\n")
