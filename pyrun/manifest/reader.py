"""Reading one object of a manifest by its row of the table, collecting every problem on the way.

A getter always returns a value of the right type: what is absent or wrong comes back as the default, and the
problem is noted, so that the conversion goes on and finds the rest. Null means absent, as in Kubernetes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from pyrun.errors import Problem
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.scalars import Value, describe
from pyrun.manifest.schema import Kind, Support
from pyrun.spec.quoting import quoted

Check: TypeAlias = Callable[[str], str | None]
"""Returns None, or what is wrong with a text."""

Choice = TypeVar("Choice", bound=enum.Enum)

MAX_PROBLEMS = 500
"""Problems told of one file; who has more has given the wrong file."""

NOT_YET = "known to Kubernetes, not supported by pyrun yet"


class Problems:
    """The problems of one file, in the order they were found."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, path: str, message: str) -> None:
        """Note a problem at `path`; beyond `MAX_PROBLEMS` only that there are more."""
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(Problem(path.removesuffix(": "), message))
        elif len(self.found) == MAX_PROBLEMS:
            self.found.append(Problem("", f"more than {MAX_PROBLEMS} problems, the rest is not shown"))


def join(path: str, name: str) -> str:
    """Return the path of `name` at `path`, which may be empty or end in the title of a document."""
    return f"{path}.{name}" if path and not path.endswith(" ") else f"{path}{name}"


