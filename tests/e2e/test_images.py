"""Images in Pods, through the command line: from a real registry by policy, from an archive, or missing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli
from tests.privileged.images_kit import oci_files, pack
from tests.registry import free_port, push, running_registry

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")
with_registry = pytest.mark.requires("skopeo", "docker_registry")


def archive(cli: Cli, directory: Path, text: str) -> Path:
    """Make a tar of the busybox root with a file /version that says `text`."""
    path = directory / f"{text}.tar"
    version = directory / "version"
    version.write_text(text)
    subprocess.run(["tar", "-C", cli.rootfs, "-cf", path, "."], check=True)
    subprocess.run(["tar", "-C", directory, "-rf", path, "version"], check=True)
    return path


def manifest(image: str, policy: str, name: str = "test") -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {"name": "c0", "image": image, "imagePullPolicy": policy, "command": ["cat", "/version"]}
                ],
            },
        }
    )


def version_of(cli: Cli, image: str, policy: str) -> str:
    """Run a Pod of an image and return which version of it that was."""
    cli.ok("pod", "create", "-f", "-", "--wait=exit", stdin=manifest(image, policy))
    text = cli.log("test")
    cli.ok("pod", "rm", "test")
    return text


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    place = tmp_path / "registry"
    place.mkdir()
    with running_registry(place) as address:
        yield address


def publish(cli: Cli, tmp_path: Path, name: str, text: str) -> None:
    """Push an image whose /version says `text`."""
    content = archive(cli, tmp_path, text).read_bytes()
    packed = pack(str(tmp_path / f"{text}.oci.tar"), oci_files([content], ["push:me"]))
    push(f"oci-archive:{packed}", name)


@with_registry
def test_pull_policies(cli: Cli, tmp_path: Path, registry: str) -> None:
    name = f"{registry}/app:1"
    publish(cli, tmp_path, name, "one")
    assert version_of(cli, name, "IfNotPresent") == "one"  # pulled: it was missing
    publish(cli, tmp_path, name, "two")
    assert version_of(cli, name, "IfNotPresent") == "one"
    assert version_of(cli, name, "Never") == "one"
    assert version_of(cli, name, "Always") == "two"


@with_registry
def test_always_fails_without_its_registry_but_not_for_an_image_from_here(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    with running_registry(tmp_path / "gone") as address:
        name = f"{address}/app:1"
        publish(cli, tmp_path, name, "one")
        cli.ok("image", "pull", name)
    result = cli.run("pod", "create", "-f", "-", stdin=manifest(name, "Always"))
    assert result.returncode == 1
    assert name in result.stderr
    cli.ok("image", "import", str(archive(cli, tmp_path, "here")), "made-here")
    assert version_of(cli, "made-here", "Always") == "here"


def test_a_missing_image_under_never(cli: Cli) -> None:
    result = cli.run("pod", "create", "-f", "-", stdin=manifest("nowhere", "Never"))
    assert result.returncode == 1
    assert "nowhere" in result.stderr
    assert "Never" in result.stderr
    assert "pyrun image" in result.stderr
    assert not os.path.exists(cli.layout.pods)


@with_registry
def test_a_registry_that_cannot_be_reached(cli: Cli) -> None:
    name = f"127.0.0.1:{free_port()}/app"
    result = cli.run("pod", "create", "-f", "-", stdin=manifest(name, "IfNotPresent"))
    assert result.returncode == 1
    assert name in result.stderr
    assert "Traceback" not in result.stderr
    result = cli.run("run", "--rm", name, "true")
    assert result.returncode == 125


def test_an_invalid_image_name_is_bad_input(cli: Cli) -> None:
    result = cli.run("pod", "create", "-f", "-", stdin=manifest("UPPER/Case", "IfNotPresent"))
    assert result.returncode == 2
    assert "UPPER/Case" in result.stderr


def test_a_container_does_not_change_its_image(cli: Cli, tmp_path: Path) -> None:
    cli.ok("image", "import", str(archive(cli, tmp_path, "kept")), "kept", "--cmd", "cat /version")
    assert cli.ok("run", "--rm", "kept", "sh", "-c", "echo changed > /version; cat /version") == "changed\n"
    assert cli.ok("run", "--rm", "kept") == "kept"
