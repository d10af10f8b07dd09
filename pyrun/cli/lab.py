"""`pyrun lab`: exercises, from one process to a system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.output import print_table

if TYPE_CHECKING:
    from pyrun.lab.engine import Lab

pass_application = click.make_pass_decorator(Application)
exercise_argument = click.argument("number", type=int, metavar="N")

NOT_YET = 1


@click.group()
def lab() -> None:
    """Learn what containers are: exercises from one process to a system.

    Each has a goal and commands to try by hand; whether it is done is read from the kernel.
    """


@lab.command("list")
@pass_application
def list_(application: Application) -> None:
    """List the exercises, and how far you are."""
    from pyrun.lab.engine import listed

    rows = [(str(row.number), row.state, row.title, row.needs) for row in listed(application.layout)]
    print_table(("N", "STATE", "EXERCISE", "NEEDS"), rows)


@lab.command()
@exercise_argument
@pass_application
def start(application: Application, number: int) -> None:
    """Make the scene of exercise N and say what to do there."""
    found = _exercise(application, number)
    found.start()
    text, scene = found.text, found.scene
    click.echo(f"Exercise {number}: {text.title}\n\n{scene.filled(text.goal)}\n")
    click.echo(f"By hand\n\n{scene.filled(text.by_hand)}\n\nWith pyrun\n\n{scene.filled(text.with_pyrun)}\n")
    click.echo(f"Begin with:  cd {scene.directory} && . ./env")
    click.echo(f"Then:        pyrun lab check {number}, and pyrun lab hint {number} when you are stuck")


@lab.command()
@exercise_argument
@pass_application
def check(application: Application, number: int) -> int:
    """Say what of exercise N is done, as the kernel sees it. Exit code 0: all; 1: not yet."""
    findings = _exercise(application, number).check()
    for finding in findings:
        seen = f"   ({finding.seen})" if finding.seen else ""
        click.echo(f"{'yes' if finding.holds else 'no ':<4} {finding.what}{seen}")
    left = sum(not finding.holds for finding in findings)
    click.echo(f"Exercise {number} is done." if not left else f"Not yet: {left} of {len(findings)}.")
    return NOT_YET if left else 0


@lab.command()
@exercise_argument
@pass_application
def hint(application: Application, number: int) -> None:
    """Print the hints of exercise N: one more each time."""
    found = _exercise(application, number)
    given = found.hints()
    for count, text in enumerate(given, 1):
        click.echo(f"{count}. {found.scene.filled(text)}")
    left = len(found.text.hints) - len(given)
    click.echo(f"({left} more)" if left else f"(that was the last; pyrun lab solve {number} shows all)")


@lab.command()
@exercise_argument
@pass_application
def solve(application: Application, number: int) -> None:
    """Do exercise N by the commands that a person would type, and print them."""
    _exercise(application, number).solve(lambda text: click.echo(text, nl=False))
    click.echo(f"Look:  pyrun lab check {number}")


@lab.command()
@exercise_argument
@pass_application
def reset(application: Application, number: int) -> None:
    """Undo all of exercise N, half-done things too; other things on this host are left alone."""
    _exercise(application, number).reset(click.echo)
    click.echo(f"Nothing is left of exercise {number}.")


def _exercise(application: Application, number: int) -> Lab:
    from pyrun.lab.engine import Lab

    application.require_root()
    return Lab(number, application.layout, application.subnet)
