"""YAML text <-> plain values, the only module that imports PyYAML.

The values are built from the parser's events and not by one of PyYAML's constructors: scalars follow
Kubernetes (see `scalars`), keys given twice are errors, aliases are counted so that a small text cannot
become a huge value, and nothing here recurses, so that deep nesting cannot exhaust a stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import yaml

from pyrun.errors import Problem
from pyrun.manifest.documents import Reading
from pyrun.manifest.scalars import Value, describe, resolve_plain
from pyrun.spec.quoting import quoted

MAX_DEPTH = 100
"""Deepest nesting of lists and mappings; a Pod needs about ten."""
MAX_WEIGHT = 1_000_000
"""Most values a text may hold once its aliases are expanded (long strings weigh more)."""

_WEIGHT_UNIT = 64  # characters of a string that weigh as much as one value
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = (None, "!", _TAG + "str", _TAG + "timestamp")
_MERGE = "<<"


class _Mark(Protocol):
    """A mark of PyYAML, which counts from zero."""

    line: int
    column: int


class _Place(NamedTuple):
    """Where in the text something stands, counted from one."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class _TextError(Exception):
    """The text cannot be read further: it would be unsafe or senseless."""

    def __init__(self, place: _Place, message: str) -> None:
        super().__init__(f"{place}: {message}")


class _Frame:
    """A list or mapping that is being built; `weight` counts its values, aliases expanded."""

    def __init__(self, value: list[Value] | dict[str, Value], anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.weight = 1
        self.key: str | None = None
        self.lines: dict[str, int] = {}
        self.merging = False
        self.discarding = False
        self.merges: list[Value] = []

    def wants_key(self) -> bool:
        """Whether what comes next is the key of a mapping."""
        waiting = self.merging or self.discarding or self.key is not None
        return isinstance(self.value, dict) and not waiting


class _Builder:
    """Builds the value of one document from its events.

    `weight` is that of all documents of the text so far.
    """

    def __init__(self, problems: list[Problem], weight: int) -> None:
        self.root: Value = None
        self.weight = weight
        self._problems = problems
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Value, int]] = {}

    def feed(self, event: yaml.Event) -> None:
        """Take the next event; raises `_TextError`."""
        place = _place(event.start_mark)
        match event:
            case yaml.ScalarEvent():
                self._scalar(event, place)
            case yaml.AliasEvent():
                self._alias(str(event.anchor), place)
            case yaml.MappingStartEvent():
                self._open({}, event, place)
            case yaml.SequenceStartEvent():
                self._open([], event, place)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close(place)

    def _say(self, place: _Place, message: str) -> None:
        self._problems.append(Problem("", f"{place}: {message}"))

    def _scalar(self, event: yaml.ScalarEvent, place: _Place) -> None:
        text: str = event.value
        plain = event.implicit[0] and event.tag is None
        if plain and text == _MERGE and self._frames and self._frames[-1].wants_key():
            self._frames[-1].merging = True
            return
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise _TextError(place, "half of a surrogate pair is not a character")
        value = resolve_plain(text) if plain else self._tagged(text, event.tag, place)
        weight = 1 + len(text) // _WEIGHT_UNIT
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, weight)
        self._put(value, weight, place)

    def _tagged(self, text: str, tag: str | None, place: _Place) -> Value:
        if tag in _TEXT_TAGS:
            return text
        value = resolve_plain(text)
        name = str(tag).removeprefix(_TAG)
        fits = {
            "null": value is None,
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
        }
        if name not in fits:
            self._say(place, f"the tag {quoted(name)} is not used by Kubernetes")
        elif not fits[name]:
            self._say(place, f"{quoted(text)} is no {name}")
        return value

    def _alias(self, name: str, place: _Place) -> None:
        if any(frame.anchor == name for frame in self._frames):
            raise _TextError(place, f"the alias *{name} stands inside its own anchor")
        if name not in self._anchors:
            raise _TextError(place, f"the alias *{name} has no anchor before it")
        value, weight = self._anchors[name]
        self._put(value, weight, place)

    def _open(
        self, value: list[Value] | dict[str, Value], event: yaml.CollectionStartEvent, place: _Place
    ) -> None:
        if self._frames and self._frames[-1].wants_key():
            raise _TextError(place, f"a mapping key must be a string, got {describe(value)}")
        if len(self._frames) >= MAX_DEPTH:
            raise _TextError(place, f"nested deeper than {MAX_DEPTH} levels")
        if event.tag not in (None, "!", _TAG + ("map" if isinstance(value, dict) else "seq")):
            self._say(place, f"the tag {quoted(str(event.tag))} is not used by Kubernetes")
        self._frames.append(_Frame(value, event.anchor))

    def _close(self, place: _Place) -> None:
        frame = self._frames.pop()
        if isinstance(frame.value, dict):
            for source in frame.merges:
                self._merge(frame.value, source, place)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (frame.value, frame.weight)
        self._put(frame.value, frame.weight, place)

    def _merge(self, target: dict[str, Value], source: Value, place: _Place) -> None:
        for mapping in source if isinstance(source, list) else [source]:
            if not isinstance(mapping, dict):
                self._say(place, f"<< wants a mapping or a list of mappings, got {describe(mapping)}")
                continue
            for key, value in mapping.items():
                target.setdefault(key, value)

    def _put(self, value: Value, weight: int, place: _Place) -> None:
        """Put a finished value where it belongs: into the list or mapping that is open, or at the root."""
        if not self._frames:
            self.root = value
            self.weight += weight
            return
        frame = self._frames[-1]
        frame.weight += weight
        if self.weight + frame.weight > MAX_WEIGHT:
            raise _TextError(place, f"more than {MAX_WEIGHT} values once aliases are expanded")
        if frame.wants_key():
            frame.key = self._key(frame, value, place)
            frame.discarding = frame.key is None
        elif isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.merging:
            frame.merges.append(value)
            frame.merging = False
        else:
            if frame.key is not None:
                frame.value.setdefault(frame.key, value)
            frame.key = None
            frame.discarding = False

    def _key(self, frame: _Frame, value: Value, place: _Place) -> str | None:
        """Return a mapping key as a string, None for what is none; Kubernetes spells integers out."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            self._say(place, f"a mapping key must be a string, got {describe(value)}; quote it")
            return None
        key = str(value)
        if key in frame.lines:
            self._say(
                place, f"key {quoted(key)} is given twice in one mapping, first in line {frame.lines[key]}"
            )
        frame.lines.setdefault(key, place.line)
        return key


class _Dumper(yaml.SafeDumper):
    """Writes a value given twice twice, and quotes what Kubernetes would not read as the string it is."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    # YAML breaks lines at more characters than a block can keep; only double quotes have escapes.
    if any(character in text for character in "\r\x85\u2028\u2029") or not isinstance(
        resolve_plain(text), str
    ):
        style = '"'
    return dumper.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def write_yaml(value: Value) -> str:
    """Write one document in block style."""
    written: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    return written


