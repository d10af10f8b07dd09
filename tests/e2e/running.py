"""Commands that stay in the foreground: started beside the test, with streams of bytes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.e2e.conftest import SLOW, Cli

END = 15 * SLOW
"""Seconds for a command to end."""


def call(cli: Cli, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command line to its end; None is /dev/null."""
    return subprocess.run(
        [*cli.command, *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=4 * END,
        env=cli.environment,
        check=False,
    )


@contextlib.contextmanager
def spawn(cli: Cli, *arguments: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command line; every stream is a pipe unless given. It is killed at the end of the block."""
    pipes = {name: streams.pop(name, subprocess.PIPE) for name in ("stdin", "stdout", "stderr")}
    process = subprocess.Popen([*cli.command, *arguments], env=cli.environment, **pipes, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def read_line(stream: IO[bytes] | None) -> bytes:
    """Read a line of a command's output."""
    assert stream is not None
    return stream.readline()


def read_rest(stream: IO[bytes] | None) -> bytes:
    """Read a command's output to its end."""
    assert stream is not None
    return stream.read()


def write(stream: IO[bytes] | None, data: bytes) -> None:
    """Write to a command's input, at once."""
    assert stream is not None
    stream.write(data)
    stream.flush()


@contextlib.contextmanager
def left_running(cli: Cli, *arguments: str) -> Iterator[Path]:
    """Run a command that goes on; give the file it writes to. Ctrl-C must end it with 130."""
    path = cli.directory / "running.out"
    with path.open("w") as out:
        process = subprocess.Popen([*cli.command, *arguments], env=cli.environment, stdout=out, stderr=out)
    try:
        yield path
        process.send_signal(signal.SIGINT)
        assert process.wait(END) == 130
    finally:
        process.kill()
        process.wait()
