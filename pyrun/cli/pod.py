"""`pyrun pod`: Pods from their manifests to their removal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods
from pyrun.cli.lazy import LazyGroup
from pyrun.cli.output import Format, age, complain, print_json, print_table, print_yaml
from pyrun.errors import InputError, NotFound, StateError

if TYPE_CHECKING:
    from pyrun.runtime.pods import PodDirectory
    from pyrun.runtime.view import PodView
    from pyrun.spec.pod import Pod

pass_application = click.make_pass_decorator(Application)


@click.group(
    cls=LazyGroup,
    lazy={
        "get": ("pyrun.cli.get:get_pods", "Print Pods; the same as get pods."),
        "map": ("pyrun.cli.map:map_", "Draw a Pod: its namespaces and who holds them, its cgroups."),
        "resize": ("pyrun.cli.resize:resize", "Change CPU and memory of a Pod that runs."),
        "why": ("pyrun.cli.why:why", "Say why a Pod is as it is, and what to try next."),
    },
)
def pod() -> None:
    """Create, list, inspect, stop and remove Pods."""


def read_manifest(file: str) -> tuple[Pod, ...]:
    """Return the Pods of a manifest file, or of stdin for `-`. Raises ManifestError, InputError."""
    from pyrun.cli.manifests import read_text
    from pyrun.manifest import load_pods

    return load_pods(*read_text(file))


@pod.command()
@click.option("-f", "--file", "file", required=True, metavar="FILE", help="Manifest; - is stdin.")
@click.option("--explain", is_flag=True, help="Print each operation with its time as it is applied.")
@click.option(
    "--wait",
    type=click.Choice(["running", "ready", "exit"]),
    default=None,
    help="Return when all containers run, when all Pods are ready, or when all have ended; default: once all "
    "is made.",
)
@click.option(
    "--timeout", type=float, default=None, metavar="SECONDS", help="Give up waiting after this time."
)
@click.option("--no-supervise", is_flag=True, help="Start no supervisor, even if a Pod needs one.")
@click.option(
    "--best-effort", is_flag=True, help="Run without limits and requests that this host cannot give."
)
@pass_application
def create(  # noqa: PLR0913 - one parameter an option
    application: Application,
    *,
    file: str,
    explain: bool,
    wait: str | None,
    timeout: float | None,
    no_supervise: bool,
    best_effort: bool,
) -> int:
    """Make the Pods of a manifest; each whole, or not at all.

    A supervisor is started when a Pod needs one (restarts, probes, init containers, hooks, deadlines) and none
    runs.
    """
    from pyrun.cli.narrator import Narrator
    from pyrun.cli.recording import record_created
    from pyrun.cli.supervision import start_supervisor, supervised
    from pyrun.lifecycle.restart import needs_supervision

    application.require_root()
    pods = read_manifest(file)
    if best_effort:
        pods = tuple(_taking_what_there_is(pod) for pod in pods)
    host = application.host
    from pyrun.runtime.create import create_pods

    made = create_pods(pods, host, Narrator() if explain else None)
    record_created(application, made)
    for directory, manifest in made:
        click.echo(f"{manifest.metadata.name} {directory.uid}")
    if not no_supervise and any(needs_supervision(manifest) for _, manifest in made):
        start_supervisor(application)
    elif not supervised(application):
        _bring_up(application, made)
    if wait is not None:
        return _wait(application, [directory for directory, _ in made], wait, timeout)
    return 0


def _taking_what_there_is(pod: Pod) -> Pod:
    import msgspec

    from pyrun.spec.annotations import with_best_effort

    return msgspec.structs.replace(pod, metadata=with_best_effort(pod.metadata))


def _bring_up(application: Application, made: list[tuple[PodDirectory, Pod]]) -> None:
    """Run the init containers and postStart hooks of Pods that nobody supervises, and start what comes after."""
    for directory, manifest in made:
        spec = manifest.spec
        if spec.init_containers or any(c.lifecycle.post_start is not None for c in spec.containers):
            from pyrun.controllers.foreground import bring_up

            bring_up(directory, application.host, lambda sentence: click.echo(sentence, err=True))


def _wait(application: Application, made: list[PodDirectory], wanted: str, timeout: float | None) -> int:
    """Wait until Pods are as they shall be; return the exit code of the command."""
    from pyrun.cli.supervision import supervised
    from pyrun.runtime.wait import exit_code, wait_until_ended, wait_until_ready, wait_until_running

    if wanted == "exit":
        wait_until_ended(made, timeout, supervised=supervised(application))
        return max(exit_code(directory) for directory in made)
    (wait_until_ready if wanted == "ready" else wait_until_running)(made, timeout)
    return 0


@pod.command("ls")
@click.option("-o", "--output", type=click.Choice(["table", "wide", "json", "yaml"]), default="table")
@click.option("-q", "--quiet", is_flag=True, help="Print only ids.")
@pass_application
def ls(application: Application, output: str, quiet: bool) -> None:
    """List Pods."""
    from pyrun.runtime.view import list_pods

    application.require_root()
    views = list_pods(application.layout, complain)
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
    from pyrun.cli.recording import of_pod, record
    from pyrun.runtime.terminate import stop_pod
    from pyrun.state.events import Reason

    application.require_root()
    for directory in _find_all(application, names):
        record(application, of_pod(directory, Reason.KILLING, "Stopping Pod: it was stopped by hand"))
        failures = stop_pod(directory, grace, application.host)
        record(
            application,
            *(of_pod(directory, Reason.FAILED_PRE_STOP, f.message, f.container) for f in failures),
        )
        click.echo(directory.uid)


@pod.command("rm")
@click.argument("names", nargs=-1, metavar="POD...", shell_complete=complete_pods)
@click.option("-f", "--force", is_flag=True, help="Kill what runs; a Pod that does not exist is no error.")
@click.option("-a", "--all", "everything", is_flag=True, help="All Pods of the instance.")
@pass_application
def rm(application: Application, names: tuple[str, ...], force: bool, everything: bool) -> None:
    """Remove Pods: undo all that their creation has done."""
    from pyrun.runtime.pods import pod_directories
    from pyrun.runtime.remove import recover

    if bool(names) == everything:
        raise InputError("give names of Pods, or --all", hint="see pyrun pod ls")
    application.require_root()
    recover(application.layout)
    found = _find_all(application, names, missing_ok=force)
    for directory in pod_directories(application.layout) if everything else found:
        _remove(application, directory, force)
        click.echo(directory.uid)


def _remove(application: Application, directory: PodDirectory, force: bool) -> None:
    """Remove a Pod; one that was applied is taken out of what shall be before, or it would be made again."""
    from pyrun.cli.recording import ends_of, of_pod, record
    from pyrun.controllers.deletion import forget_applied
    from pyrun.runtime.remove import refuse_running, remove_pod
    from pyrun.state.events import Reason

    if not force:
        refuse_running(directory)
    events = [*ends_of(directory), of_pod(directory, Reason.REMOVED, "Pod was removed by hand")]
    try:
        forget_applied(application.layout, directory)
    except StateError as error:
        click.echo(f"pyrun: if the Pod was applied it will be made again: {error}", err=True)
    remove_pod(directory, force=force)
    record(application, *events)


@pod.command("kill")
@click.argument("names", nargs=-1, required=True, metavar="POD...", shell_complete=complete_pods)
@click.option("-s", "--signal", "signal_name", default="KILL", show_default=True, help="Name or number.")
@click.option("-c", "--container", default=None, help="Only this container.")
@pass_application
def kill(application: Application, names: tuple[str, ...], signal_name: str, container: str | None) -> None:
    """Send a signal to the main process of each container."""
    from pyrun.cli.recording import of_pod, record
    from pyrun.runtime.stop import kill_pod
    from pyrun.state.events import Reason

    application.require_root()
    for directory in _find_all(application, names):
        kill_pod(directory, signal_name, container)
        message = f"Signal {signal_name} was sent by hand"
        record(application, of_pod(directory, Reason.KILLING, message, container or ""))
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
