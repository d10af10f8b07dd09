"""Pulling from a registry: skopeo does the transport, into a directory of the command's workspace."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import prctl

from pyrun.errors import ImageError, Unsupported
from pyrun.images.reference import Reference

STDERR_TAIL = 4096


def copy(name: Reference, space: str, helpers: int, progress: int | None) -> str:
    """Copy an image for this machine into a new directory below `space` (skopeo's dir: layout); return it.

    `helpers` is passed on, so that nobody collects the workspace while skopeo writes. skopeo runs in its
    own process group, is killed with it on any exception, and dies with this process. `progress` is a
    descriptor for its progress lines. TLS is not demanded of a registry on loopback. Raises ImageError with
    skopeo's last line, Unsupported when skopeo is missing.
    """
    target = os.path.join(space, "pulled")
    errors = os.path.join(space, "skopeo-errors")
    command = ["skopeo", "--tmpdir", space, "copy"]
    if name.loopback:
        command.append("--src-tls-verify=false")
    command += [f"docker://{name.canonical}", f"dir:{target}"]
    with open(errors, "wb") as stderr:
        code = _run(command, stderr.fileno(), helpers, subprocess.DEVNULL if progress is None else progress)
    if code != 0:
        with open(errors, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - STDERR_TAIL))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        last = _plain(lines[-1]) if lines else f"exit status {code}"
        raise ImageError(
            f"{name.familiar} cannot be pulled from {name.domain}: skopeo: {last}",
            hint="check the name, the network and, for a private registry, `skopeo login`",
        )
    return target


def _run(command: list[str], stderr: int, helpers: int, stdout: int) -> int:
    parent = os.getpid()

    def die_with_parent() -> None:
        prctl.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(helpers,),
            process_group=0,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - pyrun has one thread
        )
    except FileNotFoundError as error:
        raise Unsupported(
            "pulling needs the program skopeo, which is missing", hint="apt-get install skopeo"
        ) from error
    try:
        return process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _plain(line: str) -> str:
    """Take skopeo's log decoration off: `time="..." level=fatal msg="..."` becomes the message."""
    _, found, message = line.partition('msg="')
    text = message.removesuffix('"').replace('\\"', '"') if found else line
    return "".join(character for character in text if character.isprintable())
