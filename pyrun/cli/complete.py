"""What a shell completes on the command line: names of Pods and kinds. Works without root, and never fails."""

from __future__ import annotations

import click

from pyrun.spec.layout import DEFAULT_ROOT, DEFAULT_STATE, Layout

KINDS = ("events", "pods", "replicasets")


def complete_pods(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of Pods that begin with `incomplete`."""
    from pyrun.state.files import list_directory

    layout = _layout(context)
    try:
        spaces = list_directory(f"{layout.state}/names")
        names = {name for space in spaces for name in list_directory(layout.names(space)) if "~" not in name}
    except OSError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


def complete_targets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return kinds, names of the kind that stands before, or `KIND/NAME`."""
    from pyrun.cli.kinds import WORDS, Kind

    words = tuple(context.params.get(parameter.name or "") or ())
    word, slash, name = incomplete.partition("/")
    if slash:
        return [f"{word}/{found}" for found in _names(context, parameter, WORDS.get(word), name)]
    if words and "/" not in words[0]:
        return _names(context, parameter, WORDS.get(words[0], Kind.POD), incomplete)
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def _names(context: click.Context, parameter: click.Parameter, kind: object, incomplete: str) -> list[str]:
    from pyrun.cli.kinds import Kind
    from pyrun.errors import PyrunError
    from pyrun.runtime.catalog import Catalog

    if kind is Kind.POD:
        return complete_pods(context, parameter, incomplete)
    if kind is not Kind.REPLICA_SET:
        return []
    catalog = Catalog(_layout(context))
    try:
        names = [stored.key.name for stored in catalog.replica_sets()]
    except (OSError, PyrunError):
        return []
    finally:
        catalog.close()
    return [name for name in names if name.startswith(incomplete)]


def _layout(context: click.Context) -> Layout:
    options = context.find_root().params
    return Layout.of(options.get("root") or DEFAULT_ROOT, options.get("state") or DEFAULT_STATE)
