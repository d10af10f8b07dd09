"""Requests, limits, resize policies and references to them, as manifests give them."""

from __future__ import annotations

import pytest

from pyrun.manifest import dump_pod
from pyrun.manifest.scalars import Value
from pyrun.spec.downward import RESOURCES, ResourceReference
from pyrun.spec.effective import effective_request
from pyrun.spec.pod import Pod
from pyrun.spec.qos import QosClass, qos_class
from pyrun.spec.resources import (
    ResizableResource,
    ResizePolicy,
    ResourceList,
    ResourceRequirements,
    RestartOnResize,
)
from tests.unit.manifest_kit import first, load, object_problems, problems, put, replica_set, small

C = "spec.containers[0]"
MI, GI = 2**20, 2**30


def with_all(values: dict[str, Value]) -> dict[str, Value]:
    pod = small()
    for path, value in values.items():
        pod = put(pod, path, value)
    return pod


def of_container(value: Value) -> ResourceRequirements:
    return first(load(put(small(), f"{C}.resources", value))).resources


@pytest.mark.parametrize(
    ("given", "millis"),
    [
        (1, 1000),
        (0.5, 500),
        ("0.5", 500),
        ("250m", 250),
        ("1e3", 10**6),
        ("1k", 10**6),
        ("0.001", 1),
        (1.0, 1000),
    ],
)
def test_cpus_are_exact(given: Value, millis: int) -> None:
    assert of_container({"requests": {"cpu": given}}).requests.cpu_millis == millis


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("64Mi", 64 * MI),
        (134217728, 128 * MI),
        (1e9, 10**9),
        ("1.5Gi", 3 * 2**29),
        ("1e9", 10**9),
        ("4096000m", 4096),
    ],
)
def test_bytes_are_exact(given: Value, count: int) -> None:
    found = of_container({"limits": {"memory": given, "ephemeral-storage": given}})
    assert (found.limits.memory, found.limits.ephemeral_storage) == (count, count)


def test_a_request_that_is_not_given_is_the_limit() -> None:
    assert of_container(
        {"limits": {"cpu": 2, "memory": "1Gi"}, "requests": {"cpu": 1}}
    ) == ResourceRequirements(
        requests=ResourceList(cpu_millis=1000, memory=GI), limits=ResourceList(cpu_millis=2000, memory=GI)
    )
    assert of_container({"requests": {"cpu": 1}}).limits == ResourceList()
    for nothing in ({}, None, {"requests": {}, "limits": None}, {"requests": {"cpu": None}}):
        assert of_container(nothing) == ResourceRequirements()


def test_huge_pages_have_one_spelling() -> None:
    found = of_container({"limits": {"cpu": 1, "hugepages-1Gi": "1Gi", "hugepages-2048Ki": "4Mi"}})
    assert found.requests.hugepages == found.limits.hugepages == ((2 * MI, 4 * MI), (GI, GI))
    dumped = dump_pod(
        load(put(small(), f"{C}.resources", {"limits": {"memory": "1Gi", "hugepages-2048Ki": "4Mi"}}))
    )
    assert "hugepages-2Mi" in str(dumped)


