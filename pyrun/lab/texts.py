"""The texts of the exercises: one Markdown file each, from which everything is read that is said or typed.

A file has a title and the sections Goal, By hand, With pyrun, Hints (a list), Solution (a block `sh`), and perhaps
Files (blocks whose first line is `yaml NAME`). In a solution, a command ends at an empty line.
"""

from __future__ import annotations

import os
import re

import msgspec

from pyrun.errors import PyrunError

_INSTALLED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "texts")
_IN_TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lab")
_BLOCK = re.compile(r"^```(\w+)(?: ([\w.-]+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SECTIONS = ("Goal", "By hand", "With pyrun", "Hints", "Solution")


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """What an exercise says. `files` are (name, content) of the scene, `commands` those of the solution."""

    title: str
    goal: str
    by_hand: str
    with_pyrun: str
    hints: tuple[str, ...]
    commands: tuple[str, ...]
    files: tuple[tuple[str, str], ...]


def directory() -> str:
    """Return where the texts are: installed beside this module, or at the top of the source tree."""
    return _INSTALLED if os.path.isdir(_INSTALLED) else os.path.normpath(_IN_TREE)


def read(number: int) -> Text:
    """Return the text of an exercise. Raises PyrunError when its file is missing or has not all sections."""
    path = f"{directory()}/{number:02d}.md"
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read(), path)
    except OSError as error:
        raise PyrunError(
            f"the text {path} cannot be read: {error.strerror}", hint="install pyrun again"
        ) from error


def parse(text: str, source: str) -> Text:
    """Return the text that a Markdown file holds. Raises PyrunError."""
    head, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    sections = {
        name.strip(): body.strip("\n").rstrip() for name, _, body in (part.partition("\n") for part in rest)
    }
    missing = [name for name in _SECTIONS if not sections.get(name)]
    if missing or not head.startswith("# "):
        raise PyrunError(f"{source} has no {', '.join(missing) or 'title'}", hint="install pyrun again")
    return Text(
        title=head.splitlines()[0].removeprefix("# ").strip(),
        goal=sections["Goal"],
        by_hand=sections["By hand"],
        with_pyrun=sections["With pyrun"],
        hints=_items(sections["Hints"]),
        commands=_commands(sections["Solution"]),
        files=tuple((name, body) for _, name, body in _BLOCK.findall(sections.get("Files", "")) if name),
    )


def _items(text: str) -> tuple[str, ...]:
    """Return the items of a Markdown list, each unindented."""
    items = re.split(r"^(?:\d+\.|-) +", text, flags=re.MULTILINE)
    return tuple(re.sub(r"^ {2,3}", "", item, flags=re.MULTILINE).strip() for item in items if item.strip())


def _commands(text: str) -> tuple[str, ...]:
    """Return the commands of the `sh` blocks; an empty line ends one."""
    blocks = [body for language, _, body in _BLOCK.findall(text) if language == "sh"]
    return tuple(
        command.strip("\n")
        for body in blocks
        for command in re.split(r"\n\s*\n", body)
        if command.strip("\n")
    )
