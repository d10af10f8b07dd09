"""No process of a container imports anything after its fork: launcher, init, and what makes the sandbox.

An import there would read files of the host from inside a container's root, or hang on a lock somebody held.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli

pytestmark = pytest.mark.requires("pods", "busybox")

# A finder that is asked for every module not loaded yet, and notes it when the process is not the first one.
RECORDER = """
import os, sys

class Recorder:
    def __init__(self, path):
        self.first = os.getpid()
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def find_spec(self, name, path=None, target=None):
        if os.getpid() != self.first:
            os.write(self.file, f"{name}\\n".encode())
        return None

sys.meta_path.insert(0, Recorder(sys.argv.pop(1)))
from pyrun.cli.main import main
main()
"""

MANIFEST = """
apiVersion: v1
kind: Pod
metadata:
  name: everything
  annotations: {rootfs.pyrun.io/a: @ROOTFS, rootfs.pyrun.io/b: @ROOTFS, pyrun.io/time-offset-monotonic: 1h}
spec:
  shareProcessNamespace: SHARE
  hostNetwork: HOST
  hostPID: HOST
  hostIPC: HOST
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: host, hostPath: {path: /proc}}
  containers:
  - name: a
    image: x
    command: [sleep, "1000"]
    tty: true
    stdin: true
    workingDir: /new/place
    env: [{name: X, value: "y"}]
    volumeMounts:
    - {name: disk, mountPath: /disk, subPath: a/b}
    - {name: memory, mountPath: /memory, subPath: c, readOnly: true}
    - {name: host, mountPath: /host}
    securityContext:
      runAsUser: 33
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
  - name: b
    image: x
    command: [/bin/sleep, "1000"]
    securityContext: {privileged: true}
"""


def create(cli: Cli, record: Path, manifest: str) -> subprocess.CompletedProcess[str]:
    text = textwrap.dedent(manifest).replace("@ROOTFS", str(cli.rootfs))
    return pyrun(cli, record, text, "pod", "create", "-f", "-")


def pyrun(cli: Cli, record: Path, stdin: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RECORDER, str(record), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=cli.environment,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("host", "share"), [("false", "false"), ("false", "true"), ("true", "false")])
def test_children_import_nothing(cli: Cli, tmp_path: Path, host: str, share: str) -> None:
    record = tmp_path / "imports"
    result = create(cli, record, MANIFEST.replace("HOST", host).replace("SHARE", share))
    assert result.returncode == 0, result.stderr
    assert record.read_text() == ""


def test_neither_a_child_that_fails_nor_a_session_imports_anything(cli: Cli, tmp_path: Path) -> None:
    record = tmp_path / "imports"
    manifest = MANIFEST.replace("HOST", "false").replace("SHARE", "false")
    result = create(cli, record, manifest.replace("/bin/sleep", "/bin/missing"))
    assert result.returncode == 127, result.stderr
    result = create(cli, record, manifest.replace("runAsUser: 33", "runAsUser: 33\n      runAsGroup: 5"))
    assert result.returncode == 0, result.stderr
    for arguments in ("-u www:extra", "-w /nowhere", "-e A=b"):
        command = ["exec", *arguments.split(), "everything", "-c", "b", "--", "true"]
        result = pyrun(cli, record, "", *command)
        assert (result.returncode, result.stderr) == (0, "") or "/nowhere" in result.stderr
    assert record.read_text() == ""


def test_the_recorder_sees_an_import_in_a_child(tmp_path: Path) -> None:
    record = tmp_path / "imports"
    code = RECORDER.partition("from pyrun")[0] + "os.fork() or __import__('wave')\n"
    subprocess.run([sys.executable, "-c", code, str(record)], check=True, timeout=60)
    assert "wave" in record.read_text().split()
