"""A Pod: Kubernetes text -> `Pod`, object by object; and the parts that it shares with other kinds."""

from __future__ import annotations

import msgspec

from pyrun.manifest import names
from pyrun.manifest.checks import check_pod
from pyrun.manifest.containers import read_container, read_init_container
from pyrun.manifest.reader import NOT_YET, Object, Problems, one_of
from pyrun.manifest.resources import quantity_text, read_pod_resources
from pyrun.manifest.scalars import Value
from pyrun.manifest.schema import POD
from pyrun.spec.pod import (
    EmptyDir,
    HostPath,
    HostPathType,
    Metadata,
    Pod,
    PodSpec,
    RestartPolicy,
    Volume,
)
from pyrun.spec.quantity import parse_bytes
from pyrun.spec.quoting import quoted

DEFAULT_GRACE_SECONDS = 30
MAX_SECONDS = 2**63 - 1
MAX_DEADLINE_SECONDS = 2**31 - 1


def read_pod(value: Value, path: str, problems: Problems) -> Pod:
    """Convert and check one Pod; it may only be used if `problems` has grown by nothing."""
    source = Object(POD, value, path, problems)
    check_version(source, "v1")
    metadata = required_child(source, "metadata")
    spec = required_child(source, "spec")
    pod = Pod(
        metadata=read_metadata(metadata) if metadata else Metadata(),
        spec=read_pod_spec(spec) if spec else PodSpec(containers=()),
    )
    check_pod(pod, source)
    return pod


def check_version(source: Object, expected: str) -> None:
    """Note a problem unless the object's apiVersion is the one of its kind."""
    version = source.text("apiVersion", required=True)
    if version not in ("", expected):
        source.complain(
            "apiVersion", f'expected "{expected}" for kind {source.kind.name}, got {quoted(version)}'
        )


def required_child(source: Object, name: str) -> Object | None:
    """Return the object that a field holds; None, and a problem, when the field is absent."""
    if source.has(name):
        return source.child(name)
    source.complain(name, "required")
    return None


def read_metadata(source: Object) -> Metadata:
    """Convert the metadata of an object, which must have a name."""
    if all(source.raw(name) in (None, "") for name in ("name", "generateName")):
        source.complain("name", "required, or generateName")
    return Metadata(
        name=source.text("name", check=names.dns_subdomain),
        generate_name=source.text("generateName", check=names.name_prefix),
        namespace=source.text("namespace", check=names.dns_label) or "default",
        labels=source.text_map("labels", names.label_key, names.label_value),
        annotations=source.text_map("annotations", names.annotation_key),
    )


def read_pod_spec(source: Object) -> PodSpec:
    """Convert the spec of a Pod."""
    containers = source.children("containers")
    if source.raw("containers") in (None, []):
        source.complain("containers", "required, at least one container")
    seconds = source.number("terminationGracePeriodSeconds", 0, MAX_SECONDS)
    source.child("os").text("name", required=source.has("os"), check=_operating_system)
    account = source.text("serviceAccountName", check=names.dns_subdomain)
    older = source.text("serviceAccount", check=names.dns_subdomain)
    spec = PodSpec(
        init_containers=tuple(read_init_container(item) for item in source.children("initContainers")),
        containers=tuple(read_container(item) for item in containers),
        volumes=tuple(_volume(item) for item in source.children("volumes")),
        hostname=source.text("hostname", check=names.dns_label),
        share_process_namespace=source.flag("shareProcessNamespace") or False,
        host_network=source.flag("hostNetwork") or False,
        host_pid=source.flag("hostPID") or False,
        host_ipc=source.flag("hostIPC") or False,
        restart_policy=source.choice("restartPolicy", RestartPolicy.ALWAYS),
        termination_grace_period_seconds=DEFAULT_GRACE_SECONDS if seconds is None else seconds,
        active_deadline_seconds=source.number("activeDeadlineSeconds", 1, MAX_DEADLINE_SECONDS),
        service_account_name=account or older,
    )
    return msgspec.structs.replace(spec, resources=read_pod_resources(source.child("resources"), spec))


def _operating_system(text: str) -> str | None:
    return None if text == "linux" else f"pyrun runs Linux containers, not those of {quoted(text)}"


def _volume(source: Object) -> Volume:
    name = source.text("name", required=True, check=names.dns_label)
    if source.has("emptyDir") and source.has("hostPath"):
        source.complain("hostPath", "a volume has only one source, and emptyDir is given too")
    if source.has("hostPath"):
        return Volume(name=name, source=_host_path(source.child("hostPath")))
    return Volume(name=name, source=_empty_dir(source.child("emptyDir")))


def _host_path(source: Object) -> HostPath:
    return HostPath(
        path=source.text("path", required=True, check=names.absolute_path),
        type=source.choice("type", HostPathType.ANY),
    )


def _empty_dir(source: Object) -> EmptyDir:
    medium = source.text("medium", check=_medium)
    # A limit of 0 limits nothing, as in the kubelet.
    return EmptyDir(memory=medium == "Memory", size_limit=_size(source, "sizeLimit") or None)


def _medium(text: str) -> str | None:
    if text == "HugePages" or text.startswith("HugePages-"):
        return f"{quoted(text)} is {NOT_YET}"
    return one_of("Memory")(text)


def _size(source: Object, name: str) -> int | None:
    """Return a quantity of bytes, which may be written as a number, or None when absent."""
    value = source.raw(name)
    if value is None:
        return None
    try:
        size = parse_bytes(quantity_text(value))
    except ValueError as error:
        source.complain(name, str(error))
        return None
    if size < 0:
        source.complain(name, f"must not be negative, got {size}")
        return None
    return size
