"""Looking at a Pod from the host: its processes by their records, its logs as files, its status as JSON."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from pyrun.kernel.proc import ProcessIdentity
from pyrun.namespaces.table import Namespace, inode_of
from pyrun.runtime.pods import PodDirectory
from tests.e2e.conftest import Cli, eventually

CRI_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (?P<stream>stdout|stderr) (?P<tag>[FP]) (?P<text>.*)",
    re.DOTALL,
)


def pause_of(cli: Cli, uid: str) -> ProcessIdentity:
    """Return the recorded pause process of a Pod."""
    sandbox = PodDirectory(cli.layout, uid).sandbox()
    assert sandbox is not None, f"Pod {uid} has no record"
    return sandbox.pause


def init_of(cli: Cli, uid: str, container: str = "c0") -> ProcessIdentity:
    """Return the recorded main process of a container."""
    record = PodDirectory(cli.layout, uid).container((container, 0))
    assert record is not None, f"container {container} has no record"
    return record.init


def monitor_of(cli: Cli, uid: str, container: str = "c0") -> ProcessIdentity:
    """Return the recorded monitor of a container."""
    record = PodDirectory(cli.layout, uid).container((container, 0))
    assert record is not None, f"container {container} has no record"
    return record.monitor


def log_path(cli: Cli, uid: str, container: str = "c0") -> Path:
    """Return the log of a container's first attempt."""
    return Path(cli.layout.logs(uid, container)) / "0.log"


def log_lines(cli: Cli, uid: str, container: str = "c0") -> list[re.Match[str]]:
    """Return the lines of a container's log; each must have the CRI format."""
    try:
        text = log_path(cli, uid, container).read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return []
    lines = [CRI_LINE.fullmatch(line) for line in text.split("\n")[:-1]]
    assert None not in lines, f"a line is not in the CRI format: {text!r}"
    return [line for line in lines if line is not None]


def output(cli: Cli, uid: str, container: str = "c0") -> str:
    """Return what a container has written so far, both streams."""
    return "".join(
        line["text"] + ("\n" if line["tag"] == "F" else "") for line in log_lines(cli, uid, container)
    )


def wait_for_output(cli: Cli, uid: str, text: str, container: str = "c0", timeout: float = 10) -> str:
    """Wait until a container has written `text`; return its output so far."""
    return eventually(lambda: found if text in (found := output(cli, uid, container)) else None, timeout)


def probe(**commands: str) -> str:
    """Return a shell script that runs each command, under its name; `answers` reads what it writes."""
    lines = [f"echo '== {name}'; ({command}) 2>&1" for name, command in commands.items()]
    return "\n".join([*lines, "echo '== end'"])


def answers(cli: Cli, uid: str, container: str = "c0") -> dict[str, str]:
    """Wait until the script of `probe` has ended; return what each of its commands has written."""
    text = wait_for_output(cli, uid, "== end\n", container)
    parts = re.split(r"^== (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: body.rstrip("\n") for name, body in zip(parts[::2], parts[1::2], strict=True)}


def box(script: str, name: str = "c0", **fields: Any) -> dict[str, Any]:
    """Return a container, as a manifest has it, that runs a shell script; `fields` are further fields."""
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **fields}


def manifest(
    cli: Cli,
    *containers: dict[str, Any],
    name: str = "test",
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> str:
    """Return the manifest of a Pod whose containers have the busybox root; `spec` are fields of the Pod's spec.

    Nobody looks after the Pods of most tests, so none is restarted.
    """
    spec.setdefault("restartPolicy", "Never")
    roots = {f"rootfs.pyrun.io/{c['name']}": str(cli.rootfs) for c in containers}
    metadata = {"name": name, "annotations": roots | (annotations or {})}
    return json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers, **spec}}
    )


def run_pod(cli: Cli, *containers: dict[str, Any], **fields: Any) -> str:
    """Create the Pod of `manifest` and return its uid."""
    return cli.create(manifest(cli, *containers, **fields))


def pods(cli: Cli) -> list[Any]:
    """Return all Pods as `pod ls -o json` lists them."""
    items: list[Any] = json.loads(cli.ok("pod", "ls", "-o", "json"))["items"]
    return items


def status_of(cli: Cli, name: str = "test") -> Any:
    """Return the status of a Pod."""
    return next(pod["status"] for pod in pods(cli) if pod["metadata"]["name"] == name)


def state_of(cli: Cli, container: str = "c0", name: str = "test") -> Any:
    """Return the state of a container: one of waiting, running, terminated."""
    statuses = status_of(cli, name)["containerStatuses"]
    return next(status["state"] for status in statuses if status["name"] == container)


def wait_for_end(cli: Cli, uid: str, container: str = "c0", timeout: float = 10) -> None:
    """Wait until a container has ended and its exit is recorded."""
    monitor = monitor_of(cli, uid, container)
    eventually(lambda: not monitor.alive(), timeout)


def namespace(process: ProcessIdentity | str, kind: str) -> int:
    """Return the inode of a namespace of a process; `self` is the host's."""
    pid = process if isinstance(process, str) else process.pid
    return inode_of(pid, Namespace(kind))


def status_field(process: ProcessIdentity, field: str) -> str:
    """Return a field of /proc/PID/status."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return line.partition(":")[2].strip()
    raise AssertionError(f"/proc/PID/status has no field {field}")


def mounts_of(process: ProcessIdentity) -> dict[str, tuple[str, set[str]]]:
    """Return the mounts a process sees: mount point -> (file system type, options); the topmost one counts."""
    found = {}
    for line in Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        found[fields[4]] = (after.split()[0], set(fields[5].split(",")))
    return found


def cgroup_of(process: ProcessIdentity) -> str:
    """Return the path of a process on the unified hierarchy."""
    text = Path(f"/proc/{process.pid}/cgroup").read_text()
    return next(line[3:] for line in text.splitlines() if line.startswith("0::"))


def in_root(process: ProcessIdentity, path: str) -> Path:
    """Return the path by which the host reaches a file as a process sees it."""
    return Path(f"/proc/{process.pid}/root") / path.lstrip("/")


def processes_below(group: str) -> list[int]:
    """Return the processes of a cgroup directory and below."""
    return [
        int(pid) for path, _, _ in os.walk(group) for pid in Path(f"{path}/cgroup.procs").read_text().split()
    ]
