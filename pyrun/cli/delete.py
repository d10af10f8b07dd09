"""`pyrun delete`: what shall not be any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_targets
from pyrun.cli.durations import parse_duration
from pyrun.cli.kinds import (
    Kind,
    Target,
    all_namespaces_option,
    namespace_option,
    parse_targets,
    selector_option,
)
from pyrun.errors import InputError, NotFound, PyrunError

if TYPE_CHECKING:
    from pyrun.cli.listing import Listing, Scope
    from pyrun.cli.rows import Row
    from pyrun.controllers.deletion import Deletion, Victim


@click.command()
@click.argument("words", nargs=-1, metavar="KIND NAME... | KIND/NAME...", shell_complete=complete_targets)
@click.option(
    "-f", "--filename", "file", default="", metavar="FILE", help="What a manifest names; - is stdin."
)
@click.option(
    "--cascade", type=click.Choice(["background", "orphan"]), default="background", show_default=True
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Return when all has gone.")
@click.option("--timeout", default="-1s", metavar="DURATION", help="Give up waiting after this time.")
@click.option("--grace-period", type=click.IntRange(-1), default=-1, metavar="SECONDS", help="-1: its own.")
@click.option("--ignore-not-found", is_flag=True, help="What does not exist is no error.")
@click.option("--all", "everything", is_flag=True, help="All objects of the kind.")
@namespace_option
@all_namespaces_option
@selector_option
@click.pass_obj
def delete(  # noqa: PLR0913 - one parameter an option
    application: Application,
    words: tuple[str, ...],
    file: str,
    cascade: str,
    wait: bool,
    timeout: str,
    grace_period: int,
    ignore_not_found: bool,
    everything: bool,
    namespace: str,
    all_namespaces: bool,
    selector: str,
) -> None:
    """Delete Pods and ReplicaSets: containers are stopped within their grace period, then all is undone.

    The Pods of a ReplicaSet go with it; with --cascade=orphan they stay, and the next set with their selector
    takes them over. A Pod that belongs to a ReplicaSet is replaced by it.
    """
    from pyrun.cli.listing import Listing, scope_of
    from pyrun.controllers.deletion import Deletion, Victim

    if bool(words) == bool(file):
        raise InputError("say what: KIND NAME, or -f FILE")
    listing = Listing(application)
    try:
        if file:
            rows = _of_file(listing, file, ignore_not_found)
        else:
            targets = _checked(parse_targets(words), everything or bool(selector))
            scope = scope_of(namespace, all_namespaces, selector)
            rows = [row for target in targets for row in _found(listing, target, scope, ignore_not_found)]
    finally:
        listing.close()
    grace = None if grace_period < 0 else grace_period
    victims = [
        Victim(
            key=row.kind.key(row.namespace, row.name),
            uid=row.uid,
            grace_seconds=grace,
            orphan=cascade == "orphan",
        )
        for row in rows
    ]
    deletion = Deletion(application.host)
    try:
        for row, victim in zip(rows, victims, strict=True):
            deletion.ask(victim)
            click.echo(f'{row.kind.value} "{row.name}" deleted')
        for victim in victims:
            deletion.carry_out(victim)
        if wait:
            _wait(application, deletion, victims, time.monotonic() + parse_duration(timeout))
    finally:
        deletion.close()


def _checked(targets: Sequence[Target], chosen: bool) -> Sequence[Target]:
    for target in targets:
        if target.kind is Kind.EVENT:
            raise InputError("events cannot be deleted", hint="the log forgets them by itself")
        if not target.names and not chosen:
            raise InputError(f"say which {target.kind.plural}: names, -l SELECTOR, or --all")
    return targets


def _found(listing: Listing, target: Target, scope: Scope, missing_ok: bool) -> list[Row]:
    found: list[Row] = []
    for one in [Target(target.kind, (name,)) for name in target.names] or [target]:
        try:
            found += listing.find([one], scope)
        except NotFound:
            if not missing_ok:
                raise
    return found


def _of_file(listing: Listing, file: str, missing_ok: bool) -> list[Row]:
    """Return the objects that a manifest names and that exist."""
    from pyrun.cli.listing import Scope
    from pyrun.cli.manifests import read_text
    from pyrun.manifest import load_objects
    from pyrun.spec.pod import Pod

    found: list[Row] = []
    for one in load_objects(*read_text(file)):
        kind = Kind.POD if isinstance(one, Pod) else Kind.REPLICA_SET
        target = Target(kind, (one.metadata.name,))
        found += _found(listing, target, Scope(one.metadata.namespace), missing_ok)
    return found


def _wait(application: Application, deletion: Deletion, victims: Sequence[Victim], deadline: float) -> None:
    """Wait until all have gone. Raises PyrunError at the deadline."""
    from pyrun.runtime.watch import Watch

    watch = Watch(application.layout)
    try:
        while left := [victim for victim in victims if not deletion.gone(victim)]:
            if time.monotonic() >= deadline:
                names = ", ".join(str(victim.key) for victim in left)
                raise PyrunError(f"timed out waiting until these have gone: {names}", hint="they still go")
            for victim in left:  # the supervisor may have ended meanwhile
                deletion.carry_out(victim)
            watch.wait(deadline)
    finally:
        watch.close()
