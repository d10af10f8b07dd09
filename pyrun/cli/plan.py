"""`pyrun plan`: what a manifest becomes, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.output import print_json

if TYPE_CHECKING:
    from pyrun.kernel.operation import Operation, Step
    from pyrun.runtime.create import PodPlan


@click.command()
@click.option("-f", "--file", "file", required=True, metavar="FILE", help="Manifest; - is stdin.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_obj
def plan(application: Application, file: str, output: str) -> None:
    """Print the operations a manifest becomes; needs no root, touches nothing, asks nobody.

    What is known only when the plan is applied stands in angle brackets. The JSON form is a list of the
    operations as the journal holds them. What this host lacks for it is told on stderr.
    """
    from pyrun.cli.pod import read_manifest
    from pyrun.runtime.host import read_capacity
    from pyrun.runtime.plan import plan_pods, what_is_missing

    plans = plan_pods(
        read_manifest(file), application.layout, application.network, read_capacity(application.layout)
    )
    if output == "json":
        print_json([operation for pod in plans for operation in pod.all_operations()])
    else:
        click.echo("\n\n".join(plan_text(pod) for pod in plans))
    for sentence in what_is_missing(plans):
        click.echo(f"on this host: {sentence}", err=True)


def plan_text(plan: PodPlan) -> str:
    """Return a plan as numbered lines; the steps of a new process stand below the operation that makes it."""
    metadata = plan.pod.metadata
    lines = [f"Pod {metadata.namespace}/{metadata.name}"]
    for number, operation in enumerate(plan.all_operations(), 1):
        lines.append(f"{number:>3}  {operation.describe()}")
        lines += [f"       {step.describe()}" for step in _steps(operation)]
    return "\n".join(lines)


def _steps(operation: Operation) -> tuple[Step, ...]:
    from pyrun.pause.sandbox import SpawnPause
    from pyrun.process.container import SpawnContainer

    if isinstance(operation, SpawnPause):
        offsets = operation.time_offsets
        return (*(() if offsets is None else (offsets,)), *operation.steps)
    return operation.steps if isinstance(operation, SpawnContainer) else ()
