"""The store: one version over all objects, optimistic concurrency, and a log from which all can be rebuilt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyrun.errors import Conflict, NotFound, TooOld
from pyrun.kernel import syscalls
from pyrun.spec.object import Change, ChangeType, DesiredObject, Json, ObjectKey, StoredObject
from pyrun.store.objects import Store, same_json

AT = "2026-01-01T00:00:00Z"


def key(name: str = "web", namespace: str = "default", kind: str = "ReplicaSet") -> ObjectKey:
    return ObjectKey(group="apps", kind=kind, namespace=namespace, name=name)


WEB = key()


def desired(of: ObjectKey = WEB, spec: bytes = b'{"replicas":1}', **labels: str) -> DesiredObject:
    return DesiredObject(key=of, version="v1", applied=Json(b'{"kind":"X"}'), spec=Json(spec), labels=labels)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"{tmp_path}/store/objects.db", log_length=10) as opened:
        yield opened


def test_a_new_store_is_empty_private_and_of_version_0(store: Store, tmp_path: Path) -> None:
    assert store.resource_version() == 0
    assert store.list("ReplicaSet") == ()
    assert store.changes_since(0) == ()
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_what_was_created_is_there_after_opening_it_again(store: Store) -> None:
    created = store.create(desired(app="web"), AT)
    store.close()
    with Store.open(store.path) as again:
        assert again.get(WEB) == created
    assert (created.resource_version, created.generation, created.created_at) == (1, 1, AT)
    assert (created.labels, created.status, created.managed_fields) == (
        {"app": "web"},
        Json(b"{}"),
        Json(b"[]"),
    )
    assert (created.deleted_at, created.orphan, created.api_version) == ("", False, "apps/v1")
    assert len(created.uid) == 36


def test_the_api_version_of_the_core_group_has_no_slash(store: Store) -> None:
    pod = ObjectKey(group="", kind="Pod", namespace="default", name="web")
    assert store.create(desired(pod), AT).api_version == "v1"


def test_a_name_is_taken_once_in_its_kind_and_namespace(store: Store) -> None:
    for other in (WEB, key("other"), key(namespace="test"), key(kind="Deployment")):
        store.create(desired(other), AT)
    with pytest.raises(Conflict, match='ReplicaSet "default/web" exists already'):
        store.create(desired(), AT)
    assert [o.key for o in store.list("ReplicaSet")] == [key("other"), WEB, key(namespace="test")]
    assert [o.key for o in store.list("ReplicaSet", "test")] == [key(namespace="test")]
    assert store.list("ReplicaSet", "none") == ()


def test_what_is_not_there_is_not_found(store: Store) -> None:
    assert store.find(WEB) is None
    with pytest.raises(NotFound, match='no ReplicaSet "default/web" exists'):
        store.get(WEB)
    with pytest.raises(NotFound):
        store.edit(WEB, lambda present: present)
    with pytest.raises(NotFound):
        store.mark_deleted(WEB, AT, 30, False)
    with pytest.raises(NotFound):
        store.update_status(WEB, "uid", Json(b"{}"))
    store.remove(WEB, "uid")
    assert store.resource_version() == 0


GENERATIONS = (
    ("spec", Json(b'{"replicas":2}'), 2),
    ("labels", {"a": "b"}, 1),
    ("annotations", {"a": "b"}, 1),
    ("applied", Json(b'{"a":1}'), 1),
    ("managed_fields", Json(b'[{"manager":"x"}]'), 1),
    ("version", "v2", 1),
)


@pytest.mark.parametrize(("field", "value", "generation"), GENERATIONS, ids=lambda v: str(v)[:20])
def test_the_generation_grows_with_the_spec_alone(
    store: Store, field: str, value: object, generation: int
) -> None:
    created = store.create(desired(), AT)
    changed = store.update(msgspec.structs.replace(created, **{field: value}), 1)
    assert changed.generation == generation
    assert (changed.resource_version, changed.uid, changed.created_at) == (2, created.uid, AT)
    assert getattr(changed, field) == value
    assert store.get(WEB) == changed


def test_what_is_not_the_users_does_not_change_by_an_update(store: Store) -> None:
    created = store.create(desired(), AT)
    store.update_status(WEB, created.uid, Json(b'{"replicas":1}'))
    status_only = msgspec.structs.replace(
        created, status=Json(b"{}"), generation=7, created_at="", deleted_at="x", orphan=True
    )
    assert store.update(status_only, 2) == msgspec.structs.replace(
        created, resource_version=2, status=Json(b'{"replicas":1}')
    )


def test_a_change_that_changes_nothing_is_none(store: Store) -> None:
    created = store.create(desired(spec=b'{"a":1,"b":2}'), AT)
    same = msgspec.structs.replace(created, spec=Json(b'{"b": 2, "a": 1}'), applied=Json(b'{ "kind": "X" }'))
    assert store.update(same, 1) == created
    assert store.update_status(WEB, created.uid, Json(b"{ }")) == created
    assert store.edit(WEB, lambda present: present) == (created, created)
    assert store.resource_version() == 1


def test_an_update_of_what_has_changed_since_is_a_conflict(store: Store) -> None:
    created = store.create(desired(), AT)
    store.update_status(WEB, created.uid, Json(b'{"replicas":1}'))
    with pytest.raises(Conflict, match="its resourceVersion was 1 and is 2") as caught:
        store.update(created, 1)
    assert caught.value.hint == "read it again and repeat the change"
    assert store.update(created, 2).resource_version == 2


def test_another_object_of_the_same_name_is_not_the_one_that_was_meant(store: Store) -> None:
    first = store.create(desired(), AT)
    store.remove(WEB, first.uid)
    second = store.create(desired(), AT)
    assert second.uid != first.uid
    for attempt in (
        lambda: store.update(first, second.resource_version),
        lambda: store.update_status(WEB, first.uid, Json(b'{"a":1}')),
        lambda: store.remove(WEB, first.uid),
    ):
        with pytest.raises(Conflict, match="has been deleted and made anew"):
            attempt()
    assert store.get(WEB) == second


def test_who_watches_is_told_after_the_commit(store: Store, tmp_path: Path) -> None:
    """The last that inotify(7) tells of a write is the file for watchers, not one of SQLite's own."""
    watch = syscalls.inotify_init1(syscalls.IN_NONBLOCK)
    try:
        syscalls.inotify_add_watch(watch, str(tmp_path / "store"), syscalls.IN_MODIFY)
        for write in (
            lambda: store.create(desired(), AT),
            lambda: store.update_status(WEB, store.get(WEB).uid, Json(b'{"replicas":1}')),
            lambda: store.remove(WEB, store.get(WEB).uid),
        ):
            write()
            assert os.read(watch, 1 << 16).rstrip(b"\0").endswith(b"objects.db-changed")
    finally:
        os.close(watch)


