"""`pyrun wait`: until objects are as they shall be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_targets
from pyrun.cli.durations import parse_duration
from pyrun.cli.jsonpath import parse_path, value_at
from pyrun.cli.kinds import Target, all_namespaces_option, namespace_option, parse_targets, selector_option
from pyrun.errors import InputError, NotFound, PyrunError

if TYPE_CHECKING:
    from pyrun.cli.listing import Listing, Scope
    from pyrun.cli.rows import Row

Test = Callable[[Any], bool]
"""Whether an object, in plain values (None: there is none), is as it shall be."""

_HINT = "write condition=Ready, condition=Ready=false, delete, create, or jsonpath={.status.phase}=Running"


@click.command()
@click.argument("words", nargs=-1, metavar="KIND NAME... | KIND/NAME...", shell_complete=complete_targets)
@click.option(
    "--for", "wanted", required=True, metavar="WHAT", help="condition=C[=S], delete, create, jsonpath=P=V."
)
@click.option(
    "--timeout", default="30s", show_default=True, metavar="DURATION", help="Negative: a week; 0: look once."
)
@click.option("--all", "everything", is_flag=True, help="All objects of the kind.")
@namespace_option
@all_namespaces_option
@selector_option
@click.pass_obj
def wait(  # noqa: PLR0913 - one parameter an option
    application: Application,
    words: tuple[str, ...],
    wanted: str,
    timeout: str,
    everything: bool,
    namespace: str,
    all_namespaces: bool,
    selector: str,
) -> None:
    """Wait until objects are as they shall be; exit code 1 when the timeout passes before."""
    from pyrun.cli.listing import Listing, scope_of

    targets, test = parse_targets(words), parse_wanted(wanted)
    if not everything and not selector and not all(target.names for target in targets):
        raise InputError("say which: names, -l SELECTOR, or --all")
    listing = Listing(application)
    try:
        missing_ok = wanted in ("delete", "create")
        waiting = Waiting(listing, targets, scope_of(namespace, all_namespaces, selector), missing_ok)
        deadline = time.monotonic() + parse_duration(timeout)
        wait_for(application, waiting, test, deadline, "deleted" if wanted == "delete" else "condition met")
    finally:
        listing.close()


def parse_wanted(text: str) -> Test:
    """Return what `--for` asks. Raises InputError."""
    kind, _, rest = text.partition("=")
    if text.lower() == "delete":
        return lambda value: value is None
    if text.lower() == "create":
        return lambda value: value is not None
    if kind.lower() == "condition" and rest:
        name, _, status = rest.partition("=")
        return lambda value: _condition(value, name.lower()) == (status or "true").lower()
    if kind.lower() == "jsonpath" and rest:
        # A value may hold "=", a path in braces may not; without a value it is enough that there is one.
        path, _, expected = rest.partition("}=") if "}=" in rest else (rest, "", "")
        steps = parse_path(f"{path}}}" if expected or "}=" in rest else path)
        if expected:
            return lambda value: value_at(value, steps) == expected
        return lambda value: bool(value_at(value, steps))
    raise InputError(f'"{text}" cannot be waited for', hint=_HINT)


def _condition(value: Any, name: str) -> str:
    conditions = (value or {}).get("status", {}).get("conditions", ())
    return next((str(c["status"]).lower() for c in conditions if c["type"].lower() == name), "")


class Waiting:
    """The objects that are waited for: those that are there at the beginning, by their identity."""

    def __init__(self, listing: Listing, targets: Sequence[Target], scope: Scope, missing_ok: bool) -> None:
        self._listing = listing
        self._namespace = scope.namespace or "default"
        self._wanted: list[tuple[Target, str, str]] = []
        for target in targets:
            if target.names and missing_ok:
                for name in target.names:
                    self._add(target, name)
            else:
                for row in listing.find([target], scope):
                    self._wanted.append((target, row.name, row.uid))
        if not self._wanted and not missing_ok:
            raise NotFound(
                "nothing that could be waited for", hint="see pyrun get pods, pyrun get replicasets"
            )

    def _add(self, target: Target, name: str) -> None:
        from pyrun.cli.listing import named

        try:
            row = named(self._listing.rows(target.kind), target.kind, name, self._namespace)
        except NotFound:
            self._wanted.append((target, name, ""))
        else:
            self._wanted.append((target, row.name, row.uid))

    def look(self) -> list[tuple[str, Any]]:
        """Return each object with its title; None for one that is not there (any more)."""
        rows = {kind: self._listing.rows(kind) for kind in {target.kind for target, _, _ in self._wanted}}
        return [
            (f"{target.kind.value}/{name}", _plain(self._pick(rows[target.kind], name, uid)))
            for target, name, uid in self._wanted
        ]

    def _pick(self, rows: Sequence[Row], name: str, uid: str) -> Row | None:
        for row in rows:
            if row.uid == uid if uid else (row.namespace, row.name) == (self._namespace, name):
                return row
        return None


def _plain(row: Row | None) -> Any:
    import msgspec

    return None if row is None else msgspec.json.decode(msgspec.json.encode(row.value))


def wait_for(application: Application, waiting: Waiting, test: Test, deadline: float, words: str) -> None:
    """Wait until all are as they shall be, and print each once it is. Raises PyrunError at the deadline."""
    from pyrun.runtime.watch import Watch

    watch = Watch(application.layout)
    done: set[str] = set()
    try:
        while True:
            left = []
            for title, value in waiting.look():
                if title in done:
                    continue
                if test(value):
                    click.echo(f"{title} {words}")
                    done.add(title)
                else:
                    left.append(title)
            if not left:
                return
            if time.monotonic() >= deadline:
                raise PyrunError(
                    f"timed out waiting for the condition on {', '.join(left)}",
                    hint="see why: pyrun pod why, pyrun describe",
                )
            watch.wait(deadline)
    finally:
        watch.close()
