"""`pyrun apply`: what shall be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.kinds import Kind
from pyrun.cli.manifests import read_text
from pyrun.errors import Conflict, InputError, NotFound

if TYPE_CHECKING:
    from pyrun.manifest import KubernetesObject
    from pyrun.manifest.scalars import Value

SET_BY_SYSTEM = frozenset(
    {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "ownerReferences",
        "selfLink",
    }
)
"""Fields of metadata that no user sets. Source: meta/v1 ObjectMeta, "Read-only", "Populated by the system"."""


@click.command()
@click.option("-f", "--filename", "file", required=True, metavar="FILE", help="Manifest; - is stdin.")
@click.option("--no-supervise", is_flag=True, help="Start no supervisor, if none runs.")
@click.option(
    "--best-effort", is_flag=True, help="Run Pods without limits and requests that this host cannot give."
)
@click.pass_obj
def apply(application: Application, file: str, no_supervise: bool, best_effort: bool) -> None:
    """Make the Pods and ReplicaSets of a manifest what shall be; the supervisor makes it so, and keeps it.

    Starts the supervisor when it does not run. What is removed from the manifest is not deleted.
    """
    from pyrun.cli.supervision import supervise_if_wanted
    from pyrun.manifest import dump_object, load_given
    from pyrun.runtime.clock import now
    from pyrun.store.apply import apply as apply_object
    from pyrun.store.convert import desired_object
    from pyrun.store.objects import Store

    text, source = read_text(file)
    objects = load_given(text, source)
    if best_effort:
        objects = tuple(taking_what_there_is(given) for given, _ in objects)
    desired = []
    for given, read in objects:
        if not read.metadata.name:
            raise InputError(
                f"{source}: generateName cannot be applied", hint="give a name, or use pyrun pod create"
            )
        desired.append(desired_object(as_wished(given), dump_object(read)))
    application.require_root()
    with Store.open(application.layout.store) as store:
        for wanted in desired:
            if wanted.key.kind == "Pod" and store.find(wanted.key) is None:
                refuse_foreign_pod(application, wanted.key.namespace, wanted.key.name)
            applied = apply_object(store, wanted, now())
            word = next(kind.value for kind in Kind if kind.kubernetes == wanted.key.kind)
            click.echo(f"{word}/{wanted.key.name} {applied.outcome.value}")
    supervise_if_wanted(application, not no_supervise)


def taking_what_there_is(given: Value) -> tuple[Value, KubernetesObject]:
    """Return an object whose Pods run without limits that the host cannot give, as given and as read."""
    from pyrun.manifest import read_object
    from pyrun.spec.annotations import BEST_EFFORT

    def annotated(value: Value, path: tuple[str, ...]) -> dict[str, Value]:
        known = value if isinstance(value, dict) else {}
        if not path:
            return known | {BEST_EFFORT: "true"}
        return known | {path[0]: annotated(known.get(path[0]), path[1:])}

    template = isinstance(given, dict) and given.get("kind") == "ReplicaSet"
    changed = annotated(given, (*(("spec", "template") if template else ()), "metadata", "annotations"))
    return changed, read_object(changed)


def as_wished(given: Value) -> Value:
    """Return an object without what only the system sets, so that what `get` prints can be applied as it is."""
    if not isinstance(given, dict):
        return given
    metadata = given.get("metadata")
    kept = (
        metadata
        if not isinstance(metadata, dict)
        else {k: v for k, v in metadata.items() if k not in SET_BY_SYSTEM}
    )
    return {key: value for key, value in given.items() if key != "status"} | {"metadata": kept}


def refuse_foreign_pod(application: Application, namespace: str, name: str) -> None:
    """Raise Conflict when there is a Pod of this name that was not applied."""
    from pyrun.runtime.pods import find

    try:
        directory = find(application.layout, f"{namespace}/{name}")
    except (NotFound, InputError):
        return
    raise Conflict(
        f'Pod "{namespace}/{name}" exists already and was not applied (id {directory.uid})',
        hint=f"remove it first: pyrun pod rm -f {directory.uid[:8]}",
    )
