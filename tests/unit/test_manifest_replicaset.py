"""ReplicaSets: read, refused with paths, and written back; and the doors that take them or do not."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrun.errors import ManifestError
from pyrun.manifest import (
    dump_object,
    dump_replica_set,
    load_objects,
    load_pods,
    read_object,
    to_json,
    to_yaml,
)
from pyrun.manifest.scalars import Value
from pyrun.manifest.schema import REPLICA_SET, Kind, Support, rows
from pyrun.spec.pod import Metadata, OwnerReference, Pod
from pyrun.spec.replicaset import ReplicaSet
from pyrun.spec.selector import Operator, Requirement, Selector
from tests.unit.manifest_kit import (
    load,
    load_set,
    object_problems,
    place_of,
    problems,
    put,
    replica_set,
    small,
)
from tests.unit.manifest_values import replica_sets

FULL = """
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: web
  namespace: shop
  labels: {tier: front}
  annotations: {example.com/note: text}
  uid: 6a1f
  ownerReferences: [{kind: Deployment}]
  deletionTimestamp: ~
spec:
  replicas: 0
  minReadySeconds: 5
  selector:
    matchLabels: {app: web}
    matchExpressions:
    - {key: track, operator: In, values: [stable, canary]}
    - {key: track, operator: NotIn, values: [beta]}
    - {key: app, operator: Exists}
    - {key: old, operator: DoesNotExist, values: []}
  template:
    metadata:
      name: ignored
      creationTimestamp: ~
      labels: {app: web, track: stable}
      annotations: {pyrun.io/backoff-initial: 500ms}
    spec:
      restartPolicy: Always
      containers: [{name: c, image: "x:1"}]
