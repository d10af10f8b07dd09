"""The store when things go wrong: damage, other writers, SIGKILL in a commit, a fork, a full disk.

Nothing is ever lost that was acknowledged, and nothing is deleted because it could not be read.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from pyrun.errors import Busy, Conflict, StateError
from pyrun.spec.object import DesiredObject, Json, ObjectKey, StoredObject
from pyrun.store import database
from pyrun.store.apply import scale
from pyrun.store.convert import json_value
from pyrun.store.objects import Store

SLOW = float(os.environ.get("PYRUN_TEST_SLOW", "1"))
AT = "2026-01-01T00:00:00Z"


def key(name: str = "web") -> ObjectKey:
    return ObjectKey(group="apps", kind="ReplicaSet", namespace="default", name=name)


def desired(name: str = "web", padding: int = 0) -> DesiredObject:
    spec = msgspec.json.encode({"replicas": 0, "padding": "x" * padding})
    return DesiredObject(key=key(name), version="v1", applied=Json(b"{}"), spec=Json(spec))


def replicas(stored: StoredObject) -> int:
    spec = json_value(stored.spec)
    assert isinstance(spec, dict)
    assert isinstance(spec["replicas"], int)
    return spec["replicas"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/store/objects.db"


@pytest.fixture
def filled(path: str) -> Path:
    """A store of many pages that nobody has open."""
    with Store.open(path) as store:
        for number in range(40):
            store.create(desired(f"set-{number}", padding=3000), AT)
    return Path(path)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def cut_in_its_header(file: Path) -> None:
    os.truncate(file, 50)


def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def garbage(file: Path) -> None:
    file.write_bytes(b"this is no database, it is a sentence\n" * 200)


def overwritten(file: Path) -> None:
    """Every page but the first is noise."""
    data = file.read_bytes()
    file.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


def another_program(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def another_program_with_our_version(file: Path) -> None:
    another_program(file)
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 1")
    connection.close()


DAMAGES = (
    (emptied, "is damaged: it is truncated"),
    (cut_in_its_header, "is damaged: it is truncated"),
    (halved, "is damaged: database disk image is malformed"),
    (garbage, "is damaged: file is not a database"),
    (overwritten, "is damaged: "),
    (another_program, "is damaged: it was not made by pyrun"),
    (another_program_with_our_version, "is damaged: "),
)


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_damaged_store_is_an_error_and_stays_as_it_is(
    filled: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(filled)
    before = filled.read_bytes()
    with pytest.raises(StateError) as caught:
        Store.open(str(filled))
    assert str(caught.value).startswith(f"the store {filled} {message}")
    assert caught.value.hint is not None
    assert "running Pods are not touched" in caught.value.hint
    assert f"sqlite3 {filled} .recover" in caught.value.hint
    assert filled.read_bytes() == before


@pytest.mark.parametrize("damage", [emptied, Path.unlink])
def test_the_write_ahead_log_of_a_lost_file_is_kept(path: str, damage: Callable[[Path], None]) -> None:
    """SQLite would remove it, or take it for that of a new file."""
    reader, writer = os.pipe()

    def write() -> None:
        store = Store.open(path)
        store.create(desired(), AT)
        os.write(writer, b".")
        signal.pause()

    with child(write):
        os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    damage(Path(path))
    log = Path(f"{path}-wal").read_bytes()
    with pytest.raises(StateError, match=r"is damaged: it (is truncated|has gone, and .*-wal has not)"):
        Store.open(path)
    assert Path(f"{path}-wal").read_bytes() == log != b""


def test_damage_in_the_log_alone_is_found_by_verify_and_by_a_write(filled: Path) -> None:
    with sqlite3.connect(filled) as raw:
        (root,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'changes'").fetchone()
    raw.close()
    with filled.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 4096)
    with Store.open(str(filled)) as store:
        assert len(store.list("ReplicaSet")) == 40, "what is desired can still be read"
        with pytest.raises(StateError, match="is damaged"):
            store.verify()
        with pytest.raises(StateError, match="is damaged"):
            store.create(desired(), AT)
        assert len(store.list("ReplicaSet")) == 40


def test_an_object_that_cannot_be_decoded_is_an_error(filled: Path) -> None:
    with sqlite3.connect(filled) as raw:
        raw.execute("UPDATE objects SET body = '{\"key\": 1}' WHERE name = 'set-7'")
    raw.close()
    with Store.open(str(filled)) as store:
        with pytest.raises(StateError, match=r"an object of the store .* cannot be read: ") as caught:
            store.list("ReplicaSet")
        assert caught.value.hint == "it is of another version of pyrun, or damaged; nothing was deleted"
        assert store.get(key("set-8"))


def test_a_store_of_a_newer_pyrun_is_refused(filled: Path) -> None:
    with sqlite3.connect(filled) as raw:
        raw.execute("PRAGMA user_version = 2")
    raw.close()
    with pytest.raises(StateError, match="has format 2, and this pyrun knows up to 1") as caught:
        Store.open(str(filled))
    assert caught.value.hint == "use the newer pyrun that has written it"


def test_a_place_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"cannot make the store .*: ") as caught:
        Store.open(f"{tmp_path}/file/store/objects.db")
    assert caught.value.hint == "check the free space and the rights of its directory"
    (tmp_path / "store" / "objects.db").mkdir(parents=True)
    with pytest.raises(StateError, match=r"cannot use the store .*: unable to open database file"):
        Store.open(f"{tmp_path}/store/objects.db")


def test_a_making_that_was_killed_is_made_again(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    for leftover in (".new", ".new-wal", ".new-shm"):
        Path(path + leftover).write_bytes(b"half made")
    with Store.open(path) as store:
        store.create(desired(), AT)
    assert sorted(os.listdir(os.path.dirname(path))) == ["lock", "objects.db", "objects.db-changed"]


def test_a_store_that_another_process_has_just_made_is_not_made_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def others_were_faster(*_: object) -> Iterator[None]:
        monkeypatch.undo()
        with Store.open(path) as store:
            store.create(desired(), AT)
        yield

    monkeypatch.setattr(database, "locked", others_were_faster)
    with Store.open(path) as store:
        assert store.resource_version() == 1


@contextmanager
def child(work: Callable[[], None]) -> Iterator[int]:
    """A forked process that does some work; killed at the end if it has not ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        with suppress(ChildProcessError):  # it has been waited for
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def ended_well(pid: int) -> bool:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


