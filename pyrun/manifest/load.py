"""The door: the text of a file -> the objects in it, or every problem it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from pyrun.errors import ManifestError
from pyrun.manifest.convert import read_pod
from pyrun.manifest.documents import read_documents
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.reader import Object, Problems, join
from pyrun.manifest.replicasets import read_replica_set
from pyrun.manifest.scalars import Value, describe
from pyrun.manifest.schema import LIST, OTHER_KINDS
from pyrun.spec import replicaset
from pyrun.spec.pod import Pod
from pyrun.spec.quoting import quoted
from pyrun.spec.replicaset import ReplicaSet

KubernetesObject: TypeAlias = Pod | ReplicaSet

Read = TypeVar("Read", bound=KubernetesObject)
_Readers: TypeAlias = Mapping[str, Callable[[Value, str, Problems], Read]]
"""What converts an object, by its kind."""

_LISTS = {"List": "v1", "PodList": "v1", "ReplicaSetList": "apps/v1"}
"""Kinds that hold objects, with their apiVersion."""
_MAX_LISTS = 10  # of lists in lists


class _Item(NamedTuple):
    """An object of the file: where it stands, as the beginning of a path, and what it is."""

    path: str
    value: Value


def load_pods(text: str, source: str) -> tuple[Pod, ...]:
    """Return the Pods of a manifest in their order; `source` names it in errors (a path, or `-`).

    The text is YAML of one or several documents, or JSON; lists of kind List are opened. Raises
    ManifestError with all problems of all documents, one of which is an object that is no Pod.
    """
    return tuple(one for _, one in _load(text, source, {"Pod": read_pod}))


def load_objects(text: str, source: str) -> tuple[KubernetesObject, ...]:
    """Return all objects of a manifest in their order, as `load_pods` does. Raises ManifestError."""
    return tuple(one for _, one in load_given(text, source))


def load_given(text: str, source: str) -> tuple[tuple[Value, KubernetesObject], ...]:
    """Return each object as it was given and as it was read, as `load_objects` does. Raises ManifestError."""
    readers: _Readers[KubernetesObject] = {"Pod": read_pod, "ReplicaSet": read_replica_set}
    return _load(text, source, readers)


def read_object(value: Value, source: str = "object") -> KubernetesObject:
    """Convert an object that is no text any more, as the store has it; `source` names it in errors.

    Raises ManifestError.
    """
    readers: _Readers[KubernetesObject] = {"Pod": read_pod, "ReplicaSet": read_replica_set}
    problems = Problems()
    found = _read(_Item("", value), readers, problems)
    if found is None or problems.found:
        raise ManifestError(source, problems.found)
    return found


def _load(text: str, source: str, readers: _Readers[Read]) -> tuple[tuple[Value, Read], ...]:
    problems = Problems()
    reading = read_documents(text)
    for problem in reading.problems:
        problems.add(problem.path, problem.message)
    items: list[_Item] = []
    for number, document in enumerate(reading.documents, 1):
        prefix = f"document {number}{_title(document)}: " if len(reading.documents) > 1 else ""
        _open(_Item(prefix, document), problems, items)
    read = [(item, _read(item, readers, problems)) for item in items]
    found = [(item, one) for item, one in read if one is not None]
    _names_are_unique([(item.path, one) for item, one in found], problems)
    if not items and not problems.found:
        problems.add("", "no Kubernetes object in it")
    if problems.found:
        raise ManifestError(source, problems.found)
    return tuple((item.value, one) for item, one in found)


def _title(document: Value) -> str:
    """Return ` (Pod web)`: what a person knows a document by."""
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        return ""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    words = [word for word in (document["kind"], name) if isinstance(word, str) and word.isprintable()]
    return f" ({' '.join(words)[:80]})" if words else ""


def _open(item: _Item, problems: Problems, items: list[_Item]) -> None:
    """Append the item, or what is in it when it is a list."""
    kind = item.value.get("kind") if isinstance(item.value, dict) else None
    if not isinstance(kind, str) or kind not in _LISTS:
        items.append(item)
        return
    source = Object(LIST, item.value, item.path, problems)
    if source.text("apiVersion", required=True) not in ("", _LISTS[kind]):
        source.complain("apiVersion", f'expected "{_LISTS[kind]}" for kind {kind}')
    members = source.raw("items")
    if item.path.count("items[") >= _MAX_LISTS:
        source.complain("items", f"lists are nested deeper than {_MAX_LISTS} levels")
    elif members is not None and not isinstance(members, list):
        source.complain("items", f"expected a list, got {describe(members)}")
    elif not members:
        source.complain("items", "required, at least one object")
    else:
        for i, member in enumerate(members):
            _open(_Item(source.at(f"items[{i}]"), member), problems, items)


def _read(item: _Item, readers: _Readers[Read], problems: Problems) -> Read | None:
    """Convert one object, if there is a reader for its kind."""
    kind = item.value.get("kind", "") if isinstance(item.value, dict) else "Pod"
    place = join(item.path, "kind")
    if kind is None or kind == "":
        problems.add(place, "required")
    elif not isinstance(kind, str):
        problems.add(place, f"expected a string, got {describe(kind)}; quote it")
    elif kind in readers:
        return readers[kind](item.value, item.path, problems)
    elif kind == replicaset.KIND:
        problems.add(place, f"a Pod is expected here, and kind {kind} is what pyrun apply takes")
    elif kind in OTHER_KINDS or kind.removesuffix("List") in OTHER_KINDS:
        problems.add(place, f"kind {kind} is not supported yet")
    else:
        hint = did_you_mean(kind, ("Pod", replicaset.KIND, "List", *OTHER_KINDS))
        problems.add(place, f"unknown kind {quoted(kind)}{hint}")
    return None


def _names_are_unique(found: Sequence[tuple[str, KubernetesObject]], problems: Problems) -> None:
    """No two objects of one kind and file have one name in one namespace."""
    first: dict[tuple[str, str], str] = {}
    for path, one in found:
        kind = "Pod" if isinstance(one, Pod) else replicaset.KIND
        name = f"{one.metadata.namespace}/{one.metadata.name}"
        if one.metadata.name and first.setdefault((kind, name), path) != path:
            place = join(path, "metadata.name")
            problems.add(place, f"the {kind} {quoted(name)} is given twice in this file")