UNKNOWN = ", known are cpu, memory, ephemeral-storage and hugepages-SIZE"
BAD: list[tuple[Value, str]] = [
    ({"limits": {"cpu": 0}}, "limits[cpu]: must not be zero; leave it out for none"),
    ({"limits": {"cpu": "0"}}, "limits[cpu]: must not be zero; leave it out for none"),
    ({"requests": {"memory": "-1Mi"}}, 'requests[memory]: must not be negative, got "-1Mi"'),
    ({"requests": {"cpu": -1}}, 'requests[cpu]: must not be negative, got "-1"'),
    ({"limits": {"memory": "1e400"}}, 'limits[memory]: "1e400" has an exponent beyond 40'),
    ({"limits": {"cpu": "1e400"}}, 'limits[cpu]: "1e400" has an exponent beyond 40'),
    (
        {"limits": {"memory": "9Ei"}},
        'limits[memory]: "9Ei" is more than the largest quantity, 9223372036854775807',
    ),
    ({"limits": {"cpu": "0.0001m"}}, 'limits[cpu]: "0.0001m" is finer than a thousandth of a CPU, 1m'),
    ({"limits": {"memory": "0.0001m"}}, 'limits[memory]: "0.0001m" is no whole number of bytes'),
    ({"limits": {"cpu": "100u"}}, 'limits[cpu]: "100u" is finer than a thousandth of a CPU, 1m'),
    ({"limits": {"cpu": 0.0001}}, 'limits[cpu]: "0.0001" is finer than a thousandth of a CPU, 1m'),
    ({"limits": {"cpu": "1.0001"}}, 'limits[cpu]: "1.0001" is finer than a thousandth of a CPU, 1m'),
    ({"limits": {"cpu": "1Mi"}}, 'limits[cpu]: "1Mi" is more than a million CPUs'),
    (
        {"limits": {"memory": "400m"}},
        'limits[memory]: "400m" is no whole number of bytes, did you mean "400M"?',
    ),
    ({"limits": {"memory": 0.5}}, 'limits[memory]: "0.5" is no whole number of bytes'),
    (
        {"limits": {"memory": 128}},
        'limits[memory]: "128" is less than a page of memory, 4096 bytes, did you mean 128Mi?',
    ),
    ({"limits": {"memory": "4k"}}, 'limits[memory]: "4k" is less than a page of memory, 4096 bytes'),
    ({"limits": {"memory": "64MB"}}, 'limits[memory]: "64MB" has the unknown suffix "MB", did you mean M?'),
    ({"limits": {"memory": ""}}, 'limits[memory]: "" is not a quantity such as 64Mi, 1.5Gi, 500m or 1e3'),
    ({"limits": {"memory": []}}, "limits[memory]: expected a quantity such as 64Mi, got a list"),
    ({"limits": {"memory": True}}, "limits[memory]: expected a quantity such as 64Mi, got boolean true"),
    ({"limits": {"cpus": 1}}, 'limits[cpus]: unknown resource "cpus", did you mean "cpu"?'),
    ({"requests": {"Memory": 1}}, 'requests[Memory]: unknown resource "Memory", did you mean "memory"?'),
    ({"limits": {"zzzzzzzz": 1}}, f'limits[zzzzzzzz]: unknown resource "zzzzzzzz"{UNKNOWN}'),
    ({"limits": {"hugepages": 1}}, f'limits[hugepages]: unknown resource "hugepages"{UNKNOWN}'),
    (
        {"limits": {"nvidia.com/gpu": 1}},
        'limits[nvidia.com/gpu]: the extended resource "nvidia.com/gpu" is not supported by pyrun:'
        " there are no device plugins",
    ),
    ({"limits": [1]}, "limits: expected a mapping, got a list"),
    ({"requests": "cpu=1"}, "requests: expected a mapping, got a string"),
    ({"claims": []}, "claims: not supported by pyrun: there are no device plugins"),
    ({"limit": {}}, 'limit: unknown field, did you mean "limits"?'),
    ({"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}, "requests[cpu]: 2 is above the limit, 1500m"),
    (
        {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}},
        "requests[memory]: 1Gi is above the limit, 512Mi",
    ),
    (
        {"requests": {"hugepages-2Mi": "2Mi", "cpu": 1}, "limits": {"hugepages-2Mi": "4Mi"}},
        "requests[hugepages-2Mi]: 2Mi must equal the limit, which is 4Mi",
    ),
    (
        {"requests": {"hugepages-2Mi": "2Mi", "cpu": 1}},
        "requests[hugepages-2Mi]: 2Mi must equal the limit, none is given",
    ),
    (
        {"limits": {"hugepages-2Mi": "3Mi", "cpu": 1}},
        'limits[hugepages-2Mi]: "3Mi" is no multiple of the size of a page, 2Mi',
    ),
    (
        {"limits": {"hugepages-3Mi": "3Mi", "cpu": 1}},
        'limits[hugepages-3Mi]: "3Mi" is no size of huge pages such as 2Mi or 1Gi',
    ),
    (
        {"limits": {"hugepages-": "3Mi", "cpu": 1}},
        'limits[hugepages-]: "" is not a quantity such as 64Mi, 1.5Gi, 500m or 1e3',
    ),
    (
        {"limits": {"hugepages-2Mi": "2Mi", "hugepages-2048Ki": "2Mi", "cpu": 1}},
        "limits[hugepages-2048Ki]: hugepages-2Mi is given twice, in two spellings",
    ),
    (
        {"limits": {"hugepages-2Mi": "2Mi"}},
        "limits[hugepages-2Mi]: huge pages need cpu or memory beside them",
    ),
]


@pytest.mark.parametrize(("resources", "problem"), BAD)
def test_bad_resources_are_told_with_their_place(resources: Value, problem: str) -> None:
    assert problems(put(small(), f"{C}.resources", resources)) == [f"{C}.resources.{problem}"]


def test_everything_wrong_is_told_at_once() -> None:
    found = problems(
        put(
            small(), f"{C}.resources", {"requests": {"cpu": 0, "gpu": 1}, "limits": {"memory": "x", "cpu": 1}}
        )
    )
    assert len(found) == 3


# The Pod as a whole


def test_the_resources_of_a_pod_as_a_whole() -> None:
    pod = load(put(small(), "spec.resources", {"limits": {"cpu": 2, "memory": "1Gi"}}))
    same = ResourceList(cpu_millis=2000, memory=GI)
    assert pod.spec.resources == ResourceRequirements(requests=same, limits=same)
    assert qos_class(pod.spec) is QosClass.GUARANTEED
    for nothing in ({}, None, {"limits": {}}):
        assert load(put(small(), "spec.resources", nothing)).spec.resources is None


def test_a_request_of_the_pod_defaults_to_what_its_containers_ask_for() -> None:
    values: dict[str, Value] = {
        f"{C}.resources": {"requests": {"cpu": 1, "ephemeral-storage": "1Gi"}},
        "spec.resources": {"limits": {"cpu": 2, "memory": "1Gi", "hugepages-2Mi": "2Mi"}},
    }
    pod = load(with_all(values))
    assert pod.spec.resources is not None
    pages = ((2 * MI, 2 * MI),)
    assert pod.spec.resources.requests == ResourceList(cpu_millis=1000, memory=GI, hugepages=pages)
    assert effective_request(pod.spec).ephemeral_storage == GI
    # Without any limit of its own nothing is added.
    pod = load(
        with_all(
            {f"{C}.resources": {"requests": {"memory": "1Gi"}}, "spec.resources": {"requests": {"cpu": 1}}}
        )
    )
    assert pod.spec.resources == ResourceRequirements(requests=ResourceList(cpu_millis=1000))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"spec.resources": {"limits": {"ephemeral-storage": "1Gi"}}},
            "spec.resources.limits[ephemeral-storage]: "
            "not supported for the Pod as a whole; give it to a container",
        ),
        (
            {"spec.resources": {"requests": {"cpu": 0}}},
            "spec.resources.requests[cpu]: must not be zero; leave it out for none",
        ),
        (
            {"spec.resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}},
            "spec.resources.requests[cpu]: 2 is above the limit, 1",
        ),
        (
            {f"{C}.resources": {"requests": {"cpu": 2}}, "spec.resources": {"requests": {"cpu": 1}}},
            "spec.resources.requests[cpu]: 1 is less than the containers ask for together, 2",
        ),
        (
            {
                f"{C}.resources": {"requests": {"memory": "2Gi"}},
                "spec.resources": {"limits": {"memory": "1Gi"}},
            },
            "spec.resources.limits[memory]: 1Gi is less than the containers ask for together, 2Gi",
        ),
        (
            {
                f"{C}.resources": {"requests": {"cpu": 1}, "limits": {"cpu": 3}},
                "spec.resources": {"limits": {"cpu": 2}},
            },
            f"{C}.resources.limits[cpu]: 3 is above the limit of the Pod as a whole, 2",
        ),
        (
            {
                "spec.initContainers": [
                    {"name": "i", "image": "x", "resources": {"requests": {"cpu": 5}}},
                ],
                f"{C}.resources": {"requests": {"cpu": 1}},
                "spec.resources": {"requests": {"cpu": 4}},
            },
            "spec.resources.requests[cpu]: 4 is less than the containers ask for together, 5",
        ),
    ],
)
def test_the_pod_as_a_whole_and_its_containers(values: dict[str, Value], expected: str) -> None:
    assert problems(with_all(values)) == [expected]


