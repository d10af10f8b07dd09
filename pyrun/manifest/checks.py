"""What must hold between the fields of a Pod: a list of named checks over the converted values.

Empty names are passed over, they have been told already. Source: pkg/apis/core/validation of Kubernetes.
"""

from __future__ import annotations

from pyrun.manifest.names import absolute_path
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.reader import Object
from pyrun.manifest.scalars import quoted
from pyrun.spec import annotations as own
from pyrun.spec.pod import Container, Pod

MAX_ANNOTATIONS = 256 * 1024
"""Most bytes that all annotations of an object may take together, keys and values."""

_OWN_KEYS = (own.TIME_OFFSET_MONOTONIC, own.TIME_OFFSET_BOOTTIME)


def check_pod(pod: Pod, source: Object) -> None:
    """Run every check; problems go to `source`, the Pod's top level."""
    for check in (
        annotations_fit,
        own_annotations_are_known,
        namespaces_fit,
        volume_names_are_unique,
        container_names_are_unique,
    ):
        check(pod, source)
    volumes = {volume.name for volume in pod.spec.volumes}
    for i, container in enumerate(pod.spec.containers):
        place = f"spec.containers[{i}]"
        port_names_are_unique(container, place, source)
        mounts_fit(container, volumes, place, source)


def annotations_fit(pod: Pod, source: Object) -> None:
    """All annotations together have a largest size."""
    pairs = pod.metadata.annotations.items()
    size = sum(len(part.encode()) for pair in pairs for part in pair)
    if size > MAX_ANNOTATIONS:
        source.complain(
            "metadata.annotations", f"take {size} bytes together, at most {MAX_ANNOTATIONS} may be"
        )


def own_annotations_are_known(pod: Pod, source: Object) -> None:
    """Annotations in pyrun's own domain are known, and their values are what they must be."""
    containers = [container.name for container in pod.spec.containers]
    known = (*_OWN_KEYS, *(f"{own.ROOTFS_PREFIX}{name}" for name in containers))
    for key, value in pod.metadata.annotations.items():
        wrong: str | None = None
        if not own.is_ours(key):
            continue
        if key in _OWN_KEYS:
            wrong = _offset_problem(value)
        elif key in known:
            wrong = absolute_path(value)
        elif key.startswith(own.ROOTFS_PREFIX):
            name = key.removeprefix(own.ROOTFS_PREFIX)
            wrong = f"no container is named {quoted(name)}{did_you_mean(name, containers)}"
        else:
            wrong = f"unknown annotation of pyrun{did_you_mean(key, known)}"
        if wrong:
            source.complain(f"metadata.annotations[{key[:320]}]", wrong)


def _offset_problem(text: str) -> str | None:
    try:
        own.parse_offset(text)
    except ValueError as error:
        return str(error)
    return None


def namespaces_fit(pod: Pod, source: Object) -> None:
    """A Pod cannot both share a PID namespace of its own and use the host's."""
    if pod.spec.share_process_namespace and pod.spec.host_pid:
        source.complain("spec.shareProcessNamespace", "cannot be true when hostPID is true")


def volume_names_are_unique(pod: Pod, source: Object) -> None:
    """No two volumes have one name."""
    _unique([volume.name for volume in pod.spec.volumes], "spec.volumes[{}].name", source)


def container_names_are_unique(pod: Pod, source: Object) -> None:
    """No two containers have one name."""
    _unique([container.name for container in pod.spec.containers], "spec.containers[{}].name", source)


def port_names_are_unique(container: Container, place: str, source: Object) -> None:
    """No two ports of a container have one name."""
    _unique([port.name for port in container.ports], place + ".ports[{}].name", source)


def mounts_fit(container: Container, volumes: set[str], place: str, source: Object) -> None:
    """Each mount names a volume of the Pod, and no two are at one place."""
    for i, mount in enumerate(container.volume_mounts):
        if mount.name and mount.name not in volumes:
            source.complain(
                f"{place}.volumeMounts[{i}].name",
                f"no volume is named {quoted(mount.name)}{did_you_mean(mount.name, volumes - {''})}",
            )
    paths = [
        "/".join(part for part in mount.mount_path.split("/") if part not in ("", "."))
        for mount in container.volume_mounts
    ]
    _unique([path and f"/{path}" for path in paths], place + ".volumeMounts[{}].mountPath", source)


def _unique(items: list[str], place: str, source: Object) -> None:
    first: dict[str, int] = {}
    for i, item in enumerate(items):
        if item and first.setdefault(item, i) != i:
            source.complain(
                place.format(i), f"{quoted(item)} is given twice, first at {place.format(first[item])}"
            )
