"""The text of a manifest, cut into documents of plain values.

JSON text is read as JSON (it has escapes that YAML lacks), everything else as YAML. All that is wrong with
the text itself is collected with its line and column; the documents before a syntax error are kept, so that
their own problems can be told in the same breath.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pyrun.errors import Problem
from pyrun.manifest.scalars import Value, resolve_number

MAX_SIZE = 3 * 1024 * 1024
"""Largest text in bytes; the request limit of the Kubernetes API server."""


class Reading(NamedTuple):
    """The documents of a text in order, empty ones left out, and what is wrong with the text."""

    documents: tuple[Value, ...]
    problems: tuple[Problem, ...]


def read_documents(text: str) -> Reading:
    """Read every document of `text`, YAML (one or several) or JSON (one value or several in a row)."""
    text = text.removeprefix("\ufeff")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        return Reading((), (Problem("", f"not valid Unicode text (at character {error.start})"),))
    if size > MAX_SIZE:
        return Reading((), (Problem("", f"larger than {MAX_SIZE} bytes ({size}), which Kubernetes refuses"),))
    documents = _read_json(text) if text.lstrip(" \t\r\n")[:1] == "{" else None
    if documents is not None:
        return Reading(documents, ())
    from pyrun.manifest.yamltext import read_yaml  # PyYAML costs start-up time

    return read_yaml(text)


def _read_json(text: str) -> tuple[Value, ...] | None:
    """Return the JSON values of `text`; None when it is none: then it is YAML in flow style, or wrong."""
    import json  # only when the text looks like JSON

    decoder = json.JSONDecoder(
        object_pairs_hook=_unique,
        parse_float=_number,
        parse_int=_number,
        parse_constant=_no_constant,
    )
    documents: list[Value] = []
    space = re.compile(r"[ \t\r\n]*")
    try:
        position = _skip(space, text, 0)
        while position < len(text):
            value, end = decoder.raw_decode(text, position)
            documents.append(value)
            position = _skip(space, text, end)
        if "\\u" in text:  # half of a surrogate pair is no text
            json.dumps(documents, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return tuple(document for document in documents if document is not None)


def _skip(space: re.Pattern[str], text: str, position: int) -> int:
    match = space.match(text, position)
    return match.end() if match else position


def _unique(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key is given twice")
    return mapping


def _no_constant(text: str) -> Value:
    raise ValueError(f"{text} is not JSON")


def _number(text: str) -> Value:
    number = resolve_number(text)
    return text if number is None else number
