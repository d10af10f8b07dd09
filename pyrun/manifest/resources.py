"""Requests and limits, of a container and of a Pod as a whole: Kubernetes text -> `ResourceRequirements`.

Source: pkg/apis/core/validation and pkg/apis/core/v1/defaults of Kubernetes.
"""

from __future__ import annotations

from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.reader import Object, printable
from pyrun.manifest.scalars import Value, describe
from pyrun.spec.effective import containers_request, filled
from pyrun.spec.hugepages import format_page_size, parse_page_size, parse_pages
from pyrun.spec.pod import PodSpec
from pyrun.spec.quantity import parse_milli_cpu, parse_whole_bytes
from pyrun.spec.quoting import quoted
from pyrun.spec.resources import (
    CPU,
    EPHEMERAL_STORAGE,
    HUGEPAGES_PREFIX,
    MEMORY,
    ResizableResource,
    ResizePolicy,
    ResourceList,
    ResourceRequirements,
    RestartOnResize,
    amounts,
    format_amount,
)

_OF_CONTAINERS = (CPU, MEMORY, EPHEMERAL_STORAGE)
_OF_PODS = (CPU, MEMORY)

MAX_CPU_MILLIS = 10**9
"""The most CPUs that make sense, a million; about a hundred times that is what cpu.max takes."""
MIN_MEMORY_LIMIT = 2**12
"""The smallest limit of memory in bytes: the kernel counts in pages."""


def read_resources(source: Object) -> ResourceRequirements:
    """Convert the resources of a container; a request that is not given is the limit."""
    found = _read(source, _OF_CONTAINERS)
    return ResourceRequirements(requests=filled(found.requests, found.limits), limits=found.limits)


def read_pod_resources(source: Object, spec: PodSpec) -> ResourceRequirements | None:
    """Convert the resources of a Pod as a whole, None when there are none; `spec` has its containers.

    Beside a limit, a request that is not given is what the containers ask for, and the limit if they ask for none.
    """
    found = _read(source, _OF_PODS)
    if found == ResourceRequirements():
        return None
    if found.limits == ResourceList():
        return found
    asked = containers_request(spec)
    asked = ResourceList(cpu_millis=asked.cpu_millis, memory=asked.memory)
    requests = filled(filled(found.requests, asked), found.limits)
    return ResourceRequirements(requests=requests, limits=found.limits)


def read_resize_policy(source: Object) -> tuple[ResizePolicy, ...]:
    """Convert what a change of a container's resources does to it."""
    found: dict[ResizableResource, ResizePolicy] = {}
    for item in source.children("resizePolicy"):
        resource = item.member("resourceName", ResizableResource, required=True)
        restart = item.member("restartPolicy", RestartOnResize, required=True)
        if resource and resource in found:
            item.complain("resourceName", f"{quoted(resource.value)} is given twice")
        elif resource and restart:
            found[resource] = ResizePolicy(resource=resource, restart=restart)
    return tuple(found.values())


def quantity_text(value: Value) -> str:
    """Return the text of a quantity, which may be written as a number. ValueError when it is something else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a quantity such as 64Mi, got {describe(value)}")
    return value if isinstance(value, str) else str(value)


def _read(source: Object, known: tuple[str, ...]) -> ResourceRequirements:
    before = len(source.problems.found)
    found = ResourceRequirements(
        requests=_read_list(source, "requests", known), limits=_read_list(source, "limits", known)
    )
    if len(source.problems.found) == before:
        _compare(found, source)
    return found


def _read_list(source: Object, field: str, known: tuple[str, ...]) -> ResourceList:
    value = source.raw(field)
    if value is None:
        return ResourceList()
    if not isinstance(value, dict):
        source.complain(field, f"expected a mapping, got {describe(value)}")
        return ResourceList()
    found: dict[str, int] = {}
    for name, item in value.items():
        if item is None:
            continue
        try:
            resource = _resource(name, known)
            if resource in found:
                raise ValueError(f"{resource} is given twice, in two spellings")
            found[resource] = _amount(resource, item)
            if (field, resource) == ("limits", MEMORY):
                _check_memory_limit(found[resource], item)
        except ValueError as error:
            source.complain(f"{field}[{printable(name)}]", str(error))
    pages = {_page_size(name): amount for name, amount in found.items() if name.startswith(HUGEPAGES_PREFIX)}
    return ResourceList(
        cpu_millis=found.get(CPU),
        memory=found.get(MEMORY),
        ephemeral_storage=found.get(EPHEMERAL_STORAGE),
        hugepages=tuple(sorted(pages.items())),
    )


def _resource(name: str, known: tuple[str, ...]) -> str:
    """Return the name of a resource, spelled as pyrun does. ValueError when there is none of this name here."""
    if name in known:
        return name
    if name.startswith(HUGEPAGES_PREFIX):
        return f"{HUGEPAGES_PREFIX}{format_page_size(_page_size(name))}"
    if name in _OF_CONTAINERS:
        raise ValueError("not supported for the Pod as a whole; give it to a container")
    if "/" in name:
        raise ValueError(
            f"the extended resource {quoted(name)} is not supported by pyrun: there are no device plugins"
        )
    near = "" if name.startswith("hugepages") else did_you_mean(name, known)
    known_ones = f", known are {', '.join(known)} and {HUGEPAGES_PREFIX}SIZE"
    raise ValueError(f"unknown resource {quoted(name)}{near or known_ones}")


def _page_size(name: str) -> int:
    return parse_page_size(name.removeprefix(HUGEPAGES_PREFIX))


def _amount(resource: str, value: Value) -> int:
    text = quantity_text(value)
    if resource == CPU:
        amount = parse_milli_cpu(text)
    elif resource.startswith(HUGEPAGES_PREFIX):
        amount = parse_pages(text, _page_size(resource))
    else:
        amount = parse_whole_bytes(text)
    if amount < 0:
        raise ValueError(f"must not be negative, got {quoted(text)}")
    if not amount:
        raise ValueError("must not be zero; leave it out for none")
    if resource == CPU and amount > MAX_CPU_MILLIS:
        raise ValueError(f"{quoted(text)} is more than a million CPUs")
    return amount


def _check_memory_limit(amount: int, value: Value) -> None:
    if amount < MIN_MEMORY_LIMIT:
        text = quantity_text(value)
        hint = f", did you mean {text}Mi?" if text.isdecimal() else ""
        raise ValueError(f"{quoted(text)} is less than a page of memory, {MIN_MEMORY_LIMIT} bytes{hint}")


def _compare(found: ResourceRequirements, source: Object) -> None:
    """No request is above its limit; huge pages are never promised to more than one."""
    limits = amounts(found.limits)
    for name, amount in amounts(found.requests).items():
        place, limit = f"requests[{name}]", limits.get(name)
        if name.startswith(HUGEPAGES_PREFIX) and amount != limit:
            shown = "none is given" if limit is None else f"which is {format_amount(name, limit)}"
            source.complain(place, f"{format_amount(name, amount)} must equal the limit, {shown}")
        elif limit is not None and amount > limit:
            source.complain(
                place, f"{format_amount(name, amount)} is above the limit, {format_amount(name, limit)}"
            )
    said = {**limits, **amounts(found.requests)}
    pages = [name for name in said if name.startswith(HUGEPAGES_PREFIX)]
    if pages and CPU not in said and MEMORY not in said:
        source.complain(f"limits[{pages[0]}]", "huge pages need cpu or memory beside them")
