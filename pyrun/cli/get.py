"""`pyrun get`: objects as a table, or as what `apply` takes."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods, complete_targets
from pyrun.cli.kinds import (
    Kind,
    Target,
    all_namespaces_option,
    namespace_option,
    parse_targets,
    selector_option,
)
from pyrun.cli.output import print_json, print_yaml

if TYPE_CHECKING:
    from pyrun.cli.listing import Listing, Scope
    from pyrun.cli.rows import Row

pass_application = click.make_pass_decorator(Application)


class Output(enum.Enum):
    """What `-o` chooses."""

    TABLE = ""
    WIDE = "wide"
    YAML = "yaml"
    JSON = "json"
    NAME = "name"


class Style(NamedTuple):
    """How objects are printed: with their namespaces, with their kinds before the names, below headers."""

    shape: Output
    spaces: bool = False
    prefixed: bool = False
    headers: bool = True


def get_options(command: Any) -> Any:
    """Give a command the options of `get`."""
    for option in (
        selector_option,
        all_namespaces_option,
        namespace_option,
        click.option("--no-headers", is_flag=True, help="Leave out the line of headers."),
        click.option("-w", "--watch", is_flag=True, help="Go on, and print what changes."),
        click.option("-o", "--output", type=click.Choice(["wide", "yaml", "json", "name"]), default=None),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("words", nargs=-1, metavar="KIND [NAME...] | KIND/NAME...", shell_complete=complete_targets)
@get_options
@pass_application
def get(application: Application, /, words: tuple[str, ...], **options: Any) -> int:
    """Print objects: pods (po), replicasets (rs), events (ev), or all but events.

    One named object is printed as itself by -o yaml and json, several as a List; `pyrun apply` takes both.
    """
    return get_objects(application, parse_targets(words), **options)


@click.command("get")
@click.argument("names", nargs=-1, metavar="[POD...]", shell_complete=complete_pods)
@get_options
@pass_application
def get_pods(application: Application, /, names: tuple[str, ...], **options: Any) -> int:
    """Print Pods; the same as `pyrun get pods`."""
    return get_objects(application, (Target(Kind.POD, names),), **options)


def get_objects(  # noqa: PLR0913 - one parameter an option
    application: Application,
    targets: Sequence[Target],
    *,
    output: str | None,
    watch: bool,
    no_headers: bool,
    namespace: str,
    all_namespaces: bool,
    selector: str,
) -> int:
    """Print objects, and what changes of them if that is wanted."""
    from pyrun.cli.listing import Listing, scope_of

    scope = scope_of(namespace, all_namespaces, selector)
    several = len({target.kind for target in targets}) > 1
    style = Style(Output(output or ""), scope.namespace is None, several, not no_headers)
    listing = Listing(application)
    try:
        if watch:
            return _watch(application, listing, targets, scope, style)
        rows = listing.find(targets, scope)
    finally:
        listing.close()
    single = len(targets) == 1 and len(targets[0].names) == 1
    if style.shape in (Output.YAML, Output.JSON):
        _print_value(
            rows[0].value if single else {"apiVersion": "v1", "kind": "List", "items": _values(rows)}, style
        )
    elif rows or style.shape is Output.NAME:
        _print_tables(rows, targets, style)
    else:
        where = "" if scope.namespace is None else f" in {scope.namespace} namespace"
        click.echo(f"No resources found{where}.", err=True)
    return 0


def _values(rows: Sequence[Row]) -> list[Any]:
    return [row.value for row in rows]


def _print_value(value: Any, style: Style) -> None:
    print_yaml(value) if style.shape is Output.YAML else print_json(value)


def _print_tables(rows: Sequence[Row], targets: Sequence[Target], style: Style) -> None:
    """Print a table for each kind there is something of."""
    kinds = [kind for kind in dict.fromkeys(t.kind for t in targets) if any(row.kind is kind for row in rows)]
    for number, kind in enumerate(kinds):
        if number and style.shape is not Output.NAME:
            click.echo()
        Table(kind, style).print([row for row in rows if row.kind is kind])


class Table:
    """Prints objects of one kind in columns; the header stands over the first of them, once.

    What is printed later keeps the widths, and widens them when it must.
    """

    def __init__(self, kind: Kind, style: Style) -> None:
        self._kind = kind
        self._style = style
        self._widths: list[int] = []

    def print(self, rows: Sequence[Row]) -> None:
        """Print objects below those before."""
        if self._style.shape is Output.NAME:
            for row in rows:
                click.echo(f"{row.kind.value}/{row.name}")
            return
        if not rows:
            return
        lines = [self._cells(row) for row in rows]
        if not self._widths:
            if self._style.headers:
                lines.insert(0, self._headers())
            self._widths = [0] * len(lines[0])
        self._widths = [max(w, *(len(line[i]) for line in lines)) for i, w in enumerate(self._widths)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, self._widths, strict=True))
            click.echo("   ".join(cells).rstrip())

    def _headers(self) -> list[str]:
        from pyrun.cli.rows import HEADERS

        plain, wide = HEADERS[self._kind]
        return [
            *(("NAMESPACE",) if self._style.spaces else ()),
            *plain,
            *(wide if self._style.shape is Output.WIDE else ()),
        ]

    def _cells(self, row: Row) -> list[str]:
        first = row.cells[0]
        if self._style.prefixed and self._kind is not Kind.EVENT:
            first = f"{row.kind.value}/{first}"
        return [
            *((row.namespace,) if self._style.spaces else ()),
            first,
            *row.cells[1:],
            *(row.wide if self._style.shape is Output.WIDE else ()),
        ]


def _watch(
    application: Application, listing: Listing, targets: Sequence[Target], scope: Scope, style: Style
) -> int:
    """Print what there is and then what has changed, until somebody presses Ctrl-C."""
    from pyrun.runtime.watch import Watch

    tables = {target.kind: Table(target.kind, style) for target in targets}
    watch = Watch(application.layout)
    before: dict[str, Row] = {}
    try:
        while True:
            now = {_identity(row): row for row in _present(listing, targets, scope)}
            changed = [_deleted(row) for key, row in before.items() if key not in now]
            changed += [
                row for key, row in now.items() if _shown(row, style) != _shown(before.get(key), style)
            ]
            if style.shape in (Output.YAML, Output.JSON):
                for row in changed:
                    _print_value(row.value, style)
                    click.echo("---" if style.shape is Output.YAML else "", nl=style.shape is Output.YAML)
            else:
                for kind, table in tables.items():
                    table.print([row for row in changed if row.kind is kind])
            before = now
            watch.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        watch.close()


def _present(listing: Listing, targets: Sequence[Target], scope: Scope) -> list[Row]:
    """Return the objects that are meant; one that is not there may come."""
    return [
        row
        for target in targets
        for row in listing.rows(target.kind)
        if scope.holds(row) and (not target.names or row.name in target.names)
    ]


def _identity(row: Row) -> str:
    return f"{row.kind.value}/{row.namespace}/{row.name}/{row.uid}"


def _shown(row: Row | None, style: Style) -> tuple[str, ...]:
    """What is printed of an object, without what only says how long ago something was."""
    import msgspec

    if row is None:
        return ()
    if style.shape in (Output.YAML, Output.JSON):
        return (msgspec.json.encode(row.value).decode(),)
    wide = row.wide if style.shape is Output.WIDE and row.kind is not Kind.EVENT else ()
    if row.kind is Kind.EVENT:
        return (row.value["lastTimestamp"], *row.cells[1:])
    return (*(cell.partition(" ")[0] for cell in row.cells[:-1]), *wide)


def _deleted(row: Row) -> Row:
    """The last line of an object that has gone."""
    if row.kind is not Kind.POD:
        return row
    name, ready, _, *rest = row.cells
    return row._replace(cells=(name, ready, "Deleted", *rest))