def test_an_edit_that_fails_writes_nothing(store: Store) -> None:
    created = store.create(desired(), AT)

    def fail(present: StoredObject) -> StoredObject:
        raise Conflict(f"no, {present.key}")

    with pytest.raises(Conflict, match="no, "):
        store.edit(WEB, fail)
    assert store.get(WEB) == created
    assert store.create(desired(key("next")), AT).resource_version == 2, "the transaction is over"


def test_deletion_is_asked_for_once_and_its_grace_only_shrinks(store: Store) -> None:
    created = store.create(desired(), AT)
    marked = store.mark_deleted(WEB, "2026-01-02T00:00:00Z", 30, True)
    assert marked == msgspec.structs.replace(
        created,
        resource_version=2,
        deleted_at="2026-01-02T00:00:00Z",
        deletion_grace_seconds=30,
        orphan=True,
    )
    assert store.mark_deleted(WEB, "later", 60, False) == marked
    shorter = store.mark_deleted(WEB, "later", 5, False)
    assert shorter == msgspec.structs.replace(marked, resource_version=3, deletion_grace_seconds=5)


def test_the_log_tells_every_change_in_its_order(store: Store) -> None:
    created = store.create(desired(), AT)
    changed = store.update(msgspec.structs.replace(created, spec=Json(b'{"replicas":2}')), 1)
    store.remove(WEB, created.uid)
    gone = msgspec.structs.replace(changed, resource_version=3)
    expected = (
        Change(type=ChangeType.ADDED, object=created),
        Change(type=ChangeType.MODIFIED, object=changed),
        Change(type=ChangeType.DELETED, object=gone),
    )
    for since in range(4):
        assert store.changes_since(since) == expected[since:]


