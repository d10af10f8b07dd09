"""`pyrun supervise`: the one process that keeps Pods and ReplicaSets as they shall be."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.errors import InputError

if TYPE_CHECKING:
    from pyrun.spec.layout import Layout


@click.command()
@click.option("--detach", is_flag=True, help="Start it in the background, unless one runs, and return.")
@click.option("--stop", is_flag=True, help="End the one that runs; Pods go on.")
@click.option("--print-unit", is_flag=True, help="Print a unit for systemd that keeps it running.")
@click.pass_obj
def supervise(application: Application, detach: bool, stop: bool, print_unit: bool) -> int:
    """Supervise all Pods of this instance: restarts, probes, hooks, deadlines, ReplicaSets.

    Pods live without it, and it may be killed and started at any time: it goes on where it stopped. Only one
    runs at a time.
    """
    if detach + stop + print_unit > 1:
        raise InputError("--detach, --stop and --print-unit exclude each other")
    if print_unit:
        click.echo(unit_text(application.layout, application.subnet), nl=False)
        return 0
    application.require_root()
    if stop:
        return _stop(application)
    if detach:
        return _detach(application)
    import gc

    from pyrun.controllers.supervisor import supervise as run

    gc.enable()  # what stays must not grow
    run(application.host)
    return 0


def _stop(application: Application) -> int:
    from pyrun.controllers.running import stop_supervisor

    if stop_supervisor(application.layout):
        click.echo("the supervisor has ended; Pods go on")
    else:
        click.echo("no supervisor runs", err=True)
    return 0


def _detach(application: Application) -> int:
    from pyrun.cli.supervision import start_supervisor
    from pyrun.controllers.running import supervisor

    running = supervisor(application.layout)
    if running is not None:
        click.echo(f"the supervisor runs already, process {running.pid}", err=True)
    else:
        start_supervisor(application)
    return 0


def unit_text(layout: Layout, subnet: str) -> str:
    """Return a systemd unit that runs the supervisor of an instance.

    KillMode=process: only the supervisor itself is ended with its unit, Pods and the workers that make them live
    on. Source: systemd.kill(5), systemd.service(5), systemd.unit(5).
    """
    command = [os.path.abspath(sys.executable), "-P", "-m", "pyrun"]
    command += ["--root", layout.root, "--state", layout.state, "--subnet", subnet, "supervise"]
    return f"""\
[Unit]
Description=pyrun: keeps Pods and ReplicaSets as they shall be ({layout.name})
Documentation=man:systemd.service(5)
After=network.target local-fs.target
StartLimitIntervalSec=0

[Service]
Type=simple
ExecStart={" ".join(_quoted(word) for word in command)}
Restart=always
RestartSec=1
KillMode=process
OOMScoreAdjust=-900
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


def _quoted(word: str) -> str:
    """Return a word of a command line of systemd, which expands % and $ and splits at spaces."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return (
        escaped
        if escaped and escaped.replace("/", "").replace("-", "").replace(".", "").isalnum()
        else f'"{escaped}"'
    )
