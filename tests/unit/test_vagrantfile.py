"""The Vagrantfile, as Vagrant itself reads it; without a provider, a box or a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]

vagrant = pytest.mark.skipif(
    shutil.which("vagrant") is None, reason="vagrant is not installed (Debian package vagrant)"
)


def validate(vagrantfile: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `vagrant validate` on a text; what it remembers goes below the directory."""
    (directory / "Vagrantfile").write_text(vagrantfile)
    return subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=directory,
        env={
            **os.environ,
            "VAGRANT_HOME": str(directory / "home"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_CWD": str(directory),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@vagrant
def test_vagrant_takes_it(tmp_path: Path) -> None:
    done = validate((TREE / "Vagrantfile").read_text(), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@vagrant
def test_vagrant_would_say_what_it_does_not_know(tmp_path: Path) -> None:
    text = (TREE / "Vagrantfile").read_text().replace("config.vm.hostname", "config.vm.hostnames")
    done = validate(text, tmp_path)
    assert done.returncode != 0
    assert "hostnames" in done.stdout + done.stderr


def test_it_provisions_with_the_script_that_is_tested() -> None:
    assert 'inline: "/vagrant/tools/provision"' in (TREE / "Vagrantfile").read_text()
    assert os.access(TREE / "tools/provision", os.X_OK)
