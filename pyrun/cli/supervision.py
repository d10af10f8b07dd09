"""Starting the supervisor beside a command that needs it."""

from __future__ import annotations

import click

from pyrun.cli.application import Application

START_TIMEOUT = 10.0


def supervised(application: Application) -> bool:
    """Whether a supervisor runs."""
    from pyrun.controllers.running import supervisor

    return supervisor(application.layout) is not None


def start_supervisor(application: Application) -> None:
    """Start a supervisor unless one runs, and say so in one line on stderr. Raises PyrunError."""
    from pyrun.controllers.running import ensure_supervisor, wait_for_supervisor

    pid = ensure_supervisor(application.layout, application.subnet)
    if pid is not None:
        wait_for_supervisor(application.layout, START_TIMEOUT)
        click.echo(f"started the supervisor, process {pid} (stop it with pyrun supervise --stop)", err=True)


def supervise_if_wanted(application: Application, wanted: bool) -> None:
    """Start a supervisor, or say that nobody looks after what was made."""
    if wanted:
        start_supervisor(application)
    elif not supervised(application):
        click.echo(
            "no supervisor runs, so nothing is done about it until pyrun supervise is started", err=True
        )
