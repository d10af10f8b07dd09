"""`pyrun run`: one container as a Pod, in the foreground."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.attach import say_detached
from pyrun.cli.engine import EngineCommand, as_engine_error, cpu_limit, memory_limit, variables
from pyrun.errors import InputError, NotFound

if TYPE_CHECKING:
    from pyrun.runtime.one import RunRequest
    from pyrun.runtime.pods import PodDirectory


@click.command(cls=EngineCommand, context_settings={"allow_interspersed_args": False})
@click.option("--rm", "remove", is_flag=True, help="Remove the Pod when the container has ended.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print its id.")
@click.option("-i", "--stdin", is_flag=True, help="Pass stdin on.")
@click.option("-t", "--tty", is_flag=True, help="Give the container a terminal.")
@click.option("--name", default="", help="Name of the Pod; default: run- and five letters.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Environment.")
@click.option("-v", "--volume", multiple=True, metavar="SOURCE:TARGET[:ro]", help="Show a path of the host.")
@click.option("-w", "--workdir", default="", metavar="PATH", help="Working directory.")
@click.option("-u", "--user", default=None, metavar="NAME|UID[:GROUP]", help="Default: the image's.")
@click.option("--rootfs", is_flag=True, help="IMAGE is a directory that serves as root file system.")
@click.option("--host-network", is_flag=True, help="Use the host's network instead of one of its own.")
@click.option("--privileged", is_flag=True, help="All capabilities, all devices, nothing masked.")
@click.option("--read-only", is_flag=True, help="Read-only root file system.")
@click.option("-m", "--memory", default=None, metavar="SIZE", help="Memory limit: 64m, 512Mi, 1g.")
@click.option("--cpus", default=None, metavar="N", help="Limit of CPUs: 0.5, 2, 250m.")
@click.option(
    "--pids-limit", type=click.IntRange(1), default=None, metavar="N", help="Processes and threads."
)
@click.option(
    "--best-effort", is_flag=True, help="Run without limits and requests that this host cannot give."
)
@click.argument("image")
@click.argument("arguments", nargs=-1, metavar="[CMD...]", type=click.UNPROCESSED)
@click.pass_context
def run(  # noqa: PLR0913 - one parameter an option
    context: click.Context,
    *,
    remove: bool,
    detach: bool,
    stdin: bool,
    tty: bool,
    name: str,
    env: tuple[str, ...],
    volume: tuple[str, ...],
    workdir: str,
    user: str | None,
    rootfs: bool,
    host_network: bool,
    privileged: bool,
    read_only: bool,
    memory: str | None,
    cpus: str | None,
    pids_limit: int | None,
    best_effort: bool,
    image: str,
    arguments: tuple[str, ...],
) -> int:
    """Run IMAGE as a Pod of one container.

    The exit code is the program's; 126 when it cannot be executed, 127 when it does not exist, 125 when pyrun
    itself fails. ctrl-p ctrl-q leaves a terminal, the container goes on.
    """
    application = context.find_object(Application)
    assert application is not None
    with as_engine_error():
        if detach and remove:
            raise InputError("-d and --rm exclude each other", hint="nobody stays to remove it: pyrun pod rm")
        application.require_root()
        from pyrun.runtime.one import RunRequest

        request = RunRequest(
            image=os.path.abspath(image) if rootfs else image,
            args=arguments,
            name=name,
            env=variables(env),
            volumes=volume,
            workdir=workdir,
            terminal=tty,
            stdin=stdin,
            rootfs=rootfs,
            host_network=host_network,
            privileged=privileged,
            read_only=read_only,
            memory=None if memory is None else memory_limit(memory),
            cpu_millis=None if cpus is None else cpu_limit(cpus),
            pids=pids_limit,
            best_effort=best_effort,
        )
        return (
            run_detached(application, request, user)
            if detach
            else run_in_front(application, request, user, remove)
        )


def run_detached(application: Application, request: RunRequest, user: str | None) -> int:
    """Make the Pod, print its id and return."""
    from pyrun.runtime.create import create_one

    directory = create_one(request, user, application.host)
    click.echo(directory.uid)
    return 0


def run_in_front(application: Application, request: RunRequest, user: str | None, remove: bool) -> int:
    """Make the Pod, relay its stdio until it ends, and remove it if that is wanted.

    Who detaches leaves the container running, so it is not removed.
    """
    from pyrun.runtime.attach import Attachment, Detached
    from pyrun.runtime.create import create_one
    from pyrun.runtime.one import CONTAINER

    attachments: list[Attachment] = []

    def attach(created: PodDirectory) -> None:
        # Between create and start: nothing the program writes can be missed, and every signal is for it.
        attachments.append(Attachment(created, CONTAINER, stdin=request.stdin, closes_stdin=True))

    try:
        directory = create_one(request, user, application.host, attach)
        try:
            code = attachments[0].run()
        except Detached:
            say_detached()
            return 0
        except BaseException:
            remove_if(remove, directory)
            raise
        remove_if(remove, directory)
        return code
    finally:
        for attachment in attachments:
            attachment.close()


def remove_if(wanted: bool, directory: PodDirectory) -> None:
    """Remove the Pod if that is wanted; another command may have done it before."""
    from pyrun.runtime.remove import remove_pod

    if wanted:
        with suppress(NotFound):
            remove_pod(directory, force=True)
