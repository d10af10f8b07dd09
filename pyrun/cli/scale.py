"""`pyrun scale`: how many replicas there shall be."""

from __future__ import annotations

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_targets
from pyrun.cli.kinds import Kind, namespace_option, one_target
from pyrun.errors import Conflict, InputError


@click.command()
@click.argument("words", nargs=-1, metavar="rs NAME | rs/NAME", shell_complete=complete_targets)
@click.option("--replicas", type=int, required=True, metavar="N", help="How many there shall be.")
@click.option("--current-replicas", type=int, default=None, metavar="M", help="Only if M are wished for now.")
@click.option("--no-supervise", is_flag=True, help="Start no supervisor, if none runs.")
@namespace_option
@click.pass_obj
def scale(
    application: Application,
    words: tuple[str, ...],
    replicas: int,
    current_replicas: int | None,
    no_supervise: bool,
    namespace: str,
) -> None:
    """Set how many Pods a ReplicaSet shall have."""
    from pyrun.cli.supervision import supervise_if_wanted
    from pyrun.store.apply import scale as scale_object
    from pyrun.store.convert import object_value
    from pyrun.store.objects import Store

    kind, name = one_target(words)
    if kind is not Kind.REPLICA_SET:
        raise InputError("only a ReplicaSet can be scaled", hint="pyrun scale rs NAME --replicas N")
    application.require_root()
    key = kind.key(namespace, name)
    with Store.open(application.layout.store) as store:
        spec = object_value(store.get(key))["spec"]
        present = spec.get("replicas") if isinstance(spec, dict) else None
        if current_replicas is not None and present != current_replicas:
            raise Conflict(
                f"{name} shall have {present} replicas, not {current_replicas} as given",
                hint="nothing was changed",
            )
        scale_object(store, key, replicas)
    click.echo(f"{kind.value}/{name} scaled")
    supervise_if_wanted(application, not no_supervise)