def test_the_pods_of_a_replica_set_are_looked_at_too() -> None:
    path = "spec.template.spec.containers[0].resources"
    assert object_problems(put(replica_set(), path, {"limits": {"cpu": 0}})) == [
        f"{path}.limits[cpu]: must not be zero; leave it out for none"
    ]
    whole = put(replica_set(), path, {"requests": {"cpu": 2}})
    assert object_problems(put(whole, "spec.template.spec.resources", {"requests": {"cpu": 1}})) == [
        "spec.template.spec.resources.requests[cpu]: 1 is less than the containers ask for together, 2"
    ]


# Resize policies

CPU: Value = {"resourceName": "cpu", "restartPolicy": "RestartContainer"}


def test_what_a_resize_does() -> None:
    pod = load(
        put(small(), f"{C}.resizePolicy", [CPU, {"resourceName": "memory", "restartPolicy": "NotRequired"}])
    )
    assert first(pod).resize_policy == (
        ResizePolicy(resource=ResizableResource.CPU, restart=RestartOnResize.RESTART_CONTAINER),
        ResizePolicy(resource=ResizableResource.MEMORY, restart=RestartOnResize.NOT_REQUIRED),
    )
    assert first(load(put(small(), f"{C}.resizePolicy", []))).resize_policy == ()


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([CPU, CPU], 'resizePolicy[1].resourceName: "cpu" is given twice'),
        (
            [{"resourceName": "cpus", "restartPolicy": "NotRequired"}],
            'resizePolicy[0].resourceName: unknown value "cpus", did you mean "cpu"?',
        ),
        ([{"restartPolicy": "NotRequired"}], "resizePolicy[0].resourceName: required"),
        ([{"resourceName": "cpu"}], "resizePolicy[0].restartPolicy: required"),
        (
            [{"resourceName": "cpu", "restartPolicy": "Always"}],
            'resizePolicy[0].restartPolicy: unknown value "Always", known are NotRequired, RestartContainer',
        ),
    ],
)
def test_bad_resize_policies(policies: Value, expected: str) -> None:
    assert problems(put(small(), f"{C}.resizePolicy", policies)) == [f"{C}.{expected}"]


