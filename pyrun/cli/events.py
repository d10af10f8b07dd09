"""`pyrun events`: what was decided and why, in the order of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_targets
from pyrun.cli.kinds import Kind, all_namespaces_option, namespace_option, parse_targets

if TYPE_CHECKING:
    from pyrun.spec.event import Event
    from pyrun.state.events import EventLog


@click.command()
@click.option("-f", "--follow", "-w", "--watch", is_flag=True, help="Go on, and print what happens.")
@click.option(
    "--for",
    "subject",
    default="",
    metavar="POD|KIND/NAME",
    help="Only of this one.",
    shell_complete=complete_targets,
)
@namespace_option
@all_namespaces_option
@click.option("-o", "--output", type=click.Choice(["yaml", "json", "wide"]), default=None)
@click.pass_obj
def events(
    application: Application,
    follow: bool,
    subject: str,
    namespace: str,
    all_namespaces: bool,
    output: str | None,
) -> int:
    """Print events, also of what is gone by now; the same in the same words once, with its number.

    With -f each is printed as it happens.
    """
    from pyrun.state.events import EventLog

    application.require_root()
    wanted = about(subject, None if all_namespaces else namespace)
    log = EventLog(application.layout.root)
    if follow:
        return _follow(log, wanted)
    _print([event for event in log.read() if wanted(event)], output)
    if log.skipped:
        click.echo(f"pyrun: {log.skipped} lines of {log.path} cannot be read", err=True)
    return 0


def about(subject: str, namespace: str | None) -> Callable[[Event], bool]:
    """Return whether an event is about what `--for` names (a Pod, or KIND/NAME), in a namespace (None: any)."""
    if not subject:
        return lambda event: namespace in (None, event.about.namespace)
    kind, name = Kind.POD, subject
    if "/" in subject:
        [target] = parse_targets([subject])
        kind, name = target.kind, target.names[0]

    def wanted(event: Event) -> bool:
        found = event.about
        if found.kind != kind.kubernetes:
            return False
        same = found.name == name and namespace in (None, found.namespace)
        return same or (len(name) >= 4 and found.uid.startswith(name))

    return wanted


def _print(found: list[Event], output: str | None) -> None:
    import time

    from pyrun.cli.get import Output, Style, Table
    from pyrun.cli.output import print_json, print_yaml
    from pyrun.cli.rows import event_row
    from pyrun.state.events import aggregate

    rows = [event_row(repeated, time.time()) for repeated in aggregate(found)]
    if output in ("json", "yaml"):
        value = {"apiVersion": "v1", "kind": "List", "items": [row.value for row in rows]}
        print_json(value) if output == "json" else print_yaml(value)
    elif rows:
        Table(Kind.EVENT, Style(Output(output or ""))).print(rows)
    else:
        click.echo("No events.", err=True)


def _follow(log: EventLog, wanted: Callable[[Event], bool]) -> int:
    try:
        for batch in log.follow():
            for event in filter(wanted, batch):
                title = f"{event.about.kind.lower()}/{event.about.name}"
                where = f"{title}[{event.about.container}]" if event.about.container else title
                time, said = event.time.partition(".")[0], " ".join(event.message.split())
                click.echo(f"{time}Z  {event.type.value:<7}  {event.reason:<20}  {where}: {said}")
    except KeyboardInterrupt:
        return 130
    return 0
