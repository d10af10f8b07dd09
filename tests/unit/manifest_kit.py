"""Manifests as values, and what is wrong with them: for the tests of what is read."""

from __future__ import annotations

import copy

import pytest

from pyrun.errors import ManifestError
from pyrun.manifest import load_objects, load_pods, to_json, to_yaml
from pyrun.manifest.scalars import Value
from pyrun.spec.pod import Container, Pod
from pyrun.spec.replicaset import ReplicaSet

HANDLERS: dict[str, Value] = {
    "exec": {"command": ["true"]},
    "httpGet": {"port": 80, "httpHeaders": [{"name": "A"}]},
    "tcpSocket": {"port": 80},
    "grpc": {"port": 80},
    "sleep": {"seconds": 1},
}
FIELD: Value = {"fieldRef": {"fieldPath": "metadata.name"}}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
HOOKS = ("postStart", "preStop")


def small(path: str = "") -> dict[str, Value]:
    """A Pod with one object at every level, so that any field can be added.

    What may be given only once, or only beside something, is there when `path` leads through it.
    """
    spec: dict[str, Value] = {
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/srv"}}],
        "containers": [_container("c", path)],
    }
    if "initContainers[" in path:
        spec["initContainers"] = [{**_container("i", path), "restartPolicy": "Always"}]
    if "os." in path:
        spec["os"] = {"name": "linux"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}


def _container(name: str, path: str) -> dict[str, Value]:
    steps = path.split(".")
    container: dict[str, Value] = {
        "name": name,
        "image": "x",
        "env": [{"name": "A"}],
        "ports": [{"containerPort": 80}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "securityContext": {"capabilities": {}},
        "lifecycle": {hook: _handler(steps) for hook in HOOKS if hook in steps[:-1]},
    }
    container |= {probe: _handler(steps) for probe in PROBES if probe in steps[:-1]}
    if "valueFrom" in steps[:-1]:
        resource = "resourceFieldRef" in steps
        origin: Value = {"resourceFieldRef": {"resource": "limits.cpu"}} if resource else FIELD
        container["env"] = [{"name": "A", "valueFrom": copy.deepcopy(origin)}]
    if "resizePolicy[0]" in steps:
        container["resizePolicy"] = [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]
    if "restartPolicyRules[0]" in steps:
        container["restartPolicy"] = "Always"
        container["restartPolicyRules"] = [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}
        ]
    return container


def _handler(steps: list[str]) -> Value:
    """Return a probe or hook with the handler that the steps of a path lead through, else with one of exec."""
    name = next((step for step in steps[:-1] if step in HANDLERS), "exec")
    return {name: copy.deepcopy(HANDLERS[name])}


def replica_set(path: str = "") -> dict[str, Value]:
    """A ReplicaSet of the same."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {
                "matchLabels": {"app": "web"},
                "matchExpressions": [{"key": "app", "operator": "Exists"}],
            },
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": small(path)["spec"]},
        },
    }


def keys(path: str) -> list[str | int]:
    """Return the steps of a path such as `spec.containers[0].name`."""
    steps: list[str | int] = []
    for part in path.split("."):
        name, *indices = part.replace("]", "").split("[")
        steps += [name, *(int(index) for index in indices)]
    return steps


def put(pod: dict[str, Value], path: str, value: Value) -> dict[str, Value]:
    """Return `pod` with the value at `path` replaced."""
    pod = copy.deepcopy(pod)
    *way, last = keys(path)
    place: Value = pod
    for step in way:
        if isinstance(place, dict) and isinstance(step, str):
            place = place.setdefault(step, {})
        elif isinstance(place, list) and isinstance(step, int):
            place = place[step]
    if isinstance(place, dict) and isinstance(last, str):
        place[last] = value
    elif isinstance(place, list) and isinstance(last, int):
        place[last:] = [value]
    return pod


def problems(value: Value) -> list[str]:
    """Return the problems of a manifest of Pods; the same through YAML and JSON."""
    found = []
    for text in (to_yaml(value), to_json(value)):
        with pytest.raises(ManifestError) as caught:
            load_pods(text, "file")
        found.append([str(problem) for problem in caught.value.problems])
    assert found[0] == found[1]
    return found[0]


def object_problems(value: Value) -> list[str]:
    """Return the problems of a manifest of any objects."""
    with pytest.raises(ManifestError) as caught:
        load_objects(to_json(value), "file")
    return [str(problem) for problem in caught.value.problems]


def load(value: Value) -> Pod:
    (pod,) = load_pods(to_json(value), "file")
    return pod


def load_set(value: Value) -> ReplicaSet:
    (one,) = load_objects(to_json(value), "file")
    assert isinstance(one, ReplicaSet)
    return one


def first(pod: Pod) -> Container:
    return pod.spec.containers[0]


def place_of(row_path: str) -> str:
    """Return where in `small()` a field of the table goes."""
    path = row_path.replace("[].", "[0].").removesuffix("[]")
    return path.replace("volumes[0].hostPath", "volumes[1].hostPath")
