"""`pyrun label`: labels of an object that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_targets
from pyrun.cli.kinds import Kind, namespace_option, parse_targets
from pyrun.errors import Conflict, InputError

Changes = Mapping[str, str | None]


@click.command()
@click.argument(
    "words",
    nargs=-1,
    metavar="KIND NAME KEY=VALUE... KEY-...",
    required=True,
    shell_complete=complete_targets,
)
@click.option("--overwrite", is_flag=True, help="Change what has another value.")
@namespace_option
@click.pass_obj
def label(application: Application, words: tuple[str, ...], overwrite: bool, namespace: str) -> None:
    """Set labels of a Pod or a ReplicaSet, and take away those that end in a minus sign.

    A Pod whose labels no longer match its ReplicaSet is released by it and replaced; it lives on.
    """
    from pyrun.cli.listing import Listing, Scope

    objects, changes = split_words(words)
    targets = parse_targets(objects)
    if not all(target.names for target in targets) or any(t.kind is Kind.EVENT for t in targets):
        raise InputError("say what is labelled", hint="such as pod web, or rs/web")
    listing = Listing(application)
    try:
        rows = listing.find(targets, Scope(namespace))
    finally:
        listing.close()
    for row in rows:
        refuse_overwriting(f"{row.kind.value}/{row.name}", row.labels, changes, overwrite)
    for row in rows:
        _change(application, row.kind, (row.namespace, row.name, row.uid), changes)
        same = all(row.labels.get(key) == value for key, value in changes.items())
        removed = all(value is None for value in changes.values())
        done = "not labeled" if same else "unlabeled" if removed else "labeled"
        click.echo(f"{row.kind.value}/{row.name} {done}")


def split_words(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """Return what is labelled, and the changes: None for a label that is taken away. Raises InputError."""
    from pyrun.manifest.names import label_key, label_value

    begin = next((i for i, word in enumerate(words) if "=" in word or (i and word.endswith("-"))), len(words))
    if begin == len(words):
        raise InputError("say which labels", hint="such as app=web, or app- to take one away")
    changes: dict[str, str | None] = {}
    for word in words[begin:]:
        key, equals, value = word.partition("=")
        key = key if equals else word.removesuffix("-")
        wrong = label_key(key) or (label_value(value) if equals else None)
        if not equals and not word.endswith("-"):
            wrong = "labels are given as KEY=VALUE or KEY-"
        if not wrong and key in changes:
            wrong = "given twice"
        if wrong:
            raise InputError(f'label "{word}": {wrong}')
        changes[key] = value if equals else None
    return tuple(words[:begin]), changes


def refuse_overwriting(title: str, present: Mapping[str, str], changes: Changes, overwrite: bool) -> None:
    """Raise Conflict when a label has another value and that is not to be overwritten."""
    for key, value in changes.items():
        if value is not None and not overwrite and present.get(key, value) != value:
            raise Conflict(
                f'{title} has label {key}="{present[key]}" already', hint="give --overwrite to change it"
            )


def _change(application: Application, kind: Kind, identity: tuple[str, str, str], changes: Changes) -> None:
    """Change the labels of what is wished for, where there is something, and of the Pod itself."""
    import os

    import msgspec

    from pyrun.runtime.metadata import change_metadata
    from pyrun.runtime.pods import PodDirectory
    from pyrun.spec.pod import Metadata
    from pyrun.store.apply import label as label_object
    from pyrun.store.objects import Store

    namespace, name, uid = identity
    if os.path.exists(application.layout.store):
        with Store.open(application.layout.store) as store:
            key = kind.key(namespace, name)
            if store.find(key) is not None:
                label_object(store, key, changes)
    directory = PodDirectory(application.layout, uid)
    if kind is Kind.POD and os.path.isdir(directory.path):

        def labelled(metadata: Metadata) -> Metadata:
            merged = {**metadata.labels, **changes}
            kept = {key: value for key, value in merged.items() if value is not None}
            return msgspec.structs.replace(metadata, labels=kept)

        change_metadata(directory, labelled)