class Object:
    """One mapping of a manifest: of kind `kind`, at `path`."""

    def __init__(self, kind: Kind, value: Value, path: str, problems: Problems) -> None:
        self.kind = kind
        self.path = path
        self.problems = problems
        self._fields: dict[str, Value] = {}
        self._given: frozenset[str] = frozenset()
        if isinstance(value, dict):
            self._given = frozenset(name for name, item in value.items() if item is not None)
            self._fields = {name: item for name, item in value.items() if self._is_read(name, item)}
        else:
            problems.add(path, f"expected a mapping, got {describe(value)}")
            # Nothing more can be said of what is no mapping: not what it lacks, nor what is wrong with that.
            self.problems = Problems()

    def _is_read(self, name: str, value: Value) -> bool:
        """Whether a field goes to the getters; refuses what is unknown or not supported."""
        field = self.kind.fields.get(name)
        if field is None:
            hint = did_you_mean(name, self.kind.fields)
            self.complain(printable(name), f"unknown field{hint}")
            return False
        if field.support is Support.REFUSED and value is not None:
            self.complain(name, refusal(field.why))
        return field.support is Support.SUPPORTED

    def at(self, name: str) -> str:
        """Return the path of a field."""
        return join(self.path, name)

    def complain(self, name: str, message: str) -> None:
        """Note a problem with a field."""
        self.problems.add(self.at(name), message)

    def blame(self, message: str) -> None:
        """Note a problem with the object itself."""
        self.problems.add(self.path, message)

    def has(self, name: str) -> bool:
        """Whether the field is given and not null."""
        return self._get(name) is not None

    def mentions(self, name: str) -> bool:
        """Whether the text gives the field, and not as null; also one that is refused or ignored."""
        return name in self._given

    def text(self, name: str, *, check: Check | None = None, required: bool = False) -> str:
        """Return a string, "" when absent; `check` is not asked about an empty one."""
        value = self._get(name)
        text = "" if value is None else self._text(name, value)
        if text is None:
            return ""
        if not text and required:
            self.complain(name, "required")
        wrong = check(text) if check and text else None
        if wrong:
            self.complain(name, wrong)
        return text

    def flag(self, name: str) -> bool | None:
        """Return a boolean, or None when absent."""
        value = self._get(name)
        if value is None or isinstance(value, bool):
            return value
        hint = "; remove the quotes" if isinstance(value, str) and value in ("true", "false") else ""
        self.complain(name, f"expected a boolean, got {describe(value)}{hint}")
        return None

    def number(self, name: str, low: int, high: int) -> int | None:
        """Return an integer between `low` and `high`, both included, or None when absent."""
        value = self._get(name)
        return None if value is None else self._number(name, value, low, high)

    def numbers(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of integers between `low` and `high`, empty when absent."""
        numbers = [self._number(f"{name}[{i}]", item, low, high) for i, item in enumerate(self._items(name))]
        return tuple(number for number in numbers if number is not None)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings, empty when absent."""
        texts = [self._text(f"{name}[{i}]", item) for i, item in enumerate(self._items(name))]
        return tuple(text for text in texts if text is not None)

    def text_map(self, name: str, key_check: Check, value_check: Check | None = None) -> dict[str, str]:
        """Return a mapping of strings, empty when absent; a null value is the empty string."""
        value = self._get(name)
        result: dict[str, str] = {}
        if value is None:
            return result
        if not isinstance(value, dict):
            self.complain(name, f"expected a mapping, got {describe(value)}")
            return result
        for key, item in value.items():
            place = f"{name}[{printable(key)}]"
            text = "" if item is None else self._text(place, item)
            for wrong in (key_check(key), value_check(text) if value_check and text else None):
                if wrong:
                    self.complain(place, wrong)
            if text is not None:
                result[key] = text
        return result

    def choice(self, name: str, default: Choice) -> Choice:
        """Return the member of the enumeration of `default` with this value; absent or "" is `default`."""
        return self.member(name, type(default)) or default

    def member(self, name: str, kind: type[Choice], *, required: bool = False) -> Choice | None:
        """Return the member of an enumeration with this value, None when absent, "" or unknown."""
        members = {str(member.value): member for member in kind}
        text = self.text(name, required=required, check=one_of(*members))
        return members.get(text) if text else None

    def child(self, name: str) -> Object:
        """Return the object that a field holds; an absent one reads as empty."""
        value = self._get(name)
        return Object(self._kind_of(name), {} if value is None else value, self.at(name), self.problems)

    def children(self, name: str) -> tuple[Object, ...]:
        """Return the objects of a list, none when absent."""
        kind = self._kind_of(name)
        return tuple(
            Object(kind, item, f"{self.at(name)}[{i}]", self.problems)
            for i, item in enumerate(self._items(name))
        )

    def raw(self, name: str) -> Value:
        """Return the value as the text has it, None when absent."""
        return self._get(name)

    def _get(self, name: str) -> Value:
        # A getter that asks for what the table does not call supported is a mistake in this room.
        if self.kind.fields[name].support is not Support.SUPPORTED:
            raise LookupError(f"{self.kind.name}.{name} is not supported in the table of fields")
        return self._fields.get(name)

    def _kind_of(self, name: str) -> Kind:
        kind = self.kind.fields[name].of
        if kind is None:
            raise LookupError(f"{self.kind.name}.{name} has no kind in the table of fields")
        return kind

    def _items(self, name: str) -> list[Value]:
        value = self._get(name)
        if value is None or isinstance(value, list):
            return value or []
        self.complain(name, f"expected a list, got {describe(value)}")
        return []

    def _number(self, place: str, value: Value, low: int, high: int) -> int | None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            hint = "; remove the quotes" if isinstance(value, str) and value.isdecimal() else ""
            self.complain(place, f"expected an integer, got {describe(value)}{hint}")
            return None
        if not low <= value <= high:
            self.complain(place, f"must be between {low} and {high}, got {value}")
            return None
        return value

    def _text(self, place: str, value: Value) -> str | None:
        if isinstance(value, str):
            if "\0" in value:
                self.complain(place, "contains a NUL character")
                return None
            return value
        hint = "; quote it" if isinstance(value, bool | int | float) else ""
        self.complain(place, f"expected a string, got {describe(value)}{hint}")
        return None


def refusal(why: str) -> str:
    """Return the sentence for a field that is refused, by the reason that its table has."""
    return f"not supported by pyrun: {why}" if why else NOT_YET


def unknown_value(text: str, known: Iterable[str]) -> str:
    """Return the sentence for a value that is none of the known ones."""
    names = [name for name in known if name]
    hint = did_you_mean(text, names) or f", known are {', '.join(names)}"
    return f"unknown value {quoted(text)}{hint}"


def one_of(*known: str) -> Check:
    """Return a check that a text is one of the known ones."""
    return lambda text: None if text in known else unknown_value(text, known)


def printable(text: str) -> str:
    """Return a name of the manifest for a path: cut, and with nothing a terminal would obey."""
    short = text if len(text) <= 80 else f"{text[:77]}..."
    return short if short.isprintable() and short else ascii(short)
