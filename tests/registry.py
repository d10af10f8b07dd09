"""A real registry for tests: Debian's docker-registry on loopback, in the network namespace of the tests."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIG = """
version: 0.1
log: {{ level: error, accesslog: {{ disabled: true }} }}
storage: {{ filesystem: {{ rootdirectory: {root} }} }}
http: {{ addr: "127.0.0.1:{port}" }}
"""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_registry(place: Path) -> Iterator[str]:
    """Run a registry that keeps its data in a directory; gives its host and port."""
    port = free_port()
    (place / "config.yml").write_text(CONFIG.format(root=place / "data", port=port))
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(
            ["docker-registry", "serve", str(place / "config.yml")], stdout=log, stderr=log
        )
    try:
        _wait_for(port, server, place / "log")
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=10)


def push(source: str, name: str) -> None:
    """Copy an image, named as skopeo names it, to a registry on loopback."""
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
    subprocess.run([*command, source, f"docker://{name}"], check=True, timeout=60)


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail(f"docker-registry does not listen: {log.read_text()}")