def test_a_version_that_the_log_does_not_reach_is_too_old(store: Store) -> None:
    created = store.create(desired(), AT)
    for number in range(20):
        store.update_status(WEB, created.uid, Json(b'{"replicas":%d}' % number))
    assert store.resource_version() == 21
    assert [change.object.resource_version for change in store.changes_since(11)] == list(range(12, 22))
    for version in (0, 10, 22):
        with pytest.raises(TooOld, match=f"after resourceVersion {version} are not known") as caught:
            store.changes_since(version)
        assert caught.value.hint == "list the objects again"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1,"b":[1,2]}', b'{ "b": [1, 2], "a": 1 }', True),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":1}', b'{"a":"1"}', False),
        (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
    ],
)
def test_json_is_compared_by_its_meaning(one: bytes, other: bytes, same: bool) -> None:
    assert same_json(Json(one), Json(other)) is same


KEYS = st.sampled_from([key(name, space) for name in ("a", "b") for space in ("default", "test")])
SPECS = st.integers(0, 3).map(lambda n: Json(b'{"replicas":%d}' % n))
LABELS = st.dictionaries(st.sampled_from("xyz"), st.sampled_from("123"), max_size=2)


class StoreMachine(RuleBasedStateMachine):
    """The store beside a dict, and a watcher who knows only the log."""

    LOG = 8

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[ObjectKey, StoredObject] = {}
        self.version = 0
        self.watched: dict[ObjectKey, StoredObject] = {}
        self.watched_version = 0

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.store = Store.open(f"{self.directory.name}/objects.db", log_length=self.LOG)

    def teardown(self) -> None:
        self.store.verify()
        self.store.close()
        self.directory.cleanup()

    def wrote(self, written: StoredObject, changed: bool) -> None:
        self.version += changed
        assert not changed or written.resource_version == self.version
        self.model[written.key] = written

    @rule(of=KEYS, spec=SPECS, labels=LABELS)
    def create(self, of: ObjectKey, spec: Json, labels: dict[str, str]) -> None:
        wanted = DesiredObject(key=of, version="v1", applied=spec, spec=spec, labels=labels)
        if of in self.model:
            with pytest.raises(Conflict):
                self.store.create(wanted, AT)
        else:
            self.wrote(self.store.create(wanted, AT), True)

    @rule(of=KEYS, spec=SPECS, labels=LABELS, behind=st.integers(0, 1))
    def update(self, of: ObjectKey, spec: Json, labels: dict[str, str], behind: int) -> None:
        present = self.model.get(of)
        if present is None:
            return
        wanted = msgspec.structs.replace(present, spec=spec, labels=labels)
        if behind:
            with pytest.raises(Conflict):
                self.store.update(wanted, present.resource_version - 1)
            return
        written = self.store.update(wanted, present.resource_version)
        assert written.generation == present.generation + (spec != present.spec)
        self.wrote(written, (spec, labels) != (present.spec, present.labels))

    @rule(of=KEYS, status=SPECS)
    def observe(self, of: ObjectKey, status: Json) -> None:
        if (present := self.model.get(of)) is not None:
            written = self.store.update_status(of, present.uid, status)
            assert (written.generation, written.spec) == (present.generation, present.spec)
            self.wrote(written, status != present.status)

    @rule(of=KEYS)
    def remove(self, of: ObjectKey) -> None:
        present = self.model.pop(of, None)
        self.store.remove(of, present.uid if present else "uid")
        self.version += present is not None

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = Store.open(f"{self.directory.name}/objects.db", log_length=self.LOG)

    @rule()
    def watch(self) -> None:
        try:
            changes = self.store.changes_since(self.watched_version)
        except TooOld:
            assert self.watched_version < self.version - self.LOG
            self.watched = {o.key: o for o in self.store.list("ReplicaSet")}
        else:
            for change in changes:
                if change.type is ChangeType.DELETED:
                    del self.watched[change.object.key]
                else:
                    assert (change.object.key in self.watched) == (change.type is ChangeType.MODIFIED)
                    self.watched[change.object.key] = change.object
        self.watched_version = self.store.resource_version()
        assert self.watched == self.model

    @invariant()
    def the_store_is_the_model(self) -> None:
        if hasattr(self, "store"):
            assert {o.key: o for o in self.store.list("ReplicaSet")} == self.model
            assert self.store.resource_version() == self.version


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStoreMachine = StoreMachine.TestCase
