"""`pyrun pod resize`: other CPU and memory for a Pod that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods
from pyrun.errors import InputError, ManifestError, Problem

if TYPE_CHECKING:
    from pyrun.lifecycle.resize import Resources
    from pyrun.manifest.scalars import Value
    from pyrun.runtime.pods import PodDirectory
    from pyrun.runtime.resize import Resized
    from pyrun.spec.pod import Pod

_LISTS = ("requests", "limits")


@click.command()
@click.argument("name", metavar="POD", shell_complete=complete_pods)
@click.option("-c", "--container", default=None, help="Which container; needed when there are several.")
@click.option("--requests", default=None, metavar="cpu=500m,memory=64Mi", help="What is kept for it.")
@click.option("--limits", default=None, metavar="cpu=1,memory=128Mi", help="The most it may use.")
@click.option(
    "-f", "--file", "file", default=None, metavar="FILE", help="Take the resources of this manifest."
)
@click.option("--explain", is_flag=True, help="Print each operation with its time as it is applied.")
@click.option(
    "--no-supervise", is_flag=True, help="Start no supervisor, even if something is left to be done."
)
@click.pass_obj
def resize(  # noqa: PLR0913 - one parameter an option
    application: Application,
    *,
    name: str,
    container: str | None,
    requests: str | None,
    limits: str | None,
    file: str | None,
    explain: bool,
    no_supervise: bool,
) -> None:
    """Change CPU and memory of a Pod that runs: without a restart, but where its resizePolicy asks for one.

    What the host has not left now waits, and is given when there is room. Of an applied Pod the object changes too; of
    a ReplicaSet's Pod only the Pod, the template stays.
    """
    from pyrun.cli.narrator import Narrator
    from pyrun.runtime.pods import find, require_record
    from pyrun.runtime.resize import refuse_resize, resize_pod

    given = [
        (field, text) for field, text in (("requests", requests), ("limits", limits)) if text is not None
    ]
    if bool(given) == (file is not None):
        raise InputError("give --requests or --limits, or a manifest with -f")
    application.require_root()
    directory = find(application.layout, name)
    desired = require_record(directory).desired
    wanted = _of_file(desired, file, container) if file is not None else _of_flags(desired, given, container)
    refuse_resize(directory, wanted, application.host)
    generation = _store(application, directory, wanted)
    observer = Narrator() if explain else None
    resized = resize_pod(directory, wanted, application.host, observer, generation=generation)
    _record(application, directory, resized)
    _finish(application, directory, resized, not no_supervise)


# What is wished for


def _of_flags(pod: Pod, given: Sequence[tuple[str, str]], container: str | None) -> Resources:
    """Return the resources of all containers with what flags say of one. Raises ManifestError with everything wrong."""
    from pyrun.manifest.dump_containers import dump_resources

    problems: list[Problem] = []
    name = _chosen(pod, container, problems)
    amounts = {field: _pairs(field, text, problems) for field, text in given}
    if problems:
        raise ManifestError("pyrun pod resize", problems)
    present = dump_resources(pod.spec.container(name).resources)
    changed: dict[str, Value] = {field: _merged(present.get(field), amounts.get(field)) for field in _LISTS}
    return _checked(pod, {name: changed})


def _merged(present: Value, given: dict[str, Value] | None) -> Value:
    return (present if isinstance(present, dict) else {}) | (given or {})


def _chosen(pod: Pod, container: str | None, problems: list[Problem]) -> str:
    names = [one.name for one in pod.spec.all_containers()]
    if container is None and len(names) == 1:
        return names[0]
    if container is None:
        problems.append(Problem("--container", f"say which: the Pod has {', '.join(names)}"))
    elif container not in names:
        problems.append(
            Problem("--container", f'the Pod has no container "{container}", it has {", ".join(names)}')
        )
    return container or ""


def _pairs(field: str, text: str, problems: list[Problem]) -> dict[str, Value]:
    from pyrun.lifecycle.resize import RESIZABLE

    found: dict[str, Value] = {}
    for pair in text.split(","):
        resource, sign, amount = (part.strip() for part in pair.partition("="))
        if not sign or not resource or not amount:
            problems.append(Problem(f"--{field}", f'expected RESOURCE=AMOUNT such as cpu=500m, got "{pair}"'))
        elif resource not in RESIZABLE:
            problems.append(Problem(f"--{field}", f'only cpu and memory can be resized, not "{resource}"'))
        elif resource in found:
            problems.append(Problem(f"--{field}", f"{resource} is given twice"))
        else:
            found[resource] = amount
    return found


def _of_file(pod: Pod, file: str, container: str | None) -> Resources:
    """Return the resources that the one Pod of a manifest has. Raises ManifestError, InputError."""
    from pyrun.cli.pod import read_manifest
    from pyrun.manifest.dump_containers import dump_resources

    found = read_manifest(file)
    if len(found) != 1:
        raise InputError(f"{file}: one Pod is expected, it has {len(found)}")
    problems: list[Problem] = []
    if container is not None:
        _chosen(pod, container, problems)
    known = [one.name for one in pod.spec.all_containers()]
    members = (("initContainers", found[0].spec.init_containers), ("containers", found[0].spec.containers))
    for field, containers in members:
        problems += [
            Problem(f"spec.{field}[{i}].name", f'the Pod has no container "{one.name}"')
            for i, one in enumerate(containers)
            if one.name not in known
        ]
    if problems:
        raise ManifestError(file, problems)
    chosen = [one for _, containers in members for one in containers if container in (None, one.name)]
    return _checked(pod, {one.name: dump_resources(one.resources) for one in chosen})


def _checked(pod: Pod, resources: Mapping[str, Value]) -> Resources:
    """Return the resources of a Pod with others of some containers, checked like a manifest. Raises ManifestError."""
    from pyrun.lifecycle.resize import resources_of
    from pyrun.manifest import dump_pod, read_object
    from pyrun.spec.pod import Pod
    from pyrun.store.kept import with_container_resources

    value = dump_pod(pod)
    whole = value | {"spec": with_container_resources(value["spec"], resources)}
    found = read_object(whole, f'Pod "{pod.metadata.name}"')
    assert isinstance(found, Pod)
    return resources_of(found.spec)


# What is done


def _store(application: Application, directory: PodDirectory, wanted: Resources) -> int:
    """Change the object of an applied Pod first: it is the one truth, and the Pod follows it.

    Return the generation that the object has then, 0 when the Pod was not applied.
    """
    import os

    from pyrun.manifest.dump_containers import dump_resources
    from pyrun.runtime.pods import require_pod
    from pyrun.spec.object import ObjectKey
    from pyrun.store.apply import resize as resize_object
    from pyrun.store.objects import Store

    if not os.path.exists(application.layout.store):
        return 0
    metadata = require_pod(directory).metadata
    key = ObjectKey(group="", kind="Pod", namespace=metadata.namespace, name=metadata.name)
    with Store.open(application.layout.store) as store:
        resources = {name: dump_resources(one) for name, one in wanted}
        stored = resize_object(store, key, directory.uid, resources)
    return 0 if stored is None else stored.generation


def _record(application: Application, directory: PodDirectory, resized: Resized) -> None:
    from pyrun.cli.recording import of_pod, record

    record(application, *(of_pod(directory, t.reason, t.message, t.container) for t in resized.told))


def _finish(application: Application, directory: PodDirectory, resized: Resized, supervise: bool) -> None:
    """Do what a supervisor would do, if none runs, and say how far it has come."""
    from pyrun.cli.supervision import start_supervisor, supervised
    from pyrun.controllers.foreground import restart_resized
    from pyrun.lifecycle.observation import PendingReason
    from pyrun.runtime.pods import require_record

    infeasible, watched = PendingReason.INFEASIBLE, supervised(application)
    if resized.restarting and not watched:
        restart_resized(
            directory, application.host, resized.restarting, lambda text: click.echo(text, err=True)
        )
    for container, _ in resized.restarting:
        click.echo(f"{'restarting' if watched else 'restarted'} container {container}")
    record = require_record(directory)
    if record.pending is not None:
        click.echo(f"pending: {record.pending.reason.value}: {record.pending.message}")
    if record.resizing is not None and record.resizing.error:
        click.echo(f"in progress: {record.resizing.error}")
    if record.pending is None and record.resizing is None:
        click.echo(f"{record.pod.metadata.name} {'resized' if resized.told else 'unchanged'}")
    elif record.resizing is None and record.pending is not None and record.pending.reason is infeasible:
        return  # nobody can make it so; another wish can
    elif supervise:
        start_supervisor(application)
    elif not watched:
        click.echo("it goes on when a supervisor runs, or by the same command again", err=True)
