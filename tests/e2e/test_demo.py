"""The demonstration, and its Pod piece by piece: what a stranger sees first must hold.

The demonstration runs in an instance of its own below /var/lib and /run, named after this test process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from pyrun.spec.layout import Layout
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.leaks import assert_nothing_left, snapshot

TREE = Path(__file__).resolve().parents[2]
IMAGES = Path(os.environ.get("PYRUN_TEST_IMAGES", TREE / ".cache/images"))
LONGEST = 90 * SLOW

pytestmark = pytest.mark.requires("pods", "nftables")


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Skip, with the reason, when there are no images or no curl."""
    missing = [name for name in ("busybox", "nginx", "collector") if not (IMAGES / f"{name}.tar").exists()]
    reason = f"{', '.join(missing)} not built in {IMAGES} (make images)" if missing else ""
    if shutil.which("curl") is None:
        reason = "curl is not installed (Debian package)"
    if reason and os.environ.get("PYRUN_MUST_WORK") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@dataclasses.dataclass
class Demo:
    """How the demonstration is run."""

    program: Path
    instance: str
    layout: Layout

    def start(self, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start it in a session of its own, as a terminal would."""
        return subprocess.Popen(
            [
                *(TREE / "demo/run", "--pyrun", self.program),
                *("--images", IMAGES, "--instance", self.instance),
            ],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYRUN_")},
        )

    def directories(self) -> list[str]:
        """Return those of its two directories that are there."""
        return [path for path in (self.layout.root, self.layout.state) if os.path.exists(path)]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demonstration that has left nothing when the test ends."""
    name = f"pyrun-demo-test-{os.getpid()}"
    program = tmp_path / "pyrun"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={TREE} exec {sys.executable} -m pyrun "$@"\n')
    program.chmod(0o755)
    layout = Layout.of(f"/var/lib/{name}", f"/run/{name}")
    before = snapshot(layout)
    demo = Demo(program, name, layout)
    try:
        yield demo
        assert demo.directories() == []
        assert_nothing_left(before, layout)
    finally:
        if demo.directories():
            options = ["--root", layout.root, "--state", layout.state]
            subprocess.run([program, *options, "pod", "rm", "--all", "--force"], check=True)
            for path in demo.directories():
                shutil.rmtree(path)


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process if a test fails while it runs."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read what a process prints until a line contains `text`; return what was read."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(f"ended before {text!r}:\n{read}")


def test_shows_what_it_says_and_leaves_nothing(demo: Demo) -> None:
    process = demo.start()
    with ended(process):
        stdout, stderr = process.communicate(timeout=LONGEST)
    assert (process.returncode, stderr) == (0, "")
    assert "\033" not in stdout, "colours are for terminals"
    in_order = (
        r"\$ pyrun image load \S*nginx\.tar\n  loaded nginx:latest\n",
        r"\$ pyrun pod create -f demo/web\.yaml --explain --no-supervise\n",
        r"\n +\d+\.\d\d ms +sethostname\(\"web\"\)\n",
        r"\n  web [0-9a-f-]{36}\n",
        r"\n  web +3/3 +Running +\d+\.\d+\.\d+\.\d+ ",
        r"\n\$ curl -sS --noproxy '\*' http://\S+/\n  Hello from the first configuration\n",
        r"\n\$ pyrun logs web -c collector --tail 1\n  \S+ - - \[.*\] \"GET / HTTP/1\.1\" 200 35 ",
        r"\n  net +(\d+) +(?!\1)(\d+) +\2 +\2 +\2 ",
        r"\n +1 root +pause\n +\d+ root +nginx: master process",
        r"\n\$ pyrun exec web -c reloader -- sed -i ",
        r"\n\$ curl .*\n  Hello from the second configuration\n",
        r"\n\$ pyrun pod stop web\n(.|\n)* web +0/3 +Completed ",
        r"\n\$ pyrun pod rm web\n",
        r"\n  cgroups +0 +ctr-collector, ctr-nginx, ctr-reloader, ",
        r"\n  network links +0 +py",
    )
    position = 0
    for pattern in in_order:
        found = re.compile(pattern).search(stdout, max(position - 1, 0))
        assert found, f"not seen (after what comes before it): {pattern}\n{stdout}"
        position = found.end()


MOMENTS = [
    ("1. Three images", 0.0),
    ("nginx.tar", 0.2),
    ("$ pyrun pod create", 0.15),
    ("$ pyrun pod create", 0.25),
    ("5. A changed file", 0.1),
    ("$ pyrun pod stop", 0.1),
    ("$ pyrun pod rm", 0.1),
]


@pytest.mark.parametrize(("line", "delay"), MOMENTS)
def test_interrupted_leaves_nothing(demo: Demo, line: str, delay: float) -> None:
    process = demo.start()
    with ended(process):
        read_until(process, line)
        time.sleep(delay)
        # Ctrl-C reaches every process of the terminal's foreground group.
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert stderr == "\nInterrupted: all that was made has been removed again.\n"


def test_a_second_interrupt_does_not_stop_the_removal(demo: Demo) -> None:
    process = demo.start()
    with ended(process):
        read_until(process, "4. What sharing")
        while demo.directories():
            os.killpg(process.pid, signal.SIGTERM)
            time.sleep(0.02)
        _, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == 128 + signal.SIGTERM, stderr


def test_a_spectator_who_leaves_is_no_reason_to_leave_anything(demo: Demo) -> None:
    process = demo.start()
    with ended(process):
        read_until(process, "$ pyrun pod create")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=LONGEST) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.mark.parametrize(("line", "delay"), [("nginx.tar", 0.2), ("$ pyrun pod create", 0.15)])
