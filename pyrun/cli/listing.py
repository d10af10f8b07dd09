"""Which objects a command is about: those of a kind, chosen by name, namespace and labels."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
import msgspec

from pyrun.cli.application import Application
from pyrun.cli.kinds import Kind, Target
from pyrun.cli.rows import Row, event_row, pod_row, set_row
from pyrun.errors import InputError, NotFound
from pyrun.runtime.catalog import Catalog
from pyrun.spec.selector import Selector
from pyrun.state.events import EventLog, aggregate


class Scope(msgspec.Struct, frozen=True):
    """Where is looked: a namespace, or all of them when it is None; only what the selector matches."""

    namespace: str | None = "default"
    selector: Selector = Selector()

    def holds(self, row: Row) -> bool:
        """Whether an object is in it."""
        return self.namespace in (None, row.namespace) and self.selector.matches(row.labels)


def scope_of(namespace: str, everywhere: bool, selector: str) -> Scope:
    """Return the scope that the options -n, -A and -l give. Raises InputError."""
    from pyrun.manifest.selectors import parse_selector

    return Scope(None if everywhere else namespace, parse_selector(selector))


class Listing:
    """Lists the objects of an instance, again and again if need be."""

    def __init__(self, application: Application) -> None:
        application.require_root()
        self._catalog = Catalog(application.layout)
        self._events = EventLog(application.layout.root)
        self._told: set[str] = set()

    def close(self) -> None:
        """Let go of the store."""
        self._catalog.close()

    def rows(self, kind: Kind) -> list[Row]:
        """Return all objects of a kind; what cannot be read is told on stderr, once."""
        now = time.time()
        match kind:
            case Kind.POD:
                found = [pod_row(view, now) for view in self._catalog.pods()]
            case Kind.REPLICA_SET:
                found = [set_row(stored, now) for stored in self._catalog.replica_sets()]
            case Kind.EVENT:
                found = [event_row(event, now) for event in aggregate(self._events.read())]
        if self._catalog.unreadable is not None and kind is Kind.REPLICA_SET:
            raise self._catalog.unreadable
        for trouble in (self._catalog.unreadable, self._catalog.damaged):
            if trouble is not None and trouble.sentence() not in self._told:
                self._told.add(trouble.sentence())
                click.echo(f"pyrun: {trouble.sentence()}", err=True)
        return found

    def find(self, targets: Sequence[Target], scope: Scope) -> list[Row]:
        """Return the objects that are meant, in order. Raises NotFound for a name that nothing has."""
        found: list[Row] = []
        for target in targets:
            rows = self.rows(target.kind)
            if target.names and (scope.selector != Selector() or scope.namespace is None):
                raise InputError("names exclude -l and -A", hint="leave the names out, or the option")
            if target.names:
                found += [
                    named(rows, target.kind, name, scope.namespace or "default") for name in target.names
                ]
            else:
                found += [row for row in rows if scope.holds(row)]
        return found


def named(rows: Sequence[Row], kind: Kind, name: str, namespace: str) -> Row:
    """Return the object of a name (for Pods also NAMESPACE/NAME, or the beginning of an id). Raises NotFound."""
    space, slash, rest = name.rpartition("/")
    wanted = (space if slash else namespace, rest)
    for row in rows:
        if (row.namespace, row.name) == wanted:
            return row
    by_id = [row for row in rows if row.uid.startswith(name)] if len(name) >= 4 else []
    if kind is Kind.POD and len(by_id) == 1:
        return by_id[0]
    raise NotFound(
        f'no {kind.kubernetes} is named "{name}" in namespace {wanted[0]}',
        hint=f"see pyrun get {kind.plural} -A",
    )
