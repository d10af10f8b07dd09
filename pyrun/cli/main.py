"""The `pyrun` command: global options, the commands, and the one place where errors are printed."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from pyrun import __version__
from pyrun.cli.application import Application
from pyrun.cli.lazy import LazyGroup
from pyrun.errors import Interrupted, PyrunError
from pyrun.spec.layout import DEFAULT_ROOT, DEFAULT_STATE
from pyrun.spec.network import DEFAULT_SUBNET

COMMANDS = {
    "pod": ("pyrun.cli.pod:pod", "Create, list, inspect, stop and remove Pods."),
    "ps": ("pyrun.cli.pod:ls", "List Pods; the same as pod ls."),
    "run": ("pyrun.cli.run:run", "Run one container as a Pod, in the foreground."),
    "exec": ("pyrun.cli.exec:exec_", "Run a program inside a container."),
    "attach": ("pyrun.cli.attach:attach", "Connect the terminal to a container's stdio."),
    "logs": ("pyrun.cli.logs:logs", "Print what a container has written."),
    "apply": ("pyrun.cli.apply:apply", "Make Pods and ReplicaSets of a manifest what shall be."),
    "get": ("pyrun.cli.get:get", "Print pods, replicasets, events; what apply takes with -o yaml."),
    "describe": ("pyrun.cli.describe:describe", "Print all that is known of an object, and its events."),
    "scale": ("pyrun.cli.scale:scale", "Set how many Pods a ReplicaSet shall have."),
    "label": ("pyrun.cli.label:label", "Set labels of an object, or take them away."),
    "delete": ("pyrun.cli.delete:delete", "Delete Pods and ReplicaSets."),
    "wait": ("pyrun.cli.wait:wait", "Wait until objects are as they shall be."),
    "events": ("pyrun.cli.events:events", "Print what was decided and why."),
    "supervise": ("pyrun.cli.supervise:supervise", "Keep Pods and ReplicaSets as they shall be."),
    "stats": ("pyrun.cli.stats:stats", "Print what Pods and their containers use."),
    "image": ("pyrun.cli.image:image", "Load, import, pull, list and remove images."),
    "lab": ("pyrun.cli.lab:lab", "Learn what containers are, by exercises."),
    "plan": ("pyrun.cli.plan:plan", "Print the operations a manifest becomes; needs no root."),
    "check": ("pyrun.cli.check:check", "Say what this host can do for pyrun and what not."),
    "version": ("pyrun.cli.version:version", "Print the version of pyrun and of the kernel."),
    "completion": ("pyrun.cli.version:completion", "Print the completion script of a shell."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="pyrun", message="%(prog)s %(version)s")
@click.option(
    "--root",
    default=DEFAULT_ROOT,
    envvar="PYRUN_ROOT",
    show_default=True,
    show_envvar=True,
    help="Directory of what survives a reboot: images, writable layers, volumes, logs.",
)
@click.option(
    "--state",
    default=DEFAULT_STATE,
    envvar="PYRUN_STATE",
    show_default=True,
    show_envvar=True,
    help="Directory of records and locks; another one is another instance, with its own bridge and cgroups.",
)
@click.option(
    "--subnet",
    default=DEFAULT_SUBNET,
    envvar="PYRUN_SUBNET",
    show_default=True,
    show_envvar=True,
    help="Subnet of the Pods of this instance.",
)
@click.pass_context
def pyrun(context: click.Context, root: str, state: str, subnet: str) -> None:
    """Run Kubernetes Pods on this host, straight from their manifests."""
    context.obj = Application(os.path.abspath(root), os.path.abspath(state), subnet)


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted("terminated by SIGTERM; what was half made has been undone")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: the codes are those of the error tree, documented in the README."""
    _open_missing_stdio()
    signal.signal(signal.SIGTERM, _on_sigterm)
    os.umask(0o022)  # what containers see of the files made here must not depend on the caller
    sys.exit(run_command_line(arguments))


def _open_missing_stdio() -> None:
    """Open /dev/null where the caller has closed 0, 1 or 2: the next file opened would be taken for stdio."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def run_command_line(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; errors go to stderr as one sentence."""
    try:
        result = pyrun.main(arguments, prog_name="pyrun", standalone_mode=False)
    except PyrunError as error:
        _complain(error, error.sentence())
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        _complain(error, "interrupted; what was half made has been undone")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(error, f"{where}{error.strerror or error}")
        return 1
    return result if isinstance(result, int) else 0


def _complain(error: BaseException, sentence: str) -> None:
    print(f"pyrun: {sentence}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"pyrun: also: {note}", file=sys.stderr)
