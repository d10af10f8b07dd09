"""What may not change of an object once it exists.

Kubernetes lets a few fields of a Pod's spec change (images, deadlines); here a Pod's spec is what its
containers were made from, so none does. Source: Kubernetes validation of apps/v1 and core/v1 updates.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyrun.errors import ManifestError, Problem
from pyrun.manifest.scalars import Value
from pyrun.spec.object import Json, ObjectKey
from pyrun.spec.quoting import quoted
from pyrun.store.convert import json_value


def refuse_changes(key: ObjectKey, present: Json, wanted: Json) -> None:
    """Compare two specs of an object, both with defaults; ManifestError with every change that is not allowed."""
    old, new = json_value(present), json_value(wanted)
    match key.kind:
        case "Pod":
            fields, advice = [("spec", old, new)], "delete the Pod and apply it again"
        case "ReplicaSet":
            fields = [("spec.selector", _member(old, "selector"), _member(new, "selector"))]
            advice = "delete the ReplicaSet, with --cascade=orphan to keep its Pods, and apply it again"
        case _:
            return
    found = [
        Problem(path, f"cannot change{change}; {advice}")
        for field in fields
        for path, change in _differences(*field)
    ]
    if found:
        raise ManifestError(str(key), found)


def _member(value: Value, name: str) -> Value:
    return value.get(name) if isinstance(value, dict) else None


def _differences(path: str, old: Value, new: Value) -> Iterator[tuple[str, str]]:
    """Yield path and words of every difference, as deep as both sides have the same shape."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _differences(f"{path}.{name}", old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{i}]", before, after)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield path, _words(old, new)


def _words(old: Value, new: Value) -> str:
    before, after = _word(old), _word(new)
    return f" from {before} to {after}" if before and after else ""


def _word(value: Value) -> str:
    """Return a value in a few letters, nothing when it takes more."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case int() | float():
            return str(value)
        case _:
            return ""
