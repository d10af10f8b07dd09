"""The texts of the lab: each exercise has one, whole; and how they are read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.cgroups.delegation import Place
from pyrun.errors import PyrunError
from pyrun.lab import script, texts
from pyrun.lab.catalogue import EXERCISES
from pyrun.lab.scene import LABEL, NO_IMAGE, Scene
from pyrun.manifest import load_objects
from pyrun.spec.layout import Layout
from pyrun.spec.pod import Pod

TREE = Path(__file__).parents[2]
NUMBERS = [exercise.number for exercise in EXERCISES]
MINIMAL = """\
# A title

## Goal

    code first

then words

## By hand

by hand

## With pyrun

with pyrun

## Hints

1. one
   goes on
2. two

## Solution

```sh
first 'a
  b'

second

```

## Files

```yaml pod.yaml
a: 1
```
"""


def test_exercises_are_numbered_and_each_has_a_text() -> None:
    assert list(range(1, 14)) == NUMBERS
    assert sorted(path.name for path in (TREE / "lab").iterdir()) == [f"{n:02d}.md" for n in NUMBERS]
    titles = [texts.read(number).title for number in NUMBERS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_text_has_several_hints_and_a_solution_that_a_shell_can_read(number: int) -> None:
    text = texts.read(number)
    assert len(text.hints) >= 3
    program = script.program(text.commands)
    checked = subprocess.run(["sh", "-n"], input=program, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "--explain" in text.with_pyrun or "pyrun" in text.with_pyrun


@pytest.mark.parametrize("number", NUMBERS)
def test_a_manifest_is_one_that_pyrun_takes_and_is_labelled_as_the_labs(number: int) -> None:
    place = Place(parent="/sys/fs/cgroup")
    scene = Scene(number=number, layout=Layout(), subnet="10.137.0.0/16", place=place)
    for name, content in texts.read(number).files:
        bare = "\n".join(line.partition(NO_IMAGE)[0] for line in scene.filled(content).splitlines())
        with_image = "\n".join(line for line in scene.filled(content).splitlines() if NO_IMAGE not in line)
        for text in (bare, with_image):
            [read] = load_objects(text, name)
            assert read.metadata.labels[LABEL] == str(number)
            if not isinstance(read, Pod):
                assert read.spec.template.metadata.labels[LABEL] == str(number)
        assert scene.directory in bare or "image: nginx" in bare


def test_the_page_of_the_lab_has_a_screen_of_each() -> None:
    page = (TREE / "docs/lab.md").read_text()
    for number in NUMBERS:
        _, found, screen = page.partition(f"\n## {number}. {texts.read(number).title}\n")
        assert found
        assert f"pyrun lab check {number}\n" in screen or f"pyrun lab start {number}\n" in screen
    assert "docs/lab.md" in (TREE / "README.md").read_text()


def test_a_text_is_read_into_its_parts() -> None:
    text = texts.parse(MINIMAL, "x.md")
    assert text.title == "A title"
    assert text.goal == "    code first\n\nthen words"
    assert text.hints == ("one\ngoes on", "two")
    assert text.commands == ("first 'a\n  b'", "second")
    assert text.files == (("pod.yaml", "a: 1\n"),)


@pytest.mark.parametrize("section", ["Goal", "By hand", "With pyrun", "Hints", "Solution"])
def test_a_text_that_is_not_whole_is_refused_by_name(section: str) -> None:
    with pytest.raises(PyrunError, match=rf"x\.md has no {section}"):
        texts.parse(MINIMAL.replace(f"## {section}\n", "## Other\n"), "x.md")


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0\r"), max_size=30), max_size=4))
def test_each_command_is_shown_as_it_is_before_it_runs(words: list[str]) -> None:
    """Whatever stands in a command is shown and not run twice: here each only prints to nowhere."""
    commands = [f": {shell_quoted(word)}" for word in words]
    program = script.program(commands).replace(". ./env\n", "")
    shown = subprocess.run(["sh", "-c", program], text=True, capture_output=True, check=True).stdout
    assert shown == "".join("# " + command.replace("\n", "\n> ") + "\n" for command in commands)


def shell_quoted(word: str) -> str:
    """Quote as the shell does, without shlex, which the code under test uses."""
    return "'" + re.sub("'", "'\\\\''", word) + "'"
