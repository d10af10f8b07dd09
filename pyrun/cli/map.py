"""`pyrun pod map`: a Pod as the kernel has it, as a picture."""

from __future__ import annotations

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods


@click.command()
@click.argument("pod", metavar="POD", shell_complete=complete_pods)
@click.option("-o", "--output", type=click.Choice(["text", "dot", "svg"]), default="text", show_default=True)
@click.pass_obj
def map_(application: Application, pod: str, output: str) -> None:
    """Draw a Pod: who is in which namespace, and the cgroups with limits and use.

    dot is for Graphviz, svg is a picture.
    """
    from pyrun.runtime.map import map_pod
    from pyrun.runtime.pods import find

    application.require_root()
    found = map_pod(find(application.layout, pod))
    if output == "dot":
        from pyrun.cli.podmap.dot import draw
    elif output == "svg":
        from pyrun.cli.podmap.svg import draw
    else:
        from pyrun.cli.podmap.text import draw
    click.echo(draw(found), nl=False)
