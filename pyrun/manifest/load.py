"""The door: the text of a file -> the Pods in it, or every problem it has."""

from __future__ import annotations

from typing import NamedTuple

from pyrun.errors import ManifestError
from pyrun.manifest.convert import read_pod
from pyrun.manifest.documents import read_documents
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.reader import Object, Problems, join
from pyrun.manifest.scalars import Value, describe, quoted
from pyrun.manifest.schema import LIST, OTHER_KINDS
from pyrun.spec.pod import Pod

_LISTS = ("List", "PodList")
_MAX_LISTS = 10  # of lists in lists


class _Item(NamedTuple):
    """An object of the file: where it stands, as the beginning of a path, and what it is."""

    path: str
    value: Value


def load_pods(text: str, source: str) -> tuple[Pod, ...]:
    """Return the Pods of a manifest in their order; `source` names it in errors (a path, or `-`).

    The text is YAML of one or several documents, or JSON; lists of kind List are opened. Raises
    ManifestError with all problems of all documents.
    """
    problems = Problems()
    reading = read_documents(text)
    for problem in reading.problems:
        problems.add(problem.path, problem.message)
    items: list[_Item] = []
    for number, document in enumerate(reading.documents, 1):
        prefix = f"document {number}{_title(document)}: " if len(reading.documents) > 1 else ""
        _open(_Item(prefix, document), problems, items)
    found = [(item.path, pod) for item in items if (pod := _read(item, problems)) is not None]
    _names_are_unique(found, problems)
    if not items and not problems.found:
        problems.add("", "no Kubernetes object in it")
    if problems.found:
        raise ManifestError(source, problems.found)
    return tuple(pod for _, pod in found)


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
    if not isinstance(item.value, dict) or item.value.get("kind") not in _LISTS:
        items.append(item)
        return
    source = Object(LIST, item.value, item.path, problems)
    if source.text("apiVersion", required=True) not in ("", "v1"):
        source.complain("apiVersion", f'expected "v1" for kind {item.value["kind"]}')
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


def _read(item: _Item, problems: Problems) -> Pod | None:
    """Convert one object, if it is a Pod."""
    kind = item.value.get("kind", "") if isinstance(item.value, dict) else "Pod"
    place = join(item.path, "kind")
    if kind == "Pod":
        return read_pod(item.value, item.path, problems)
    if kind is None or kind == "":
        problems.add(place, "required")
    elif not isinstance(kind, str):
        problems.add(place, f"expected a string, got {describe(kind)}; quote it")
    elif kind in OTHER_KINDS or kind.removesuffix("List") in OTHER_KINDS:
        problems.add(place, f"kind {kind} is not supported yet")
    else:
        hint = did_you_mean(kind, ("Pod", "List", *OTHER_KINDS))
        problems.add(place, f"unknown kind {quoted(kind)}{hint}")
    return None


def _names_are_unique(found: list[tuple[str, Pod]], problems: Problems) -> None:
    """No two Pods of one file have one name in one namespace."""
    first: dict[str, str] = {}
    for path, pod in found:
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        if pod.metadata.name and first.setdefault(name, path) != path:
            problems.add(join(path, "metadata.name"), f"the Pod {quoted(name)} is given twice in this file")
