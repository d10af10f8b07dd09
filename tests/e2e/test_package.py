"""The package: built from a copy of the tree by pip, installed elsewhere, used from outside the tree."""

from __future__ import annotations

import ast
import os
import shutil
import stat
import struct
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.probes import pods

TREE = Path(__file__).parents[2]
SCRIPT = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["scripts"]["pyrun"]
PROGRAMS = ("pause", "lasthop", "monitor")

pytestmark = pytest.mark.requires("build_tools")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the files that git knows (as they are now) in a directory of their own."""
    directory = tmp_path_factory.mktemp("package")
    source = directory / "source"
    for name in sources():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / name, source / name)
    if not (source / "README.md").exists():
        (source / "README.md").write_text("# pyrun\n")
    command = ("wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(directory))
    pip(source, *command)
    [path] = directory.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The directory into which the wheel was installed."""
    target = wheel.parent / "target"
    pip(wheel.parent, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    return target


def sources() -> list[str]:
    """Return the files of the tree that are not ignored."""
    listed = subprocess.run(
        [
            "git",
            "-c",
            f"safe.directory={TREE}",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip(f"the tree is not a git repository: {listed.stderr.strip()}")
    return [name for name in listed.stdout.split("\0") if name and (TREE / name).is_file()]


def pip(directory: Path, *arguments: str) -> None:
    """Run pip, with the build tools of the environment in reach."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def pyrun(installed: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the installed command from outside the tree."""
    module, _, function = SCRIPT.partition(":")
    return subprocess.run(
        [sys.executable, "-c", f"from {module} import {function}; {function}()", *arguments],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_module_and_no_other_file_is_in_the_wheel(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("pyrun/")}
    expected = {name for name in sources() if name.startswith("pyrun/") and name.endswith((".py", ".pyi"))}
    compiled = {name for name in names if name.startswith("pyrun/kernel/_kernel.") and name.endswith(".so")}
    assert len(compiled) == 1
    expected |= {
        f"pyrun/lab/texts/{name.removeprefix('lab/')}" for name in sources() if name.startswith("lab/")
    }
    assert names - compiled == expected | {"pyrun/py.typed", "pyrun/network/_nftables.py"} | {
        f"pyrun/libexec/{name}" for name in PROGRAMS
    }


def test_the_wheel_knows_its_command_and_its_requirements(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [entries] = [n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt")]
    assert archive.read(entries).decode().split() == ["[console_scripts]", "pyrun", "=", SCRIPT]
    metadata = archive.read(entries.replace("entry_points.txt", "METADATA")).decode()
    for name in ("cffi", "click", "msgspec", "pyroute2", "python-prctl", "PyYAML"):
        assert f"Requires-Dist: {name}" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_the_installed_command_works_outside_the_tree(installed: Path) -> None:
    result = pyrun(installed, "version")
    assert result.returncode == 0, result.stderr
    assert "0.1.0" in result.stdout
    where = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pyrun, pyrun.kernel._kernel as k; print(pyrun.__file__); print(k.__file__)",
        ],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(line.startswith(str(installed)) for line in where.stdout.split())


def test_the_installed_command_plans(installed: Path) -> None:
    manifest = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n"
        "spec:\n  containers:\n  - {name: nginx, image: nginx, command: [nginx]}\n"
    )
    result = pyrun(installed, "plan", "-f", "-", stdin=manifest)
    assert result.returncode == 0, result.stderr
    assert "pivot_root" in result.stdout


def test_the_installed_command_has_the_exercises_of_the_lab(installed: Path) -> None:
    result = pyrun(installed, "lab", "list")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1 + len(list((TREE / "lab").glob("*.md")))


def test_the_installed_command_runs_a_pod(installed: Path, tmp_path: Path) -> None:
    reason = pods()
    if reason:
        pytest.skip(reason)
    if not os.path.exists("/bin/busybox"):
        pytest.skip("/bin/busybox is missing (Debian package busybox-static)")
    root = tmp_path / "root" / "bin"
    root.mkdir(parents=True)
    shutil.copy("/bin/busybox", root)
    places = ("--root", f"{tmp_path}/disk", "--state", f"{tmp_path}/state")
    result = pyrun(
        installed,
        *places,
        "run",
        "--rm",
        "--host-network",
        "--rootfs",
        str(root.parent),
        "busybox",
        "echo",
        "hello",
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello\n", "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_are_static_and_small(installed: Path, name: str) -> None:
    path = installed / "pyrun/libexec" / name
    content = path.read_bytes()
    assert content.startswith(b"\x7fELF")
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0o111
    assert interpreters(content) == []
    if shutil.which("musl-gcc") is None:
        pytest.skip(
            "musl-gcc is missing (Debian package musl-tools): with glibc a static program has some 700 KB"
        )
    assert len(content) < 20_000


def interpreters(content: bytes) -> list[int]:
    """Return the offsets of the PT_INTERP program headers of a 64-bit ELF file, elf(5)."""
    table = struct.unpack_from("<Q", content, 32)[0]
    size, count = struct.unpack_from("<HH", content, 54)
    headers = [struct.unpack_from("<IIQ", content, table + index * size) for index in range(count)]
    assert any(kind == 1 for kind, _, _ in headers), "no PT_LOAD: these are not program headers"
    return [offset for kind, _, offset in headers if kind == 3]


def test_pause_says_its_version(installed: Path) -> None:
    result = subprocess.run(
        [installed / "pyrun/libexec/pause", "--version"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    assert "0.1.0" in result.stdout


def test_the_installed_package_is_typed(installed: Path) -> None:
    assert (installed / "pyrun/py.typed").read_bytes() == b""
    stub = (installed / "pyrun/kernel/_kernel.pyi").read_text()
    ast.parse(stub)