def read_yaml(text: str) -> Reading:
    """Read every document of a YAML text; a syntax error ends the reading, other problems are collected."""
    documents: list[Value] = []
    problems: list[Problem] = []
    try:
        builder = _Builder(problems, 0)
        for event in _events(text):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(problems, builder.weight)
            elif isinstance(event, yaml.DocumentEndEvent):
                if builder.root is not None:
                    documents.append(builder.root)
            else:
                builder.feed(event)
    except yaml.MarkedYAMLError as error:
        problems.append(Problem("", _syntax_message(text, error)))
    except yaml.reader.ReaderError as error:
        problems.append(Problem("", _unreadable(text, error)))
    except _TextError as error:
        problems.append(Problem("", str(error)))
    return Reading(tuple(documents), tuple(problems))


def _events(text: str) -> Iterator[yaml.Event]:
    # The C parser is some ten times as fast; PyYAML may have been built without it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return iter(yaml.parse(text, Loader=loader))


def _place(mark: _Mark | None) -> _Place:
    return _Place(mark.line + 1, mark.column + 1) if mark else _Place(1, 1)


def _syntax_message(text: str, error: yaml.MarkedYAMLError) -> str:
    place = _place(error.problem_mark or error.context_mark)
    reason = ", ".join(part for part in (error.problem, error.context) if part)
    lines = text.splitlines()
    if place.line <= len(lines) and lines[place.line - 1][place.column - 1 :].startswith("\t"):
        reason += "; it is a tab, and YAML is indented with spaces"
    return f"{place}: {reason}"


def _unreadable(text: str, error: yaml.reader.ReaderError) -> str:
    """Say where a character stands that YAML does not allow; the parsers count bytes or characters."""
    bad = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    if bad is None:
        return f"YAML does not allow a character of the text: {error.reason}"
    before = text[: bad.start()]
    place = _Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    return f"{place}: YAML does not allow the character U+{ord(bad[0]):04X}"
