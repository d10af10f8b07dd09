"""Apply, scale and label: what is replaced, what stays because somebody else has set it, what cannot change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyrun.errors import Conflict, InputError, ManifestError, NotFound, PyrunError
from pyrun.manifest.scalars import Value
from pyrun.spec.object import DesiredObject, Json, ObjectKey, StoredObject
from pyrun.store.apply import MAX_REPLICAS, Outcome, apply, label, scale
from pyrun.store.convert import desired_object, json_value, object_value
from pyrun.store.immutable import refuse_changes
from pyrun.store.objects import Store

AT = "2026-01-01T00:00:00Z"
WEB = ObjectKey(group="apps", kind="ReplicaSet", namespace="default", name="web")
Fields = dict[str, Value]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"{tmp_path}/objects.db") as opened:
        yield opened


def replica_set(metadata: Fields | None = None, **spec: Value) -> DesiredObject:
    """A ReplicaSet as it is applied; its default is one replica."""
    whole: Fields = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web"} | (metadata or {}),
    }
    selector: Value = {"matchLabels": {"app": "web"}}
    given: Fields = {"selector": selector} | spec
    return desired_object(whole | {"spec": given}, whole | {"spec": {"replicas": 1} | given})


def spec_of(stored: StoredObject) -> Fields:
    spec = json_value(stored.spec)
    assert isinstance(spec, dict)
    return spec


def test_applying_creates_configures_and_says_when_nothing_changes(store: Store) -> None:
    created = apply(store, replica_set(), AT)
    assert (created.outcome, created.object.generation) == (Outcome.CREATED, 1)
    assert apply(store, replica_set(), AT) == (Outcome.UNCHANGED, created.object)
    configured = apply(store, replica_set(minReadySeconds=5), AT)
    assert (configured.outcome, configured.object.generation) == (Outcome.CONFIGURED, 2)
    assert spec_of(configured.object)["minReadySeconds"] == 5
    assert apply(store, replica_set(), AT).object.generation == 3
    assert "minReadySeconds" not in spec_of(store.get(WEB))


def test_the_replicas_that_scale_has_set_stay_unless_the_text_names_them(store: Store) -> None:
    apply(store, replica_set(), AT)
    scaled = scale(store, WEB, 5)
    assert (spec_of(scaled)["replicas"], scaled.generation) == (5, 2)
    assert apply(store, replica_set(), AT).outcome is Outcome.UNCHANGED
    assert spec_of(apply(store, replica_set(minReadySeconds=1), AT).object)["replicas"] == 5
    assert spec_of(apply(store, replica_set(replicas=None), AT).object)["replicas"] == 5
    assert spec_of(apply(store, replica_set(replicas=2), AT).object)["replicas"] == 2
    assert spec_of(apply(store, replica_set(replicas=0), AT).object)["replicas"] == 0


def test_labels_of_others_stay_and_those_no_longer_applied_go(store: Store) -> None:
    apply(store, replica_set({"labels": {"a": "1", "b": "1"}, "annotations": {"n": "1"}}), AT)
    label(store, WEB, {"mine": "x", "b": "2"})
    again = apply(store, replica_set({"labels": {"a": "2"}, "annotations": {"m": "1"}}), AT).object
    assert again.labels == {"a": "2", "mine": "x"}
    assert again.annotations == {"m": "1"}
    assert again.generation == 1
    assert label(store, WEB, {"mine": None, "never": None}).labels == {"a": "2"}


def test_a_selector_cannot_change(store: Store) -> None:
    before = apply(store, replica_set(), AT).object
    with pytest.raises(ManifestError) as caught:
        apply(store, replica_set(selector={"matchLabels": {"app": "other"}}), AT)
    (problem,) = caught.value.problems
    assert problem.path == "spec.selector.matchLabels.app"
    assert problem.message.startswith(
        'cannot change from "web" to "other"; delete the ReplicaSet, with --cascade'
    )
    assert store.get(WEB) == before


def test_what_is_being_deleted_is_not_applied_again(store: Store) -> None:
    apply(store, replica_set(), AT)
    store.mark_deleted(WEB, AT, 30, False)
    with pytest.raises(Conflict, match='ReplicaSet "default/web" is being deleted'):
        apply(store, replica_set(minReadySeconds=5), AT)


@pytest.mark.parametrize("replicas", [-1, MAX_REPLICAS + 1])
def test_a_number_of_replicas_that_cannot_be(store: Store, replicas: int) -> None:
    apply(store, replica_set(), AT)
    with pytest.raises(InputError, match=f"got {replicas}"):
        scale(store, WEB, replicas)


def test_what_cannot_be_scaled(store: Store) -> None:
    with pytest.raises(NotFound):
        scale(store, WEB, 1)
    pod: Fields = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {}}
    made = apply(store, desired_object(pod, pod), AT).object
    with pytest.raises(InputError, match="has no replicas that could be scaled"):
        scale(store, made.key, 1)


def test_an_object_and_back(store: Store) -> None:
    applied: Fields = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "test", "labels": {"a": "1"}, "annotations": {"b": "2"}},
        "spec": {"template": {}},
    }
    checked = applied | {"spec": {"replicas": 1, "template": {}}}
    wanted = desired_object(applied, checked)
    assert wanted.key == ObjectKey(group="apps", kind="ReplicaSet", namespace="test", name="web")
    assert (wanted.version, json_value(wanted.applied)) == ("v1", applied)
    stored = store.create(wanted, AT)
    metadata: Fields = {
        "name": "web",
        "namespace": "test",
        "uid": stored.uid,
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": AT,
        "labels": {"a": "1"},
        "annotations": {"b": "2"},
    }
    assert object_value(stored) == checked | {"metadata": metadata}
    store.update_status(stored.key, stored.uid, Json(b'{"replicas":1}'))
    store.edit(stored.key, lambda o: msgspec.structs.replace(o, managed_fields=Json(b'[{"manager":"m"}]')))
    deleted = object_value(store.mark_deleted(stored.key, AT, 5, False))
    assert deleted["status"] == {"replicas": 1}
    assert deleted["metadata"] == metadata | {
        "resourceVersion": "4",
        "deletionTimestamp": AT,
        "deletionGracePeriodSeconds": 5,
        "managedFields": [{"manager": "m"}],
    }


def test_what_has_no_name_cannot_be_applied() -> None:
    whole: Fields = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"}, "spec": {}}
    with pytest.raises(InputError, match="a Pod with generateName cannot be applied"):
        desired_object(whole, whole)


POD = ObjectKey(group="", kind="Pod", namespace="default", name="web")
OLD = b'{"containers":[{"name":"a","image":"x","tty":false}],"hostNetwork":true}'
POD_CHANGES = (
    (b'{"hostNetwork":true,"containers":[{"tty":false,"name":"a","image":"x"}]}', ()),
    (
        b'{"containers":[{"name":"a","image":"y","tty":false}],"hostNetwork":true}',
        ('spec.containers[0].image: cannot change from "x" to "y"',),
    ),
    (
        b'{"containers":[{"name":"a","image":"x","tty":0}]}',
        (
            "spec.containers[0].tty: cannot change from false to 0",
            "spec.hostNetwork: cannot change from true to nothing",
        ),
    ),
    (b'{"containers":[],"hostNetwork":true}', ("spec.containers: cannot change",)),
    (
        b'{"containers":[{"name":"a","image":"x","tty":false}],"hostNetwork":true,"hostname":"h"}',
        ('spec.hostname: cannot change from nothing to "h"',),
    ),
)


@pytest.mark.parametrize(("new", "expected"), POD_CHANGES, ids=range(len(POD_CHANGES)))
def test_nothing_of_the_spec_of_a_pod_changes(new: bytes, expected: tuple[str, ...]) -> None:
    found: tuple[str, ...] = ()
    try:
        refuse_changes(POD, Json(OLD), Json(new))
    except ManifestError as error:
        found = tuple(map(str, error.problems))
    assert found == tuple(f"{words}; delete the Pod and apply it again" for words in expected)


def test_of_another_kind_everything_may_change() -> None:
    refuse_changes(
        ObjectKey(group="", kind="ConfigMap", namespace="d", name="c"), Json(b"{}"), Json(b'{"a":1}')
    )


def test_it_gives_up_when_others_make_and_delete_the_name_all_the_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(store, replica_set(), AT)
    monkeypatch.setattr(Store, "find", lambda *_: None)
    with pytest.raises(PyrunError, match="exists already"):
        apply(store, replica_set(), AT)
