"""`pyrun exec`: run a program inside a container."""

from __future__ import annotations

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods
from pyrun.cli.engine import EngineCommand, as_engine_error, variables


@click.command("exec", cls=EngineCommand, context_settings={"allow_interspersed_args": False})
@click.option("-i", "--stdin", is_flag=True, help="Pass stdin on.")
@click.option("-t", "--tty", is_flag=True, help="Give the program a terminal.")
@click.option("-u", "--user", default=None, metavar="NAME|UID[:GROUP]", help="Default: the container's user.")
@click.option("-w", "--workdir", default=None, metavar="PATH", help="Default: the container's.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="More environment.")
@click.option("-c", "--container", default=None, metavar="NAME", help="Needed when the Pod has several.")
@click.argument("pod", metavar="POD", shell_complete=complete_pods)
@click.argument("arguments", nargs=-1, metavar="[-c NAME] -- CMD...", type=click.UNPROCESSED)
@click.pass_context
def exec_(  # noqa: PLR0913 - one parameter an option
    context: click.Context,
    stdin: bool,
    tty: bool,
    user: str | None,
    workdir: str | None,
    env: tuple[str, ...],
    container: str | None,
    pod: str,
    arguments: tuple[str, ...],
) -> int:
    """Run a program inside a running container, in all of its namespaces and with its capabilities.

    The exit code is the program's; 126 when it cannot be executed, 127 when it does not exist, 125 when pyrun
    itself fails.
    """
    application = context.find_object(Application)
    assert application is not None
    with as_engine_error():
        container, command = split_command(container, arguments)
        application.require_root()
        from pyrun.plan.session import SessionRequest
        from pyrun.runtime.exec import choose_container, exec_in_container
        from pyrun.runtime.pods import find

        request = SessionRequest(
            args=command, env=variables(env), cwd=workdir, user=user, terminal=tty, stdin=stdin
        )
        directory = find(application.layout, pod)
        name = choose_container(directory, container)
        return exec_in_container(directory, name, request, application.host)


def split_command(container: str | None, arguments: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the container and the command of `[-c NAME] [--] CMD...`, as it stands after the Pod's name."""
    rest = list(arguments)
    if rest and rest[0] in ("-c", "--container") and len(rest) > 1:
        container, rest = rest[1], rest[2:]
    elif rest and rest[0].startswith("--container="):
        container, rest = rest[0].partition("=")[2], rest[1:]
    if rest and rest[0] == "--":
        rest = rest[1:]
    if not rest:
        raise click.UsageError("no command was given: pyrun exec POD [-c NAME] -- CMD...")
    return container, tuple(rest)
