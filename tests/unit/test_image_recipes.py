"""The builder of images, without a network: what it packs does not depend on when and where."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

IMAGES = Path(__file__).parents[2] / "images"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("images_build", str(IMAGES / "build"))
    spec = importlib.util.spec_from_loader("images_build", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


def grow(tree: Path, names: list[str]) -> Path:
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
        os.utime(tree / name, (1000, 1000))
    os.link(tree / names[-1], tree / "zlink")
    return tree


def test_an_archive_depends_on_its_files_alone(builder: ModuleType, tmp_path: Path) -> None:
    names = ["b/x", "a/y", "c"]
    first = builder.layer_of(grow(tmp_path / "1", names), 2000)
    time.sleep(0.01)
    second = builder.layer_of(grow(tmp_path / "2", ["a/y", "b/x", "c"]), 2000)
    assert first == second
    archives = [builder.oci_archive("app", {"Cmd": ["x"]}, data, 2000) for data in (first, second)]
    assert archives[0] == archives[1]
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [".", "./a", "./a/y", "./b", "./b/x", "./c", "./zlink"]
    assert {member.mtime for member in members} == {1000, 2000}
    assert {member.uname + member.gname for member in members} == {""}
    assert members[-1].islnk()


def test_what_is_up_to_date_is_not_built(builder: ModuleType, tmp_path: Path) -> None:
    suite = builder.host_suite()
    (tmp_path / "busybox.tar").write_text("the archive")
    (tmp_path / "busybox.key").write_text(builder.cache_key("busybox", suite))
    command = [str(IMAGES / "build"), "--output", str(tmp_path), "busybox"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/busybox.tar: up to date\n"
    assert (tmp_path / "busybox.tar").read_text() == "the archive"
    assert builder.cache_key("busybox", "other") != builder.cache_key("busybox", suite)
    assert builder.cache_key("busybox", suite) != builder.cache_key("nginx", suite)


def test_an_unknown_image_is_refused(tmp_path: Path) -> None:
    command = [str(IMAGES / "build"), "--output", str(tmp_path), "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no recipe for nothing; there are busybox, collector, nginx" in done.stderr


def test_without_mmdebstrap_nothing_is_left(tmp_path: Path) -> None:
    command = [sys.executable, str(IMAGES / "build"), "--output", str(tmp_path / "out"), "busybox"]
    (tmp_path / "tmp").mkdir()
    environment = {"PATH": "/nowhere", "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "mmdebstrap is missing" in done.stderr or "run as root" in done.stderr
    assert os.listdir(tmp_path / "out") == []
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize("name", ["busybox", "nginx", "collector"])
def test_recipes_are_complete(name: str) -> None:
    recipe = tomllib.loads((IMAGES / name / "recipe.toml").read_text())
    assert recipe["packages"]
    assert recipe["config"]["Cmd"]
    assert (IMAGES / name / "README.md").read_text().startswith(f"# {name}\n")
