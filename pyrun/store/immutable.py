"""What may not change of an object once it exists.

Kubernetes lets a few fields of a Pod's spec change (images, deadlines); here a Pod's spec is what its
containers were made from, so none does but the resources of containers, by the rules of `lifecycle/resize.py`.
Source: Kubernetes validation of apps/v1 and core/v1 updates.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyrun.errors import ManifestError, Problem
from pyrun.lifecycle.resize import refusals
from pyrun.manifest.load import read_object
from pyrun.manifest.scalars import Value
from pyrun.spec.object import Json, ObjectKey
from pyrun.spec.pod import Pod
from pyrun.spec.quoting import quoted
from pyrun.store.convert import json_value


def refuse_changes(key: ObjectKey, present: Json, wanted: Json) -> None:
    """Compare two specs of an object, both with defaults; ManifestError with every change that is not allowed."""
    old, new = json_value(present), json_value(wanted)
    resizing: tuple[Problem, ...] = ()
    match key.kind:
        case "Pod":
            fields = [("spec", without_resources(old), without_resources(new))]
            advice = "delete the Pod and apply it again"
            resizing = _resizing(key, old, new)
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
    if found or resizing:
        raise ManifestError(str(key), (*found, *resizing))


def without_resources(spec: Value) -> Value:
    """Return a Pod's spec without what can be resized, and what is told of by name there."""
    if not isinstance(spec, dict):
        return spec
    kept = {name: value for name, value in spec.items() if name != "resources"}
    for field in ("containers", "initContainers"):
        if isinstance(members := kept.get(field), list):
            kept[field] = [
                {name: value for name, value in member.items() if name != "resources"}
                if isinstance(member, dict)
                else member
                for member in members
            ]
    return kept


def _resizing(key: ObjectKey, old: Value, new: Value) -> tuple[Problem, ...]:
    """Return what is refused of a change of resources."""
    if old == new:
        return ()
    try:
        present, wanted = (
            read_object({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": key.name}, "spec": spec})
            for spec in (old, new)
        )
    except ManifestError:
        return ()  # what cannot be read differs in more than resources
    if not isinstance(present, Pod) or not isinstance(wanted, Pod):
        return ()
    return refusals(present.spec, wanted.spec)


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