COUNT_UP = """
import sys
from tests.unit.test_store_faults import *
with Store.open(sys.argv[1]) as store:
    for _ in range(int(sys.argv[2])):
        increment(store)
"""
CREATE_ONE = """
import sys
from tests.unit.test_store_faults import *
with Store.open(sys.argv[1]) as store:
    store.create(desired(sys.argv[2]), AT)
"""


def increment(store: Store) -> None:
    """Add one replica by optimistic concurrency: read, change, repeat when somebody else was faster."""
    while True:
        present = store.get(key())
        spec = Json(msgspec.json.encode({"replicas": replicas(present) + 1}))
        with suppress(Conflict):
            store.update(msgspec.structs.replace(present, spec=spec), present.resource_version)
            return


def test_no_update_of_concurrent_processes_is_lost(path: str) -> None:
    with Store.open(path) as store:
        store.create(desired(), AT)
        processes = [
            subprocess.Popen([sys.executable, "-c", COUNT_UP, path, "100"], stderr=subprocess.PIPE)
            for _ in range(4)
        ]
        errors = [process.communicate(timeout=120 * SLOW)[1] for process in processes]
        assert errors == [b""] * 4
        counted = store.get(key())
        assert (replicas(counted), counted.generation, counted.resource_version) == (400, 401, 401)
        versions = [change.object.resource_version for change in store.changes_since(0)]
        assert versions == list(range(1, 402))
        store.verify()


def test_processes_that_open_a_store_that_is_not_there_make_one(path: str) -> None:
    """Each creates an object at once; none of them is in a database that another one's has replaced."""
    processes = [
        subprocess.Popen([sys.executable, "-c", CREATE_ONE, path, f"set-{n}"], stderr=subprocess.PIPE)
        for n in range(5)
    ]
    assert [process.communicate(timeout=120 * SLOW)[1] for process in processes] == [b""] * 5
    with Store.open(path) as store:
        assert [stored.key for stored in store.list("ReplicaSet")] == [key(f"set-{n}") for n in range(5)]


def test_only_one_of_two_creations_of_a_name_succeeds_and_readers_do_not_wait(path: str) -> None:
    with Store.open(path, timeout=0.05) as one, Store.open(path, timeout=0.05) as two:
        one.create(desired("other"), AT)

        def meanwhile(present: StoredObject) -> StoredObject:
            assert two.get(key("other")) == present, "a reader sees what was committed last"
            with pytest.raises(Busy, match="is being written by another process"):
                two.create(desired(), AT)
            return present

        one.edit(key("other"), meanwhile)
        two.create(desired(), AT)
        with pytest.raises(Conflict):
            one.create(desired(), AT)