status: {replicas: 3}
"""


def test_every_field() -> None:
    (found,) = load_objects(FULL, "x")
    assert isinstance(found, ReplicaSet)
    assert found.metadata == Metadata(
        name="web", namespace="shop", labels={"tier": "front"}, annotations={"example.com/note": "text"}
    )
    spec = found.spec
    assert (spec.replicas, spec.min_ready_seconds) == (0, 5)
    assert spec.selector == Selector(
        match_labels={"app": "web"},
        match_expressions=(
            Requirement(key="track", operator=Operator.IN, values=("stable", "canary")),
            Requirement(key="track", operator=Operator.NOT_IN, values=("beta",)),
            Requirement(key="app", operator=Operator.EXISTS),
            Requirement(key="old", operator=Operator.DOES_NOT_EXIST),
        ),
    )
    assert spec.template.metadata == Metadata(
        labels={"app": "web", "track": "stable"}, annotations={"pyrun.io/backoff-initial": "500ms"}
    )
    assert [c.name for c in spec.template.spec.containers] == ["c"]


def test_defaults() -> None:
    pod = put(put(replica_set(), "spec.replicas", None), "metadata.namespace", None)
    found = load_set(pod)
    assert (found.spec.replicas, found.spec.min_ready_seconds) == (1, 0)
    assert found.metadata.namespace == "default"
    assert found.spec.template.spec == load(small()).spec


S = "spec.selector"
T = "spec.template"
C = f"{T}.spec.containers[0]"
BAD: list[tuple[str, Value, str]] = [
    ("apiVersion", None, "required"),
    ("apiVersion", "v1", 'expected "apps/v1" for kind ReplicaSet, got "v1"'),
    ("apiVersion", "extensions/v1beta1", 'expected "apps/v1" for kind ReplicaSet'),
    ("metadata", None, "required"),
    ("metadata.name", None, "required, or generateName"),
    ("metadata.name", "Web", "is not a DNS name"),
    ("metadata.finalizers", ["a"], "not supported by pyrun yet"),
    ("spec", None, "required"),
    ("spec", [], "expected a mapping, got a list"),
    ("spec.replicas", -1, "must be between 0 and 2147483647, got -1"),
    ("spec.replicas", 2**31, "must be between 0 and 2147483647, got 2147483648"),
    ("spec.replicas", 1.5, "expected an integer, got number 1.5"),
    ("spec.replicas", "3", "expected an integer, got a string; remove the quotes"),
    ("spec.minReadySeconds", -1, "must be between 0 and 2147483647, got -1"),
    ("spec.selector", None, "required"),
    ("spec.selector", {}, "must not be empty: it would match every Pod"),
    ("spec.selector", {"matchLabels": {}, "matchExpressions": []}, "must not be empty"),
    ("spec.selector", {"app": "web"}, "unknown field"),
    ("spec.selector", "app=web", "expected a mapping, got a string"),
    (f"{S}.matchLabels", ["app"], "expected a mapping, got a list"),
    (f"{S}.matchLabels", {"a b": "x"}, "is not a key"),
    (f"{S}.matchLabels", {"app": "a b"}, "is not a label value"),
    (f"{S}.matchLabels", {"app": 1}, "expected a string, got number 1; quote it"),
    (f"{S}.matchExpressions[0].key", None, "required"),
    (f"{S}.matchExpressions[0].key", "/a", "the part before the slash"),
    (f"{S}.matchExpressions[0].operator", None, "required"),
    (f"{S}.matchExpressions[0].operator", "exists", 'did you mean "Exists"?'),
    (f"{S}.matchExpressions[0].operator", "Gt", 'unknown value "Gt", known are In, NotIn,'),
    (f"{S}.matchExpressions[0].values", ["a"], "not allowed with operator Exists"),
    (f"{S}.matchExpressions", [{"key": "app", "operator": "DoesNotExist", "values": ["a"]}],
     "not allowed with operator DoesNotExist"),
    (f"{S}.matchExpressions", [{"key": "app", "operator": "In"}], "required with operator In, at least one"),
    (f"{S}.matchExpressions", [{"key": "app", "operator": "NotIn", "values": []}], "required with operator NotIn"),
    (f"{S}.matchExpressions", [{"key": "app", "operator": "In", "values": ["a b"]}], "is not a label value"),
    (T, None, "required"),
    (f"{T}.spec", None, "required"),
    (f"{T}.metadata", {"labels": {"app": "other"}}, "the selector of the ReplicaSet does not match them"),
    (f"{T}.metadata.finalizers", [], "not supported by pyrun yet"),
    (f"{T}.spec.restartPolicy", "Never", "must be Always in a ReplicaSet, got Never"),
    (f"{T}.spec.restartPolicy", "OnFailure", "must be Always in a ReplicaSet, got OnFailure"),
    (f"{T}.spec.restartPolicy", "never", 'unknown value "never", did you mean "Never"?'),
    (f"{T}.spec.activeDeadlineSeconds", 5, "not allowed in a ReplicaSet"),
    (f"{T}.spec.containers", [], "required, at least one container"),
    (f"{C}.livenessProbe", {"exec": {"command": ["a"]}, "grpc": {"port": 1}}, "only one handler"),
    (f"{C}.readinessProbe", {"tcpSocket": {"port": "web"}}, 'no port named "web"'),
    (f"{C}.imagee", "x", 'unknown field, did you mean "image"?'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_rules(path: str, value: Value, message: str) -> None:
    (found,) = object_problems(put(replica_set(), path, value))
    assert found.startswith(path)
    assert message in found


@pytest.mark.parametrize(
    "value", [None, {}, {"labels": None}, {"labels": {}}, {"annotations": {"app": "web"}}]
)
def test_a_template_without_labels_does_not_match(value: Value) -> None:
    assert object_problems(put(replica_set(), f"{T}.metadata", value)) == [
        f"{T}.metadata.labels: the selector of the ReplicaSet does not match them"
    ]


def test_nothing_follows_from_a_selector_or_labels_that_are_wrong() -> None:
    (found,) = object_problems(put(replica_set(), f"{T}.metadata.labels", {"app": 1}))
    assert found.startswith(f"{T}.metadata.labels[app]: ")
    (found,) = object_problems(put(replica_set(), f"{S}.matchLabels", {"other": "a b"}))
    assert found.startswith(f"{S}.matchLabels[other]: ")


def test_all_problems_are_told_at_once() -> None:
    value = put(put(replica_set(), "spec.replicas", -1), f"{T}.spec.restartPolicy", "Never")
    value = put(put(value, f"{T}.metadata.labels", {"app": "x"}), "spec.template.spec.volumes[0].name", "h")
    value = put(value, f"{C}.lifecycle", {"preStop": {"exec": {"command": ["a"]}, "sleep": {"seconds": 1}}})
    found = [line.partition(": ")[0] for line in object_problems(value)]
    assert {
        "spec.replicas",
        f"{T}.metadata.labels",
        f"{T}.spec.restartPolicy",
        f"{T}.spec.volumes[1].name",
        f"{C}.volumeMounts[0].name",
        f"{C}.lifecycle.preStop.sleep",
    } == set(found)


def test_replicas_with_a_host_port_clash() -> None:
    value = put(replica_set(), f"{C}.ports[0].hostPort", 8080)
    place = f"{C}.ports[0].hostPort"
    refused = f"{place}: known to Kubernetes, not supported by pyrun yet"
    assert object_problems(value) == [
        refused,
        f"{place}: 3 replicas would clash over this port of the one host",
    ]
    assert object_problems(put(value, "spec.replicas", 1)) == [refused]
    assert object_problems(put(value, "spec.replicas", 0)) == [refused]
    value = put(replica_set("initContainers[0]"), f"{T}.spec.initContainers[0].ports[0].hostPort", 1)
    assert len(object_problems(value)) == 2


def test_replicas_with_ports_on_the_hosts_network_clash() -> None:
    value = put(replica_set(), f"{T}.spec.hostNetwork", True)
    assert object_problems(value) == [
        f"{C}.ports[0].containerPort: 3 replicas would clash over this port of the one host"
    ]
    assert load_set(put(value, "spec.replicas", 1))
    assert load_set(put(value, f"{C}.ports", None))


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"pyrun.io/backoff-initial": "soon"}, "is not a duration"),
        ({"pyrun.io/backof-max": "1s"}, 'did you mean "pyrun.io/backoff-max"?'),
        ({"rootfs.pyrun.io/d": "/srv"}, 'no container is named "d"'),
    ],
)
def test_annotations_of_the_template_are_checked_as_those_of_a_pod(
    annotations: dict[str, Value], message: str
) -> None:
    value = put(replica_set(), f"{T}.metadata.annotations", annotations)
    (found,) = object_problems(value)
    assert found.startswith(f"{T}.metadata.annotations[")
    assert message in found


def test_annotations_of_pyrun_belong_into_the_template() -> None:
    value = put(replica_set(), "metadata.annotations", {"pyrun.io/backoff-max": "1s", "example.com/a": "b"})
    assert object_problems(value) == [
        "metadata.annotations[pyrun.io/backoff-max]: an annotation of pyrun's is one of Pods;"
        " give it in spec.template.metadata.annotations"
    ]
    large = put(replica_set(), "metadata.annotations", {"a": "x" * 262_144})
    assert object_problems(large) == [
        "metadata.annotations: take 262145 bytes together, at most 262144 may be"
    ]


ALL_ROWS = tuple(rows(REPLICA_SET))


@pytest.mark.parametrize("path", [place_of(r.path) for r in ALL_ROWS if r.support is Support.IGNORED])
def test_what_has_no_effect_is_accepted_whatever_it_is(path: str) -> None:
    for value in ({}, [1], "x", 7):
        assert load_set(put(replica_set(), path, value)) == load_set(replica_set())


class Level(NamedTuple):
    """A level of the table above that of a Pod's spec."""

    prefix: str
    kind: Kind


