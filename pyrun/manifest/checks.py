"""What must hold between the fields of a Pod: a list of named checks over the converted values.

Empty names are passed over, they have been told already. Source: pkg/apis/core/validation of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyrun.manifest.names import absolute_path
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.reader import Object
from pyrun.manifest.scalars import quoted
from pyrun.spec import annotations as own
from pyrun.spec.pod import Container, Metadata, Pod, PodSpec
from pyrun.spec.probe import (
    HookAction,
    HttpGetAction,
    Probe,
    ProbeAction,
    SleepAction,
    TcpSocketAction,
    action_name,
)

MAX_ANNOTATIONS = 256 * 1024
"""Most bytes that all annotations of an object may take together, keys and values."""

_OFFSETS = (own.TIME_OFFSET_MONOTONIC, own.TIME_OFFSET_BOOTTIME)
_BACKOFFS = (own.BACKOFF_INITIAL, own.BACKOFF_MAX, own.BACKOFF_RESET)
_OWN_KEYS = (*_OFFSETS, *_BACKOFFS, own.BEST_EFFORT)


def check_pod(pod: Pod, source: Object) -> None:
    """Run every check; problems go to `source`, the top level of the Pod or of its template."""
    annotations_fit(pod.metadata, source)
    for check in (
        own_annotations_are_known,
        backoffs_fit,
        namespaces_fit,
        volume_names_are_unique,
        container_names_are_unique,
    ):
        check(pod, source)
    volumes = {volume.name for volume in pod.spec.volumes}
    for place, container in places(pod.spec):
        port_names_are_unique(container, place, source)
        mounts_fit(container, volumes, place, source)
        ports_exist(container, place, source)
        sleeps_fit(container, pod.spec.termination_grace_period_seconds, place, source)


def places(spec: PodSpec) -> Iterator[tuple[str, Container]]:
    """Yield each container with its path in a Pod, init containers first."""
    for i, container in enumerate(spec.init_containers):
        yield f"spec.initContainers[{i}]", container
    for i, container in enumerate(spec.containers):
        yield f"spec.containers[{i}]", container


def annotations_fit(metadata: Metadata, source: Object) -> None:
    """All annotations together have a largest size."""
    pairs = metadata.annotations.items()
    size = sum(len(part.encode()) for pair in pairs for part in pair)
    if size > MAX_ANNOTATIONS:
        source.complain(
            "metadata.annotations", f"take {size} bytes together, at most {MAX_ANNOTATIONS} may be"
        )


def own_annotations_are_known(pod: Pod, source: Object) -> None:
    """Annotations in pyrun's own domain are known, and their values are what they must be."""
    containers = [container.name for container in pod.spec.all_containers()]
    known = (*_OWN_KEYS, *(f"{own.ROOTFS_PREFIX}{name}" for name in containers))
    for key, value in pod.metadata.annotations.items():
        wrong: str | None = None
        if not own.is_ours(key):
            continue
        if key in _OFFSETS:
            wrong = _wrong(own.parse_offset, value)
        elif key in _BACKOFFS:
            wrong = _wrong(own.parse_duration, value)
        elif key == own.BEST_EFFORT:
            wrong = _wrong(own.parse_switch, value)
        elif key in known:
            wrong = absolute_path(value)
        elif key.startswith(own.ROOTFS_PREFIX):
            name = key.removeprefix(own.ROOTFS_PREFIX)
            wrong = f"no container is named {quoted(name)}{did_you_mean(name, containers)}"
        else:
            wrong = f"unknown annotation of pyrun{did_you_mean(key, known)}"
        if wrong:
            source.complain(f"metadata.annotations[{key[:320]}]", wrong)


def _wrong(parse: Callable[[str], object], text: str) -> str | None:
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None


def backoffs_fit(pod: Pod, source: Object) -> None:
    """The first delay is not longer than the longest one, where both are given."""
    given = pod.metadata.annotations
    initial, longest = given.get(own.BACKOFF_INITIAL), given.get(own.BACKOFF_MAX)
    if initial is None or longest is None or _wrong(own.parse_duration, initial):
        return
    if not _wrong(own.parse_duration, longest) and own.parse_duration(initial) > own.parse_duration(longest):
        source.complain(
            f"metadata.annotations[{own.BACKOFF_INITIAL}]",
            f"{quoted(initial)} is longer than {own.BACKOFF_MAX}, {quoted(longest)}",
        )


def namespaces_fit(pod: Pod, source: Object) -> None:
    """A Pod cannot both share a PID namespace of its own and use the host's."""
    if pod.spec.share_process_namespace and pod.spec.host_pid:
        source.complain("spec.shareProcessNamespace", "cannot be true when hostPID is true")


def volume_names_are_unique(pod: Pod, source: Object) -> None:
    """No two volumes have one name."""
    _unique({f"spec.volumes[{i}].name": volume.name for i, volume in enumerate(pod.spec.volumes)}, source)


def container_names_are_unique(pod: Pod, source: Object) -> None:
    """No two containers have one name, init containers among them."""
    _unique({f"{place}.name": container.name for place, container in places(pod.spec)}, source)


def port_names_are_unique(container: Container, place: str, source: Object) -> None:
    """No two ports of a container have one name."""
    _unique({f"{place}.ports[{i}].name": port.name for i, port in enumerate(container.ports)}, source)


def ports_exist(container: Container, place: str, source: Object) -> None:
    """A port that a probe or a hook names is one of its own container."""
    known = {port.name for port in container.ports if port.name}
    for field, action in _actions(container):
        if not isinstance(action, HttpGetAction | TcpSocketAction) or not isinstance(action.port, str):
            continue
        if action.port and action.port not in known:
            hint = did_you_mean(action.port, known)
            source.complain(
                f"{place}.{field}.port", f"the container has no port named {quoted(action.port)}{hint}"
            )


def _actions(container: Container) -> Iterator[tuple[str, ProbeAction | HookAction]]:
    """Yield what the probes and hooks of a container do, each with its path in the container."""
    found: tuple[tuple[str, Probe | None], ...] = (
        ("startupProbe", container.startup_probe),
        ("readinessProbe", container.readiness_probe),
        ("livenessProbe", container.liveness_probe),
    )
    for field, probe in found:
        if probe is not None:
            yield f"{field}.{action_name(probe.action)}", probe.action
    hooks = container.lifecycle
    for field, action in (("postStart", hooks.post_start), ("preStop", hooks.pre_stop)):
        if action is not None:
            yield f"lifecycle.{field}.{action_name(action)}", action


def sleeps_fit(container: Container, grace: int, place: str, source: Object) -> None:
    """No hook sleeps longer than the Pod has for its end."""
    for field, action in _actions(container):
        if isinstance(action, SleepAction) and action.seconds > grace:
            source.complain(
                f"{place}.{field}.seconds",
                f"must be at most terminationGracePeriodSeconds, {grace}, got {action.seconds}",
            )


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
    points = {f"{place}.volumeMounts[{i}].mountPath": path and f"/{path}" for i, path in enumerate(paths)}
    _unique(points, source)


def _unique(items: dict[str, str], source: Object) -> None:
    """Note a problem for each item, by its place, that an earlier one equals."""
    first: dict[str, str] = {}
    for place, item in items.items():
        if item and first.setdefault(item, place) != place:
            source.complain(place, f"{quoted(item)} is given twice, first at {first[item]}")