@pytest.mark.parametrize("seen", [1, 2, 3, 10, 30, 31, 100, 300])
def test_a_writer_that_is_killed_loses_nothing_that_it_has_acknowledged(path: str, seen: int) -> None:
    """The child counts up, in the object and then in a pipe; it is killed wherever it is by then."""
    reader, writer = os.pipe()
    with Store.open(path) as store:
        store.create(desired(padding=20_000), AT)

    def count() -> None:
        with Store.open(path) as store:
            while True:
                number = replicas(store.get(key())) + 1
                scale(store, key(), number)
                os.write(writer, b".")

    with child(count) as pid:
        os.close(writer)
        acknowledged = 0
        while acknowledged < seen:
            acknowledged += len(os.read(reader, seen - acknowledged))
        os.kill(pid, signal.SIGKILL)
        while data := os.read(reader, 65536):
            acknowledged += len(data)
        os.close(reader)
        os.waitpid(pid, 0)
    with Store.open(path) as store:
        stored = store.get(key())
        store.verify()
        assert replicas(stored) - acknowledged in (0, 1)
        assert stored.generation == stored.resource_version == replicas(stored) + 1
        assert store.changes_since(stored.resource_version - 1)[0].object == stored
        assert scale(store, key(), 0).resource_version == stored.resource_version + 1


def descriptors(path: str) -> list[str]:
    """What this process has open of a store."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(name for name in found if name.startswith(path))


def test_a_forked_child_may_not_use_the_connection_and_closing_it_there_does_nothing(path: str) -> None:
    with Store.open(path) as store:
        store.create(desired(), AT)

        def misuse() -> None:
            for use in (store.resource_version, lambda: store.create(desired("child"), AT), store.verify):
                with pytest.raises(RuntimeError, match=f"was opened by process {os.getppid()}"):
                    use()
            with pytest.raises(RuntimeError, match=f"open since before the fork of process {os.getpid()}"):
                Store.open(path)
            held = descriptors(path)
            store.close()
            assert len(held) >= 2
            assert descriptors(path) == held

        with child(misuse) as pid:
            assert ended_well(pid)
        assert scale(store, key(), 3).resource_version == 2
        assert len(store.list("ReplicaSet")) == 1


def test_one_process_may_open_it_twice_and_a_child_when_its_parent_has_closed_it(path: str) -> None:
    with Store.open(path) as one, Store.open(path) as two:
        one.create(desired(), AT)
        assert two.get(key()) == one.get(key())

    def use() -> None:
        with Store.open(path) as store:
            scale(store, key(), 2)

    with child(use) as pid:
        assert ended_well(pid)
    with Store.open(path) as store:
        assert replicas(store.get(key())) == 2


FULL = """
import os, sys
from pyrun.errors import StateError
from pyrun.kernel.syscalls import *
from tests.unit.test_store_faults import *
directory = sys.argv[1]
unshare(CLONE_NEWNS)
mount_setattr(AT_FDCWD, '/', AT_RECURSIVE, propagation=MS_PRIVATE)
mount('tmpfs', directory, 'tmpfs', 0, 'size=512k')
store = Store.open(f'{directory}/objects.db')
made = 0
try:
    while True:
        store.create(desired(f'set-{made}', padding=3000), AT)
        made += 1
except StateError as error:
    print(error.sentence())
assert len(store.list('ReplicaSet')) == made > 10
assert store.resource_version() == made
store.verify()
try: Store.open(f'{directory}/other/objects.db')
except StateError as error: print(error)
mount('tmpfs', directory, 'tmpfs', MS_REMOUNT, 'size=8m')
store.create(desired(f'set-{made}', padding=3000), AT)
store.close()
with Store.open(f'{directory}/objects.db') as store:
    store.verify()
    assert len(store.list('ReplicaSet')) == made + 1
"""


@pytest.mark.requires("namespaces")
def test_a_full_disk_is_said_and_what_was_stored_is_unharmed(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first == (
        f"cannot write the store {tmp_path}/objects.db: no space left on device; "
        "free some space on its file system; what was stored before is unharmed"
    )
    assert "no space left on device" in second.lower()
