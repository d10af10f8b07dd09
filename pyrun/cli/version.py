"""`pyrun version` and `pyrun completion`."""

from __future__ import annotations

import os
import sys

import click
import msgspec

from pyrun import __version__
from pyrun.cli.output import print_json, print_table
from pyrun.errors import InputError


class Program(msgspec.Struct, frozen=True):
    """A compiled program of the package; `size` in bytes, None when it is missing."""

    path: str
    size: int | None


class Versions(msgspec.Struct, frozen=True):
    """What runs here."""

    pyrun: str
    kernel: str
    python: str
    programs: dict[str, Program]


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def version(output: str) -> None:
    """Print the version of pyrun, of the kernel and of Python, and where the compiled programs are."""
    from pyrun.process.programs import PROGRAMS

    found = Versions(
        pyrun=__version__,
        kernel=os.uname().release,
        python=sys.version.split()[0],
        programs={name: _program(name) for name in PROGRAMS},
    )
    if output == "json":
        print_json(found)
        return
    rows = [("pyrun", found.pyrun), ("kernel", found.kernel), ("python", found.python)]
    for name, program in found.programs.items():
        size = "missing" if program.size is None else f"{program.size} bytes"
        rows.append((name, f"{program.path} ({size})"))
    print_table(("PART", "VERSION"), rows)


def _program(name: str) -> Program:
    from pyrun.process.programs import location

    path = location(name)
    return Program(path, os.stat(path).st_size if os.path.exists(path) else None)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Try it with: eval "$(pyrun completion bash)". To keep it, write it where the shell looks for it, such as
    /etc/bash_completion.d/pyrun, a directory of zsh's fpath (as _pyrun), or ~/.config/fish/completions/pyrun.fish.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise InputError(f"click does not know shell {shell}", hint="use bash, zsh or fish")
    root = context.find_root().command
    # Not `source()`: for bash that would run bash to look at its version, and fail where there is none.
    script = kind(root, {}, "pyrun", "_PYRUN_COMPLETE")
    click.echo(script.source_template % script.source_vars())
