"""`pyrun pod`: Pods from their manifests to their removal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods
from pyrun.cli.output import Format, age, print_json, print_table, print_yaml
from pyrun.errors import InputError, ManifestError, NotFound, Problem

if TYPE_CHECKING:
    from pyrun.runtime.pods import PodDirectory
    from pyrun.runtime.view import PodView
    from pyrun.spec.pod import Pod

pass_application = click.make_pass_decorator(Application)


@click.group()
def pod() -> None:
    """Create, list, inspect, stop and remove Pods."""


def read_manifest(file: str) -> tuple[Pod, ...]:
    """Return the Pods of a manifest file, or of stdin for `-`. Raises ManifestError, InputError."""
    from pyrun.manifest import load_pods

    try:
        if file == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as stream:
                data = stream.read()
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}", hint="give a manifest file, or - for stdin"
        ) from None
    source = "stdin" if file == "-" else file
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(
            source, [Problem("", f"not UTF-8 text: byte {error.start} cannot be decoded")]
        ) from None
    return load_pods(text, source)


@pod.command()
@click.option("-f", "--file", "file", required=True, metavar="FILE", help="Manifest; - is stdin.")
@click.option("--explain", is_flag=True, help="Print each operation with its time as it is applied.")
@click.option(
    "--wait",
    type=click.Choice(["running", "exit"]),
    default="running",
    show_default=True,
    help="Return when all containers run, or when all have ended.",
)
@click.option(
    "--timeout", type=float, default=None, metavar="SECONDS", help="Give up waiting after this time."
)
@pass_application
def create(application: Application, file: str, explain: bool, wait: str, timeout: float | None) -> int:
    """Make the Pods of a manifest; each whole, or not at all."""
    from pyrun.cli.narrator import Narrator

    application.require_root()
    pods = read_manifest(file)
    host = application.host
    from pyrun.runtime.create import create_pods
    from pyrun.runtime.wait import exit_code, wait_until_ended

    made = create_pods(pods, host, Narrator() if explain else None)
    for directory, manifest in made:
        click.echo(f"{manifest.metadata.name} {directory.uid}")
    if wait == "exit":
        wait_until_ended([directory for directory, _ in made], timeout)
        return max(exit_code(directory) for directory, _ in made)
    return 0


@pod.command("ls")
@click.option("-o", "--output", type=click.Choice(["table", "wide", "json", "yaml"]), default="table")
@click.option("-q", "--quiet", is_flag=True, help="Print only ids.")
@pass_application
def ls(application: Application, output: str, quiet: bool) -> None:
    """List Pods."""
    from pyrun.runtime.view import list_pods

    application.require_root()
    views = list_pods(application.layout)
    if quiet:
        for view in views:
            click.echo(view.metadata.uid)
        return
    shape = Format(output)
    if shape is Format.JSON:
        print_json({"apiVersion": "v1", "kind": "List", "items": views})
    elif shape is Format.YAML:
        print_yaml({"apiVersion": "v1", "kind": "List", "items": views})
    else:
        _print_pods(views, wide=shape is Format.WIDE)


def _print_pods(views: tuple[PodView, ...], *, wide: bool) -> None:
    headers = ["NAME", "READY", "STATUS", "IP", "AGE", "ID"]
    if wide:
        headers += ["NAMESPACE", "CONTAINERS", "IMAGES"]
    rows = []
    for view in views:
        statuses = view.status.container_statuses
        row = [
            view.metadata.name,
            f"{sum(s.ready for s in statuses)}/{len(statuses)}",
            view.display_status(),
            view.status.pod_ip or "<host>",
            age(time.time() - view.created()),
            view.metadata.uid[:8],
        ]
        if wide:
            names = ",".join(s.name for s in statuses)
            row += [view.metadata.namespace, names, ",".join(s.image for s in statuses)]
        rows.append(row)
    print_table(headers, rows)


@pod.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="POD...", shell_complete=complete_pods)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), default="json")
@pass_application
def inspect(application: Application, names: tuple[str, ...], output: str) -> None:
    """Print everything known of Pods: manifest, status, processes, namespaces, cgroups."""
    from pyrun.runtime.inspect import inspect_pod

    application.require_root()
    found = [inspect_pod(directory) for directory in _find_all(application, names)]
    value = found[0] if len(found) == 1 else found
    if Format(output) is Format.YAML:
        print_yaml(value)
    else:
        print_json(value)


@pod.command("stop")
@click.argument("names", nargs=-1, required=True, metavar="POD...", shell_complete=complete_pods)
@click.option(
    "-t",
    "--time",
    "grace",
    type=click.IntRange(0),
    default=None,
    metavar="SECONDS",
    help="Grace period before SIGKILL; default: the Pod's own.",
)
@pass_application
def stop(application: Application, names: tuple[str, ...], grace: int | None) -> None:
    """Stop the containers of Pods, then their sandboxes; records and logs stay."""
    from pyrun.runtime.terminate import stop_pod

    application.require_root()
    for directory in _find_all(application, names):
        stop_pod(directory, grace, application.host)
        click.echo(directory.uid)


@pod.command("rm")
@click.argument("names", nargs=-1, metavar="POD...", shell_complete=complete_pods)
@click.option("-f", "--force", is_flag=True, help="Kill what runs; a Pod that does not exist is no error.")
@click.option("-a", "--all", "everything", is_flag=True, help="All Pods of the instance.")
@pass_application
def rm(application: Application, names: tuple[str, ...], force: bool, everything: bool) -> None:
    """Remove Pods: undo all that their creation has done."""
    from pyrun.runtime.pods import pod_directories
    from pyrun.runtime.remove import recover, remove_pod

    if bool(names) == everything:
        raise InputError("give names of Pods, or --all", hint="see pyrun pod ls")
    application.require_root()
    recover(application.layout)
    found = _find_all(application, names, missing_ok=force)
    for directory in pod_directories(application.layout) if everything else found:
        remove_pod(directory, force=force)
        click.echo(directory.uid)


@pod.command("kill")
@click.argument("names", nargs=-1, required=True, metavar="POD...", shell_complete=complete_pods)
@click.option("-s", "--signal", "signal_name", default="KILL", show_default=True, help="Name or number.")
@click.option("-c", "--container", default=None, help="Only this container.")
@pass_application
def kill(application: Application, names: tuple[str, ...], signal_name: str, container: str | None) -> None:
    """Send a signal to the main process of each container."""
    from pyrun.runtime.stop import kill_pod

    application.require_root()
    for directory in _find_all(application, names):
        kill_pod(directory, signal_name, container)
        click.echo(directory.uid)


@pod.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="POD...", shell_complete=complete_pods)
@pass_application
def pause(application: Application, names: tuple[str, ...]) -> None:
    """Freeze all processes of the containers of Pods."""
    from pyrun.runtime.freeze import freeze_pod

    application.require_root()
    for directory in _find_all(application, names):
        freeze_pod(directory)
        click.echo(directory.uid)


@pod.command("unpause")
@click.argument("names", nargs=-1, required=True, metavar="POD...", shell_complete=complete_pods)
@pass_application
def unpause(application: Application, names: tuple[str, ...]) -> None:
    """Let the processes of frozen Pods go on."""
    from pyrun.runtime.freeze import thaw_pod

    application.require_root()
    for directory in _find_all(application, names):
        thaw_pod(directory)
        click.echo(directory.uid)


def _find_all(
    application: Application, names: tuple[str, ...], *, missing_ok: bool = False
) -> list[PodDirectory]:
    from pyrun.runtime.pods import find

    found = []
    for name in names:
        try:
            found.append(find(application.layout, name))
        except NotFound:
            if not missing_ok:
                raise
    return found