def levels(kind: Kind, prefix: str = "") -> list[Level]:
    found = [Level(prefix, kind)]
    for field in kind.fields.values():
        if field.of is not None and field.of.name != "PodSpec":
            found += levels(field.of, f"{prefix}{field.name}{'[0]' if field.many else ''}.")
    return found


@pytest.mark.parametrize(("prefix", "kind"), levels(REPLICA_SET))
def test_unknown_fields_of_every_level(prefix: str, kind: Kind) -> None:
    for name in kind.fields:
        wrong = name.swapcase()
        assert f'{prefix}{wrong}: unknown field, did you mean "{name}"?' in object_problems(
            put(replica_set(), f"{prefix}{wrong}", 1)
        )


def test_the_table_is_complete() -> None:
    names = {kind.name: len(kind.fields) for _, kind in levels(REPLICA_SET)}
    # As counted in the schema of client-go.
    assert names == {
        "ReplicaSet": 5,
        "ObjectMeta": 15,
        "ReplicaSetSpec": 4,
        "LabelSelector": 2,
        "LabelSelectorRequirement": 3,
        "PodTemplateSpec": 2,
        "ObjectMeta of a PodTemplateSpec": 15,
    }


# The doors


def test_a_file_of_pods_and_replica_sets() -> None:
    text = f"{FULL}---\n{to_yaml(small())}"
    found = load_objects(text, "x")
    assert [type(one) for one in found] == [ReplicaSet, Pod]
    text = to_json({"apiVersion": "v1", "kind": "List", "items": [small(), replica_set()]})
    assert [type(one) for one in load_objects(text, "x")] == [Pod, ReplicaSet]
    items: list[Value] = [replica_set()]
    assert load_objects(to_json({"apiVersion": "apps/v1", "kind": "ReplicaSetList", "items": items}), "x")
    assert object_problems({"apiVersion": "v1", "kind": "ReplicaSetList", "items": items}) == [
        'apiVersion: expected "apps/v1" for kind ReplicaSetList'
    ]


