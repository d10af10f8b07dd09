"""The architecture as a test: which room may import which, who may print, and what start-up may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "pyrun"

# From the top; a room may import what stands below it. Rooms of one line are siblings and do not import each other.
ORDER = (
    ("cli",),
    ("lab",),
    ("controllers",),
    ("runtime",),
    ("store",),
    ("state",),
    ("plan",),
    ("pause",),
    ("process",),
    ("namespaces", "cgroups", "rootfs", "network", "security", "images"),
    ("kernel",),
    ("manifest", "lifecycle"),
    ("spec",),
)
FOR_EVERYONE = {"errors", ""}  # "" is the package itself: its version
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
GENERATED = {"_nftables.py"}

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in GENERATED)


class Import(NamedTuple):
    """One module that a file imports, wherever it does so: in a function and for type checking too."""

    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(REPOSITORY)}:{self.line} imports {self.module}"


def room_of(path: Path) -> str:
    """The room a file belongs to; its own name when it lies directly in the package."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports_of(path: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides the room it reaches into"
            module = node.module or ""
            if module == "pyrun":
                yield from (Import(path, node.lineno, f"pyrun.{alias.name}") for alias in node.names)
            else:
                yield Import(path, node.lineno, module)


def target_room(module: str) -> str | None:
    """The room of an imported module, None when it is not pyrun's."""
    first, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    return None if first != "pyrun" else "" if room.startswith("__") else room


def test_every_room_has_its_place() -> None:
    rooms = {path.parent.relative_to(PACKAGE).parts[0] for path in SOURCES if path.parent != PACKAGE}
    assert rooms == set(LEVEL)


def test_a_room_imports_only_what_stands_below_it() -> None:
    wrong = []
    for path in SOURCES:
        room = room_of(path)
        if room in ("__main__", "__init__"):
            continue
        for found in imports_of(path):
            target = target_room(found.module)
            if target is None or target in FOR_EVERYONE or target == room:
                continue
            if room not in LEVEL or LEVEL[target] <= LEVEL[room]:
                wrong.append(str(found))
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_the_command_line() -> None:
    wrong = [
        str(found)
        for path in SOURCES
        if room_of(path) not in ("cli", "__main__")
        for found in imports_of(path)
        if target_room(found.module) == "cli" or found.module.partition(".")[0] == "click"
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_command_line_prints_and_exits() -> None:
    wrong = []
    for path in SOURCES:
        if room_of(path) in ("cli", "__main__"):
            continue
        tree = ast.parse(path.read_text())
        # What runs when the package is built is a program of its own.
        scripts = [
            node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        ]
        built = {inner for script in scripts for inner in ast.walk(script)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node not in built:
                called = ast.unparse(node.func)
                if called in ("print", "sys.exit", "exit", "quit", "input") or called.startswith("sys.std"):
                    wrong.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} calls {called}")
    assert not wrong, "\n".join(wrong)


def test_no_module_is_longer_than_a_person_reads() -> None:
    wrong = [f"{path}: {n}" for path in SOURCES if (n := len(path.read_text().splitlines())) > 400]
    assert not wrong, "\n".join(wrong)


def test_no_function_is_longer_than_a_screen() -> None:
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 60:
                    wrong.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}: {lines} lines")
    assert not wrong, "\n".join(wrong)


HEAVY = (
    "asyncio",
    "concurrent",
    "ctypes",
    "datetime",
    "email",
    "hashlib",
    "ipaddress",
    "json",
    "logging",
    "multiprocessing",
    "pyroute2",
    "shutil",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tarfile",
    "tempfile",
    "threading",
    "unittest",
    "urllib",
    "uuid",
    "yaml",
)


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh interpreter and return which of the heavy modules it has loaded beside Python's own."""
    names = repr(HEAVY)
    program = (
        "import sys; before = set(sys.modules)\n"
        f"{code}\n"
        f"print(*(name for name in {names} if name in sys.modules and name not in before))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=REPOSITORY,
        check=True,
    )
    return set(result.stdout.split())


def test_the_command_line_starts_light() -> None:
    # click brings some itself; what pyrun adds to it is what is looked at.
    of_click = loaded_after("import click, click.core, click.shell_completion, msgspec")
    assert loaded_after("import pyrun.cli.main") - of_click == set()
    assert (
        loaded_after("import pyrun.cli.main") & {"yaml", "pyroute2", "tarfile", "asyncio", "hashlib"} == set()
    )


@pytest.mark.parametrize(
    "command",
    [
        *("pod", "logs", "plan", "version", "check", "exec", "attach", "run", "image", "apply", "get"),
        *("describe", "scale", "label", "delete", "wait", "events", "supervise", "stats", "lab"),
    ],
)
def test_a_command_is_loaded_without_heavy_modules(command: str) -> None:
    code = (
        "import importlib; from pyrun.cli.main import COMMANDS\n"
        f"importlib.import_module(COMMANDS[{command!r}][0].partition(':')[0])"
    )
    of_click = loaded_after("import click, click.core, click.shell_completion, msgspec")
    assert loaded_after(code) - of_click == set()


def linter(*command: str) -> None:
    module = command[0]
    known = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False)
    if known.returncode != 0:
        pytest.skip(f"{module} is not installed (pip install .[test])")
    result = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=REPOSITORY,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_ruff_finds_nothing() -> None:
    linter("ruff", "check", "--no-cache", "pyrun", "tests")


def test_ruff_would_format_nothing() -> None:
    linter("ruff", "format", "--no-cache", "--check", "pyrun", "tests")


def test_mypy_finds_nothing() -> None:
    linter("mypy")
