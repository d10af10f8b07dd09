"""tools/provision, run for real: only where the machine may be changed for good, the guest of tests/vm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]

pytestmark = pytest.mark.requires("disposable")


def provision() -> str:
    """Run the script as `vagrant provision` does, without a network: the guest has the packages and the wheels."""
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/opt/wheels",
    }
    done = subprocess.run(
        [str(TREE / "tools/provision")],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_installs_pyrun_and_does_so_again(tmp_path: Path) -> None:
    assert "pyrun" in provision()
    command = Path("/usr/local/bin/pyrun")
    assert command.resolve() == Path("/opt/pyrun/bin/pyrun")
    # From elsewhere, so that it is not the tree that answers.
    where = subprocess.run(
        ["/opt/pyrun/bin/python", "-c", "import pyrun; print(pyrun.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    installed = Path(where.stdout.strip())
    assert installed.is_relative_to("/opt/pyrun")
    assert os.access(installed.parent / "libexec/pause", os.X_OK)
    installed.write_text("raise SystemExit('an old pyrun')\n")
    provision()
    subprocess.run([str(command), "version"], cwd=tmp_path, check=True)