def test_where_only_pods_are_taken_a_replica_set_is_refused_with_a_hint() -> None:
    assert problems(replica_set()) == [
        "kind: a Pod is expected here, and kind ReplicaSet is what pyrun apply takes"
    ]
    with pytest.raises(ManifestError) as caught:
        load_pods(f"{FULL}---\n{to_yaml(small())}", "x")
    assert [problem.path for problem in caught.value.problems] == ["document 1 (ReplicaSet web): kind"]


def test_other_kinds_are_refused() -> None:
    assert object_problems({"kind": "Deployment"}) == ["kind: kind Deployment is not supported yet"]
    assert object_problems({"kind": "replicaset"}) == [
        'kind: unknown kind "replicaset", did you mean "ReplicaSet"?'
    ]


def test_an_object_is_given_once_in_a_file() -> None:
    with pytest.raises(ManifestError) as caught:
        load_objects(f"{FULL}---\n{FULL}", "x")
    assert [str(problem) for problem in caught.value.problems] == [
        'document 2 (ReplicaSet web): metadata.name: the ReplicaSet "shop/web" is given twice in this file'
    ]
    assert len(load_objects(f"{to_yaml(small())}---\n{to_yaml(replica_set())}", "x")) == 2


def test_an_object_of_the_store() -> None:
    assert read_object(replica_set()) == load_set(replica_set())
    assert read_object(small()) == load(small())
    with pytest.raises(ManifestError, match=r"^ReplicaSet web: 1 problem\n  spec\.replicas: must be between"):
        read_object(put(replica_set(), "spec.replicas", -1), "ReplicaSet web")
    for value, path in (({"kind": "Service"}, "kind"), ([], ""), ({}, "kind"), ({"kind": 7}, "kind")):
        with pytest.raises(ManifestError) as caught:
            read_object(value)
        assert caught.value.problems[0].path == path


# The way back


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(replica_sets())
def test_what_is_dumped_loads_as_the_same_replica_set(one: ReplicaSet) -> None:
    dumped = dump_replica_set(one)
    assert load_objects(to_yaml(dumped), "x") == (one,)
    assert read_object(dumped) == one
    assert dump_object(one) == dumped


def test_a_dump_names_the_owners_which_are_not_read_back() -> None:
    owner = OwnerReference(api_version="apps/v1", kind="Deployment", name="web", uid="1")
    found = load_set(replica_set())
    owned = ReplicaSet(metadata=Metadata(name="web", owner_references=(owner,)), spec=found.spec)
    metadata = dump_replica_set(owned)["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["ownerReferences"] == [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1"}
    ]
    assert read_object(dump_replica_set(owned)) == found


@settings(deadline=None)
@given(
    path=st.sampled_from([place_of(row.path) for row in ALL_ROWS]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
        max_leaves=5,
    ),
)
def test_arbitrary_values_in_every_field_load_or_have_problems(path: str, value: Value) -> None:
    try:
        assert load_objects(to_json(put(replica_set(path), path, value)), "x")
    except ManifestError as error:
        assert error.problems


@given(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")),
    st.sampled_from("abc"),
    st.sampled_from("xy"),
)
def test_a_selector_matches_its_template_or_is_refused(labels: dict[str, str], key: str, value: str) -> None:
    manifest = put(replica_set(), "spec.selector", {"matchLabels": {key: value}})
    manifest = put(manifest, f"{T}.metadata.labels", dict(labels))
    if labels.get(key) == value:
        assert load_set(manifest).spec.selector.matches(labels)
    else:
        assert object_problems(manifest) == [
            f"{T}.metadata.labels: the selector of the ReplicaSet does not match them"
        ]
