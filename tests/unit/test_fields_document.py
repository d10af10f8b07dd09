"""docs/fields.md says what the table of fields says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pyrun.manifest.schema import POD, REPLICA_SET, kinds

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "fields.md"


def test_the_document_is_what_the_tool_prints() -> None:
    printed = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "fields"], capture_output=True, check=True, timeout=60
    )
    assert DOCUMENT.read_bytes() == printed.stdout, "tools/fields > docs/fields.md"


def test_it_has_every_field_of_every_kind() -> None:
    sections = {text.partition("\n")[0]: text for text in DOCUMENT.read_text().split("\n## ")[1:]}
    found = kinds(POD, REPLICA_SET)
    assert list(sections) == [kind.name for kind in found]
    for kind in found:
        rows = [line for line in sections[kind.name].splitlines() if line.startswith("| `")]
        assert [line.split("`")[1] for line in rows] == list(kind.fields)
        for line, field in zip(rows, kind.fields.values(), strict=True):
            assert f"| {field.support.value} | {field.why}" in line
            assert field.of is None or f"(#{field.of.name.lower().replace(' ', '-')})" in line