def test_what_a_killed_one_left_is_removed_by_the_next(demo: Demo, line: str, delay: float) -> None:
    process = demo.start()
    with ended(process):
        read_until(process, line)
        time.sleep(delay)
        process.kill()
        process.communicate()
    assert demo.directories()
    process = demo.start()
    with ended(process):
        stdout, stderr = process.communicate(timeout=LONGEST)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.startswith("Removing what an earlier demonstration has left.\n")


def test_a_failing_step_is_named_and_leaves_nothing(demo: Demo, tmp_path: Path) -> None:
    # This pyrun cannot show a log.
    real = tmp_path / "real"
    demo.program.rename(real)
    demo.program.write_text(
        f'#!/bin/sh\n[ "$1" = logs ] && {{ echo broken >&2; exit 3; }}\nexec {real} "$@"\n'
    )
    demo.program.chmod(0o755)
    process = demo.start()
    with ended(process):
        stdout, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == 1
    assert stderr == "\ndemo: pyrun logs web -c collector --tail 1 ended with code 3\nbroken\n"
    assert "4. " not in stdout


def test_two_at_a_time_do_not_disturb_each_other(demo: Demo) -> None:
    first = demo.start()
    with ended(first):
        read_until(first, "2. One manifest")
        second = demo.start()
        with ended(second):
            first.communicate(timeout=LONGEST)
            stdout, stderr = second.communicate(timeout=LONGEST)
    assert (first.returncode, second.returncode, stderr) == (0, 0, "")
    assert "Removing what an earlier" not in stdout


class Web:
    """The Pod of demo/web.yaml."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        for name in ("busybox", "nginx", "collector"):
            cli.ok("image", "load", str(IMAGES / f"{name}.tar"))
        cli.ok("pod", "create", "-f", str(TREE / "demo/web.yaml"))
        self.address = json.loads(cli.ok("pod", "inspect", "web"))["status"]["podIP"]

    def curl(self, path: str = "/") -> str:
        """Ask nginx from the host; empty when it does not answer."""
        return subprocess.run(
            ["curl", "-sS", "--noproxy", "*", f"http://{self.address}{path}"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout

    def exec(self, container: str, *command: str) -> str:
        """Run a program in a container and return its output."""
        return self.cli.ok("exec", "web", "-c", container, "--", *command)

    def answers(self, text: str) -> Callable[[], bool]:
        """Return whether nginx answers with `text`, as a question."""
        return lambda: text in self.curl()


@pytest.fixture(scope="module")
def web(module_cli: Cli) -> Iterator[Web]:
    """The Pod, created by hand."""
    yield Web(module_cli)
    module_cli.ok("pod", "rm", "-f", "web")


def test_nginx_answers_at_the_address_of_the_pod(web: Web) -> None:
    eventually(web.answers("Hello from the first configuration\n"))


def test_a_request_arrives_in_the_output_of_the_collector(web: Web) -> None:
    eventually(web.answers("Hello"))
    web.curl("/asked-by-the-test")
    log = web.cli.wait_for_log("web", "/asked-by-the-test", "collector")
    lines = [line for line in log.splitlines() if "/asked-by-the-test" in line]
    assert len(lines) == 1
    assert re.fullmatch(
        r'[\d.]+ - - \[.*\] "GET /asked-by-the-test HTTP/1.1" 200 \d+ "-" "curl/.*"', lines[0]
    )


def test_the_containers_share_what_the_manifest_says(web: Web) -> None:
    eventually(web.answers("Hello"))
    assert {web.exec(name, "cat", "/etc/hostname") for name in ("nginx", "collector", "reloader")} == {
        "web\n"
    }
    assert "Hello" in web.exec("reloader", "wget", "-q", "-O", "-", "http://127.0.0.1/")
    processes = web.exec("reloader", "ps")
    assert re.search(r"^ +1 root +pause$", processes, re.M)
    assert {"nginx:", "rsyslogd"} <= set(re.findall(r"nginx:|rsyslogd", processes))
    ahead = float(web.exec("nginx", "cat", "/proc/uptime").split()[0]) - time.clock_gettime(
        time.CLOCK_BOOTTIME
    )
    assert abs(ahead - 24 * 3600) < 60 * SLOW


def test_an_edited_configuration_reloads_nginx(web: Web) -> None:
    eventually(web.answers("Hello"))
    masters = [line for line in web.exec("reloader", "ps").splitlines() if "nginx: master" in line]
    web.exec("reloader", "sed", "-i", "s/first/edited/", "site.conf")
    eventually(web.answers("Hello from the edited configuration\n"))
    assert [line for line in web.exec("reloader", "ps").splitlines() if "nginx: master" in line] == masters
    eventually(lambda: web.cli.log("web", "reloader").count("sent SIGHUP to nginx") == 2)
    # One that nginx refuses leaves it as it is.
    web.exec("reloader", "sh", "-c", "echo nonsense > broken.conf")
    eventually(lambda: "broken.conf" in web.exec("nginx", "cat", "/var/log/nginx/error.log"))
    assert "edited" in web.curl()
    web.exec("reloader", "rm", "broken.conf")


def test_stops_by_itself_and_at_once(web: Web) -> None:
    eventually(web.answers("Hello"))
    begun = time.monotonic()
    web.cli.ok("pod", "stop", "web")
    assert time.monotonic() - begun < 25 * SLOW, "nobody waited for SIGKILL"
    statuses = json.loads(web.cli.ok("pod", "inspect", "web"))["status"]["containerStatuses"]
    assert {status["name"]: status["state"]["terminated"]["exitCode"] for status in statuses} == {
        "nginx": 0,
        "collector": 0,
        "reloader": 0,
    }
