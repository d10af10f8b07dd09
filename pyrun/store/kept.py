"""Resources of an applied Pod: those that somebody has set by `pod resize` stay until an applied text names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pyrun.manifest.scalars import Value

_LISTS = ("requests", "limits")
_FIELDS = ("initContainers", "containers")


def kept_resources(live: Value, wanted: Value, before: Value, applied: Value) -> Value:
    """Return the wanted spec of a Pod with the amounts of the live one that neither text names.

    `live` and `wanted` are specs with all defaults, `before` and `applied` the objects as they were given. An amount
    that only the text before has named is not kept: it was taken out. Nor is a request that is the limit, its default.
    """
    texts = [_by_name(_fields(text).get("spec")) for text in (before, applied)]
    known = _by_name(live)

    def kept(name: str, resources: Value) -> Value:
        found = dict(_fields(resources))
        for field in _LISTS:
            named = {amount for text in texts for amount in _fields(_fields(text.get(name)).get(field))}
            others = {
                amount: value
                for amount, value in _fields(_fields(known.get(name)).get(field)).items()
                if amount not in named and not (field == "requests" and _is_default(known.get(name), amount))
            }
            if others:
                found[field] = _fields(found.get(field)) | others
        return found

    return _with(wanted, kept)


def _is_default(resources: Value, amount: str) -> bool:
    """Whether a request is the limit, which it is when nobody says anything else."""
    limit = _fields(_fields(resources).get("limits")).get(amount)
    return limit is not None and _fields(_fields(resources).get("requests")).get(amount) == limit


def with_container_resources(spec: Value, resources: Mapping[str, Value]) -> Value:
    """Return the spec of a Pod with other resources of the containers that are named."""
    return _with(spec, resources.get)


def _with(spec: Value, change: Callable[[str, Value], Value]) -> Value:
    if not isinstance(spec, dict):
        return spec
    changed = dict(spec)
    for field in _FIELDS:
        if isinstance(members := spec.get(field), list):
            changed[field] = [_changed(member, change) for member in members]
    return changed


def _changed(member: Value, change: Callable[[str, Value], Value]) -> Value:
    if not isinstance(member, dict):
        return member
    resources = change(str(member.get("name", "")), member.get("resources"))
    kept = {name: value for name, value in member.items() if name != "resources"}
    return kept | {"resources": resources} if resources else kept


def _by_name(spec: Value) -> dict[str, Value]:
    """Return the resources of containers by their names."""
    return {str(member.get("name", "")): member.get("resources") for member in _members(spec)}


def _members(spec: Value) -> Iterator[dict[str, Value]]:
    for field in _FIELDS:
        members = _fields(spec).get(field)
        for member in members if isinstance(members, list) else ():
            if isinstance(member, dict):
                yield member


def _fields(value: Value) -> dict[str, Value]:
    return value if isinstance(value, dict) else {}
