"""`pyrun pod why`: what happened to a Pod, and the cause in one sentence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods
from pyrun.cli.kinds import namespace_option
from pyrun.cli.output import print_json

if TYPE_CHECKING:
    from pyrun.runtime.history import Moment
    from pyrun.runtime.why import Explanation

MOMENTS = 50
"""Most moments that are printed, the last ones."""


@click.command()
@click.argument("pod", metavar="POD", shell_complete=complete_pods)
@namespace_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_obj
def why(application: Application, pod: str, namespace: str, output: str) -> None:
    """Say why a Pod is as it is: what happened when, the cause in one sentence, and what to try next.

    Works for a Pod that is gone, from its events.
    """
    from pyrun.cli.supervision import supervised
    from pyrun.runtime.why import explain, history_of

    application.require_root()
    explanation = explain(history_of(application.layout, pod, namespace, supervised(application)))
    if output == "json":
        print_json(explanation)
    else:
        _print(explanation)


def _print(explanation: Explanation) -> None:
    now = time.time()
    moments = explanation.moments[-MOMENTS:]
    if len(moments) < len(explanation.moments):
        older = len(explanation.moments) - len(moments)
        click.echo(f"({older} earlier: pyrun events --for {explanation.name})")
    width = max((len(moment.container) for moment in moments), default=0)
    for moment in moments:
        click.echo(moment_line(moment, now, width))
    if moments:
        click.echo()
    click.echo(explanation.cause)
    if explanation.command:
        click.echo(f"Next: {explanation.command}")


def moment_line(moment: Moment, now: float, width: int) -> str:
    """Return a moment as a line: how long ago, when (UTC), of which container, what."""
    from pyrun.cli.durations import human

    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment.at))
    clock = f"{whole}.{int(moment.at % 1 * 1000):03d}"
    mark = "!" if moment.warning else " "
    times = f" ({moment.count} times in {human(moment.at - moment.first)})" if moment.count > 1 else ""
    what = " ".join(moment.what.split())
    return f"{human(now - moment.at):>6} ago  {clock}  {mark} {moment.container:<{width}}  {what}{times}".rstrip()
