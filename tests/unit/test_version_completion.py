"""`pyrun version` and `pyrun completion`: they need neither root nor a host that can run Pods."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyrun import __version__
from tests.unprivileged import run_as_nobody

PYRUN = [sys.executable, "-m", "pyrun"]


def run(*arguments: str, **environment: str) -> str:
    result = run_as_nobody([*PYRUN, *arguments], {**os.environ, **environment})
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_version_names_what_runs_here() -> None:
    found = json.loads(run("version", "-o", "json"))
    assert found["pyrun"] == __version__
    assert found["kernel"] == os.uname().release
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(found["programs"]) == {"pause", "monitor", "lasthop"}
    for program in found["programs"].values():
        assert os.path.basename(os.path.dirname(program["path"])) == "libexec"
        assert program["size"] is None or program["size"] == os.stat(program["path"]).st_size
    text = run("version")
    assert f"pyrun     {__version__}" in text and os.uname().release in text
    assert run("--version") == f"pyrun {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_the_shell_takes(shell: str) -> None:
    script = run("completion", shell)
    assert "_PYRUN_COMPLETE" in script and f"{shell}_complete" in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    checked = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def completed(words: str, incomplete: bool = True, **environment: str) -> list[str]:
    """What bash would be offered for the last word, or for a new one behind it."""
    count = len(words.split()) - (1 if incomplete else 0)
    found = run(_PYRUN_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(count), **environment)
    return [line.removeprefix("plain,") for line in found.splitlines() if line]


def test_commands_and_options_are_completed() -> None:
    assert completed("pyrun p") == ["pod", "ps", "plan"]
    assert completed("pyrun pod st") == ["stop"]
    assert "--follow" in completed("pyrun logs --f")


def test_names_of_pods_are_completed(tmp_path: Path) -> None:
    for space, name in (("default", "web"), ("default", "worker"), ("other", "wide"), ("default", "web~uid")):
        (tmp_path / "names" / space).mkdir(parents=True, exist_ok=True)
        (tmp_path / "names" / space / name).touch()
    state = str(tmp_path)
    assert completed(f"pyrun --state {state} logs -f w") == ["web", "wide", "worker"]
    assert completed("pyrun pod rm web wo", PYRUN_STATE=state) == ["worker"]
    assert completed("pyrun exec we", PYRUN_STATE=state) == ["web"]
    assert completed("pyrun attach", incomplete=False, PYRUN_STATE=state) == ["web", "wide", "worker"]


def test_completion_never_fails(tmp_path: Path) -> None:
    assert completed("pyrun logs w", PYRUN_STATE="/nonexistent") == []
    closed = tmp_path / "names"
    closed.mkdir(mode=0)
    assert completed("pyrun logs w", PYRUN_STATE=str(tmp_path)) == []