def test_who_is_never_restarted_is_not_restarted_to_be_resized() -> None:
    never = put(put(small(), "spec.restartPolicy", "Never"), f"{C}.resizePolicy", [CPU])
    assert problems(never) == [
        f"{C}.resizePolicy[0].restartPolicy: "
        "cannot be RestartContainer when the container is never restarted (restartPolicy Never)"
    ]
    assert load(put(never, f"{C}.restartPolicy", "OnFailure"))


def test_an_init_container_is_not_resized_unless_it_is_a_sidecar() -> None:
    init: dict[str, Value] = {"name": "i", "image": "x", "resizePolicy": [CPU]}
    assert problems(put(small(), "spec.initContainers", [init])) == [
        "spec.initContainers[0].resizePolicy: "
        "not allowed in an init container, unless it is a sidecar (restartPolicy: Always)"
    ]
    assert load(put(small(), "spec.initContainers", [{**init, "restartPolicy": "Always"}]))


# References to resources


def reference(**fields: Value) -> dict[str, Value]:
    return put(small(), f"{C}.env", [{"name": "A", "valueFrom": {"resourceFieldRef": dict(fields)}}])


def referred(pod: Pod) -> ResourceReference | None:
    return first(pod).env[0].resource


@pytest.mark.parametrize("resource", RESOURCES)
def test_references(resource: str) -> None:
    unit = 1000 if resource.endswith(".cpu") else 1
    assert referred(load(reference(resource=resource))) == ResourceReference(resource=resource, divisor=unit)


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.cpu", "1m", 1),
        ("limits.cpu", 0.001, 1),
        ("limits.cpu", 1, 1000),
        ("limits.cpu", "0", 1000),
        ("limits.cpu", None, 1000),
        ("requests.memory", "1Mi", MI),
        ("requests.memory", "1048576", MI),
        ("requests.memory", "1k", 1000),
        ("requests.memory", 1, 1),
        ("requests.memory", 0, 1),
        ("limits.ephemeral-storage", "1Ei", 2**60),
    ],
)
def test_divisors(resource: str, divisor: Value, expected: int) -> None:
    pod = load(reference(resource=resource, divisor=divisor, containerName="c"))
    assert referred(pod) == ResourceReference(resource=resource, divisor=expected, container="c")
    assert load(dump_pod(pod)) == pod


BYTES = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "resource: required"),
        ({"resource": "limits.cpus"}, 'resource: unknown value "limits.cpus", did you mean "limits.cpu"?'),
        ({"resource": "limits.cpu", "divisor": "2"}, 'divisor: must be one of 1, 1m, got "2"'),
        ({"resource": "limits.cpu", "divisor": "0.1m"}, 'divisor: must be one of 1, 1m, got "0.1m"'),
        ({"resource": "limits.cpu", "divisor": "-1"}, 'divisor: must be one of 1, 1m, got "-1"'),
        ({"resource": "limits.memory", "divisor": "1m"}, f'divisor: must be one of {BYTES}, got "1m"'),
        (
            {"resource": "limits.memory", "divisor": "x"},
            'divisor: "x" is not a quantity such as 64Mi, 1.5Gi, 500m or 1e3',
        ),
        (
            {"resource": "limits.memory", "divisor": []},
            "divisor: expected a quantity such as 64Mi, got a list",
        ),
        (
            {"resource": "limits.memory", "containerName": "cc"},
            'containerName: no container is named "cc", did you mean "c"?',
        ),
    ],
)
def test_bad_references(fields: dict[str, Value], expected: str) -> None:
    assert problems(reference(**fields)) == [f"{C}.env[0].valueFrom.resourceFieldRef.{expected}"]


def test_a_variable_has_one_source() -> None:
    both: Value = {"fieldRef": {"fieldPath": "metadata.name"}, "resourceFieldRef": {"resource": "limits.cpu"}}
    assert problems(put(small(), f"{C}.env", [{"name": "A", "valueFrom": both}])) == [
        f"{C}.env[0].valueFrom.resourceFieldRef: a variable has only one source, and fieldRef is given too"
    ]
    assert problems(put(small(), f"{C}.env", [{"name": "A", "valueFrom": {}}])) == [
        f"{C}.env[0].valueFrom: a source is required: fieldRef or resourceFieldRef"
    ]
