"""`pyrun supervise`: the one process that keeps Pods and ReplicaSets as they shall be."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.errors import InputError

if TYPE_CHECKING:
    from pyrun.spec.backoff import BackoffSettings
    from pyrun.spec.layout import Layout


@click.command()
@click.option("--detach", is_flag=True, help="Start it in the background, unless one runs, and return.")
@click.option("--stop", is_flag=True, help="End the one that runs; Pods go on.")
@click.option("--print-unit", is_flag=True, help="Print a unit for systemd that keeps it running.")
@click.option(
    "--backoff-initial",
    envvar="PYRUN_BACKOFF_INITIAL",
    metavar="DURATION",
    help="First delay of a restart (10s).",
)
@click.option(
    "--backoff-max", envvar="PYRUN_BACKOFF_MAX", metavar="DURATION", help="Longest delay of a restart (5m)."
)
@click.option(
    "--backoff-reset",
    envvar="PYRUN_BACKOFF_RESET",
    metavar="DURATION",
    help="How long a container runs until its delays begin anew (10m).",
)
@click.option(
    "--storage-period",
    envvar="PYRUN_STORAGE_PERIOD",
    metavar="DURATION",
    help="How often the storage of Pods that have a limit is measured (10s).",
)
@click.pass_obj
def supervise(
    application: Application, /, detach: bool, stop: bool, print_unit: bool, **durations: str | None
) -> int:
    """Supervise all Pods of this instance: restarts, probes, hooks, deadlines, limits of storage, ReplicaSets.

    Pods live without it, and it may be killed and started at any time: it goes on where it stopped. Only one
    runs at a time. The annotations pyrun.io/backoff-initial, -max and -reset of a Pod go before the options.
    """
    if detach + stop + print_unit > 1:
        raise InputError("--detach, --stop and --print-unit exclude each other")
    settings, storage_period = backoff_settings(durations), storage_period_ns(durations)
    if print_unit:
        click.echo(unit_text(application.layout, application.subnet, durations), nl=False)
        return 0
    application.require_root()
    if stop:
        return _stop(application)
    if detach:
        return _detach(application, durations)
    import gc

    from pyrun.controllers.supervisor import supervise as run

    gc.enable()  # what stays must not grow
    run(application.host, settings, storage_period, report)
    return 0


def report(sentence: str) -> None:
    """Say something to the operator: on stderr, with the time."""
    import time

    print(
        f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} pyrun: {sentence}", file=sys.stderr, flush=True
    )


def backoff_settings(given: Mapping[str, str | None]) -> BackoffSettings:
    """Return the delays of restarts that the options give. Raises InputError."""
    from pyrun.cli.durations import parse_duration
    from pyrun.spec.backoff import BackoffSettings

    defaults = BackoffSettings()
    names = {
        "backoff_initial": defaults.initial_ns,
        "backoff_max": defaults.maximum_ns,
        "backoff_reset": defaults.reset_ns,
    }
    initial, longest, reset = (
        default if (text := given.get(name)) is None else int(parse_duration(text) * 1e9)
        for name, default in names.items()
    )
    if initial > longest:
        raise InputError(
            "the first delay of a restart is longer than the longest", hint="give --backoff-max too"
        )
    return BackoffSettings(initial_ns=initial, maximum_ns=longest, reset_ns=reset)


def storage_period_ns(given: Mapping[str, str | None]) -> int:
    """Return how often storage is measured, as the options say. Raises InputError."""
    from pyrun.cli.durations import parse_duration
    from pyrun.lifecycle.eviction import PERIOD_NS

    text = given.get("storage_period")
    period = PERIOD_NS if text is None else int(parse_duration(text) * 1e9)
    if period <= 0:
        raise InputError(
            "storage cannot be measured without a pause", hint="give --storage-period a duration"
        )
    return period


def _stop(application: Application) -> int:
    from pyrun.controllers.running import stop_supervisor

    if stop_supervisor(application.layout):
        click.echo("the supervisor has ended; Pods go on")
    else:
        click.echo("no supervisor runs", err=True)
    return 0


def _detach(application: Application, durations: Mapping[str, str | None]) -> int:
    from pyrun.cli.supervision import start_supervisor
    from pyrun.controllers.running import supervisor

    running = supervisor(application.layout)
    if running is not None:
        click.echo(f"the supervisor runs already, process {running.pid}", err=True)
        return 0
    for name, text in durations.items():
        if text is not None:  # it reads them where this command does
            os.environ[f"PYRUN_{name.upper()}"] = text
    start_supervisor(application)
    return 0


def unit_text(layout: Layout, subnet: str, durations: Mapping[str, str | None]) -> str:
    """Return a systemd unit that runs the supervisor of an instance.

    KillMode=process: only the supervisor itself is ended with its unit, Pods and the workers that make them live
    on. Source: systemd.kill(5), systemd.service(5), systemd.unit(5).
    """
    command = [os.path.abspath(sys.executable), "-P", "-m", "pyrun"]
    command += ["--root", layout.root, "--state", layout.state, "--subnet", subnet, "supervise"]
    for name, text in durations.items():
        command += [f"--{name.replace('_', '-')}", text] if text is not None else []
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
    if escaped.replace("/", "").replace("-", "").replace(".", "").isalnum():
        return escaped
    return f'"{escaped}"'
