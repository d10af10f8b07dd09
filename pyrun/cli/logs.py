"""`pyrun logs`: what containers have written."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods
from pyrun.errors import InputError

if TYPE_CHECKING:
    from pyrun.runtime.logs import Piece


@click.command()
@click.argument("pod", metavar="POD", shell_complete=complete_pods)
@click.option(
    "-c", "--container", default=None, metavar="NAME", help="The container; needed if there are several."
)
@click.option(
    "--all-containers", is_flag=True, help="All containers, merged by time, each line with its origin."
)
@click.option("-f", "--follow", is_flag=True, help="Go on until the container has ended.")
@click.option(
    "--tail", type=click.IntRange(-1), default=-1, metavar="N", help="Only the last N lines; -1 is all."
)
@click.option(
    "--since",
    default=None,
    metavar="DURATION|TIME",
    help="Only lines since 10s, 1h30m ago, or a time (RFC 3339).",
)
@click.option("--timestamps", is_flag=True, help="Begin each line with its time.")
@click.option("-p", "--previous", is_flag=True, help="The attempt before the latest one.")
@click.pass_obj
def logs(  # noqa: PLR0913 - click passes each option by its name
    application: Application,
    pod: str,
    container: str | None,
    all_containers: bool,
    follow: bool,
    tail: int,
    since: str | None,
    timestamps: bool,
    previous: bool,
) -> int:
    """Print what a container has written: its stdout to stdout, its stderr to stderr."""
    from pyrun.runtime.logs import LogOptions, containers_of, parse_since, read_logs
    from pyrun.runtime.pods import find, require_pod

    if container is not None and all_containers:
        raise InputError("-c and --all-containers exclude each other", hint="leave one of them out")
    options = LogOptions(
        follow=follow,
        previous=previous,
        tail=None if tail < 0 else tail,
        since=None if since is None else parse_since(since, time.time_ns()),
    )
    application.require_root()
    directory = find(application.layout, pod)
    names = containers_of(directory, container, all_containers)
    name = require_pod(directory).metadata.name if all_containers else ""
    try:
        for pieces in read_logs(directory, names, options, merged=all_containers):
            _write(pieces, name, timestamps=timestamps)
    except KeyboardInterrupt:
        return 130
    return 0


def _write(pieces: Iterator[Piece], pod: str, *, timestamps: bool) -> None:
    """Write pieces; `pod`, if not empty, begins each line together with the container."""
    from pyrun.process.control import Stream

    outputs = {Stream.STDOUT: sys.stdout.buffer, Stream.STDERR: sys.stderr.buffer}
    current = Stream.STDOUT
    for piece in pieces:
        if piece.stream is not current:  # on one terminal they appear in the order in which they were written
            outputs[current].flush()
            current = piece.stream
        if piece.begins:
            prefix = f"[pod/{pod}/{piece.container}] ".encode() if pod else b""
            if timestamps and piece.time:
                prefix += piece.time + b" "
            outputs[current].write(prefix)
        outputs[current].write(piece.data)
    outputs[current].flush()
