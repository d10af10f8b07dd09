"""`pyrun image`: the images of an instance, from an archive, a registry or a root file system."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.output import print_json, print_table
from pyrun.errors import InputError

if TYPE_CHECKING:
    from pyrun.images.store import ImageStore
    from pyrun.spec.image import Image

pass_application = click.make_pass_decorator(Application)

_SHORT_ID = 12


@click.group()
def image() -> None:
    """Load, import, pull, list and remove images."""


def _store(application: Application) -> ImageStore:
    from pyrun.images.store import ImageStore

    return ImageStore(application.layout.images)


@image.command()
@click.argument("file", metavar="FILE")
@click.option("--name", default="", metavar="NAME", help="A further name for the only image of the archive.")
@pass_application
def load(application: Application, file: str, name: str) -> None:
    """Load the images of FILE: an OCI archive, a Docker archive (- is stdin), or an OCI layout directory."""
    application.require_root()
    path = "/dev/stdin" if file == "-" else file
    for found in _store(application).load(path, name):
        click.echo(f"loaded {', '.join(_tags(found)) or found.id}")


@image.command("import")
@click.argument("rootfs", metavar="ROOTFS.tar")
@click.argument("name", metavar="NAME")
@click.option("--cmd", default="", metavar="WORDS", help="Default arguments, as a shell would split them.")
@click.option("--entrypoint", default="", metavar="WORDS", help="Default program, as a shell would split it.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Environment variable; repeatable.")
@click.option("-w", "--workdir", default="", metavar="DIR", help="Working directory.")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="User, by name or number.")
@click.option("--stop-signal", default="", metavar="SIGNAL", help="Signal that asks the program to end.")
@pass_application
def import_(application: Application, /, rootfs: str, name: str, **options: str | tuple[str, ...]) -> None:
    """Make the image NAME from the tar of a root file system (plain or compressed)."""
    from pyrun.spec.image import ImageConfig

    for variable in options["env"]:
        if "=" not in variable[1:]:
            raise InputError(f"--env {variable!r} is not KEY=VALUE")
    config = ImageConfig(
        entrypoint=_words("--entrypoint", str(options["entrypoint"])),
        cmd=_words("--cmd", str(options["cmd"])),
        env=tuple(options["env"]),
        working_dir=str(options["workdir"]),
        user=str(options["user"]),
        stop_signal=str(options["stop_signal"]),
    )
    application.require_root()
    found = _store(application).import_rootfs(rootfs, name, config)
    click.echo(f"imported {', '.join(_tags(found))}")


def _words(option: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"{option} {text!r} cannot be split into words: {str(error).lower()}") from None


@image.command()
@click.argument("reference", metavar="REF")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
@pass_application
def pull(application: Application, reference: str, quiet: bool) -> None:
    """Pull the image REF (NAME, NAME:TAG or NAME@DIGEST) from its registry, with skopeo."""
    application.require_root()
    progress = sys.stderr.fileno() if not quiet and sys.stderr.isatty() else None
    found = _store(application).pull(reference, progress)
    click.echo(f"pulled {', '.join(_tags(found)) or _short(found)}")


@image.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@pass_application
def ls(application: Application, output: str) -> None:
    """List the images, one line for each name."""
    application.require_root()
    images = _store(application).list()
    if output == "json":
        print_json(images)
        return
    rows = [
        (tag, _short(found), found.created[:10], _size(found.size))
        for found in images
        for tag in _tags(found) or ("<none>",)
    ]
    print_table(("NAME", "ID", "CREATED", "SIZE"), rows)


@image.command()
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@pass_application
def inspect(application: Application, names: tuple[str, ...]) -> None:
    """Print all that is known of images, by name or by the beginning of an id, as a JSON list."""
    store = _store(application)
    print_json([store.inspect(name) for name in names])


@image.command()
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@pass_application
def rm(application: Application, names: tuple[str, ...]) -> None:
    """Remove images: a name, and with the last name the image itself. One in use is refused."""
    from pyrun.images.usage import mounted_layers

    application.require_root()
    store = _store(application)
    for name in names:
        used = mounted_layers(f"{store.root}/layers")
        for gone in store.remove(name, used.__contains__):
            click.echo(f"removed {_familiar(gone)}")


def _tags(found: Image) -> tuple[str, ...]:
    """The names of an image that are not digests, as people write them."""
    return tuple(_familiar(name) for name in found.names if "@" not in name)


def _familiar(name: str) -> str:
    from pyrun.images.reference import id_prefix, parse

    return name if id_prefix(name) else parse(name).familiar


def _short(found: Image) -> str:
    return found.id.removeprefix("sha256:")[:_SHORT_ID]


def _size(count: int) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
