"""The variables of a container: Kubernetes text -> `EnvVar`."""

from __future__ import annotations

from pyrun.manifest import names
from pyrun.manifest.reader import Object, unknown_value
from pyrun.manifest.resources import quantity_text
from pyrun.spec.downward import RESOURCES, ResourceReference, divisors
from pyrun.spec.pod import EnvVar
from pyrun.spec.quantity import parse_quantity
from pyrun.spec.quoting import quoted


def read_env_var(source: Object) -> EnvVar:
    """Convert one variable."""
    value = source.text("value")
    if value and source.has("valueFrom"):
        source.complain("valueFrom", "not allowed beside value")
    name = source.text("name", required=True, check=names.env_name)
    if not source.has("valueFrom"):
        return EnvVar(name=name, value=value)
    origin = source.child("valueFrom")
    if not any(map(origin.mentions, origin.kind.fields)):
        origin.blame("a source is required: fieldRef or resourceFieldRef")
    if origin.has("fieldRef") and origin.has("resourceFieldRef"):
        origin.complain("resourceFieldRef", "a variable has only one source, and fieldRef is given too")
    return EnvVar(name=name, value=value, field_path=_field_path(origin), resource=_resource(origin))


def _field_path(source: Object) -> str:
    if not source.has("fieldRef"):
        return ""
    reference = source.child("fieldRef")
    version = reference.text("apiVersion")
    if version not in ("", "v1"):
        reference.complain("apiVersion", f'expected "v1", got {quoted(version)}')
    return reference.text("fieldPath", required=True, check=names.field_path)


def _resource(source: Object) -> ResourceReference | None:
    if not source.has("resourceFieldRef"):
        return None
    reference = source.child("resourceFieldRef")
    resource = reference.text("resource", required=True)
    container = reference.text("containerName", check=names.dns_label)
    if resource in RESOURCES:
        return ResourceReference(
            resource=resource, divisor=_divisor(reference, resource), container=container
        )
    if resource:
        reference.complain("resource", unknown_value(resource, RESOURCES))
    return None


def _divisor(source: Object, resource: str) -> int:
    known = divisors(resource)
    parts = known["1"]
    value = source.raw("divisor")
    if value is None:
        return known["1"]
    try:
        quantity = parse_quantity(quantity_text(value))
    except ValueError as error:
        source.complain("divisor", str(error))
        return known["1"]
    divisor = quantity.rounded_up(parts)
    if not divisor:
        return known["1"]  # as Kubernetes, which writes 0 for none
    if divisor not in known.values() or not quantity.is_whole(parts):
        source.complain("divisor", f"must be one of {', '.join(known)}, got {quoted(quantity_text(value))}")
    return divisor
