"""`pyrun attach`: connect to the stdio of a container."""

from __future__ import annotations

import sys

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods
from pyrun.cli.engine import reader_may_leave

pass_application = click.make_pass_decorator(Application)


@click.command()
@click.option("-c", "--container", default=None, metavar="NAME", help="Needed when the Pod has several.")
@click.option("--no-stdin", is_flag=True, help="Only watch the output.")
@click.argument("pod", metavar="POD", shell_complete=complete_pods)
@pass_application
def attach(application: Application, container: str | None, no_stdin: bool, pod: str) -> int:
    """Connect to a running container; ctrl-p ctrl-q leaves a terminal, the container goes on."""
    from pyrun.runtime.attach import Attachment, Detached
    from pyrun.runtime.exec import choose_container
    from pyrun.runtime.pods import find

    application.require_root()
    directory = find(application.layout, pod)
    attachment = Attachment(directory, choose_container(directory, container), stdin=not no_stdin)
    try:
        with reader_may_leave():
            return attachment.run()
    except Detached:
        say_detached()
        return 0
    finally:
        attachment.close()


def say_detached() -> None:
    """Say that the container goes on, on a terminal that may have been left in the middle of a line."""
    print("\r\ndetached; the container goes on", file=sys.stderr)
