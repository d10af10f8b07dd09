"""What must hold between the fields of a Pod: a list of named checks over the converted values.

Empty names are passed over, they have been told already. Source: pkg/apis/core/validation of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyrun.manifest.annotations import annotations_fit, backoffs_fit, own_annotations_are_known, settings_fit
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.reader import Object
from pyrun.spec.effective import containers_request
from pyrun.spec.pod import Container, Pod, PodSpec, RestartPolicy
from pyrun.spec.probe import (
    HookAction,
    HttpGetAction,
    Probe,
    ProbeAction,
    SleepAction,
    TcpSocketAction,
    action_name,
)
from pyrun.spec.quoting import quoted
from pyrun.spec.resources import ResourceRequirements, RestartOnResize, amounts, format_amount


def check_pod(pod: Pod, source: Object) -> None:
    """Run every check; problems go to `source`, the top level of the Pod or of its template."""
    annotations_fit(pod.metadata, source)
    for check in (
        own_annotations_are_known,
        backoffs_fit,
        settings_fit,
        namespaces_fit,
        volume_names_are_unique,
        container_names_are_unique,
        pod_resources_fit,
        resource_references_fit,
    ):
        check(pod, source)
    volumes = {volume.name for volume in pod.spec.volumes}
    for place, container in places(pod.spec):
        port_names_are_unique(container, place, source)
        mounts_fit(container, volumes, place, source)
        ports_exist(container, place, source)
        resizes_fit(pod.spec, container, place, source)
        sleeps_fit(container, pod.spec.termination_grace_period_seconds, place, source)


def places(spec: PodSpec) -> Iterator[tuple[str, Container]]:
    """Yield each container with its path in a Pod, init containers first."""
    for i, container in enumerate(spec.init_containers):
        yield f"spec.initContainers[{i}]", container
    for i, container in enumerate(spec.containers):
        yield f"spec.containers[{i}]", container


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


def pod_resources_fit(pod: Pod, source: Object) -> None:
    """The resources of a Pod as a whole are not less than what its containers ask for, nor than a limit of one."""
    own = pod.spec.resources or ResourceRequirements()
    asked = amounts(containers_request(pod.spec))
    for field, whole in (("requests", amounts(own.requests)), ("limits", amounts(own.limits))):
        for name, amount in whole.items():
            if asked.get(name, 0) > amount:
                source.complain(
                    f"spec.resources.{field}[{name}]",
                    f"{format_amount(name, amount)} is less than the containers ask for together,"
                    f" {format_amount(name, asked[name])}",
                )
    limits = amounts(own.limits)
    for place, container in places(pod.spec):
        for name, amount in amounts(container.resources.limits).items():
            if amount > limits.get(name, amount):
                source.complain(
                    f"{place}.resources.limits[{name}]",
                    f"{format_amount(name, amount)} is above the limit of the Pod as a whole,"
                    f" {format_amount(name, limits[name])}",
                )


def resource_references_fit(pod: Pod, source: Object) -> None:
    """A variable is told the resources of a container that there is."""
    known = [container.name for container in pod.spec.all_containers()]
    for place, container in places(pod.spec):
        for i, variable in enumerate(container.env):
            name = variable.resource.container if variable.resource else ""
            if name and name not in known:
                source.complain(
                    f"{place}.env[{i}].valueFrom.resourceFieldRef.containerName",
                    f"no container is named {quoted(name)}{did_you_mean(name, known)}",
                )


def resizes_fit(spec: PodSpec, container: Container, place: str, source: Object) -> None:
    """A container that is never restarted is not restarted to be resized."""
    if (container.restart_policy or spec.restart_policy) is not RestartPolicy.NEVER:
        return
    for i, policy in enumerate(container.resize_policy):
        if policy.restart is RestartOnResize.RESTART_CONTAINER:
            source.complain(
                f"{place}.resizePolicy[{i}].restartPolicy",
                "cannot be RestartContainer when the container is never restarted (restartPolicy Never)",
            )


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
