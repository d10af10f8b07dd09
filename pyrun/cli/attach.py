"""`pyrun attach`: connect to the stdio of a container."""

from __future__ import annotations

import sys

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods

pass_application = click.make_pass_decorator(Application)


@click.command()
@click.option("-c", "--container", default=None, metavar="NAME", help="Needed when the Pod has several.")
@click.option("--no-stdin", is_flag=True, help="Only watch the output.")
@click.argument("pod", metavar="POD", shell_complete=complete_pods)
@pass_application
def attach(application: Application, container: str | None, no_stdin: bool, pod: str) -> int:
    """Connect to a running container; ctrl-p ctrl-q leaves a terminal, the container goes on."""
    from pyrun.runtime.attach import Attachment
    from pyrun.runtime.exec import choose_container
    from pyrun.runtime.pods import find

    application.require_root()
    directory = find(application.layout, pod)
    return run_attached(Attachment(directory, choose_container(directory, container), stdin=not no_stdin))


def run_attached(attachment: object) -> int:
    """Relay until the container ends or the user detaches; returns the exit code."""
    from pyrun.runtime.attach import Attachment, Detached

    assert isinstance(attachment, Attachment)
    try:
        return attachment.run()
    except Detached:
        print("\r\ndetached; the container goes on", file=sys.stderr)
        return 0
    finally:
        attachment.close()
