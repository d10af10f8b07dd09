"""The event log: what is appended is read, whatever happened to the file in between."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.spec.event import Event, EventType, ObjectReference
from pyrun.spec.pod import Container, Metadata, Pod, PodSpec, PullPolicy
from pyrun.state.events import (
    MAX_MESSAGE,
    WARNINGS,
    EventFollower,
    EventLog,
    Reason,
    about_pod,
    aggregate,
    happened,
)

WEB = ObjectReference(kind="Pod", namespace="default", name="web", uid="u-1")


def event(message: str, time: str = "2026-01-01T00:00:00.000000000Z", reason: str = "Started") -> Event:
    return Event(time=time, reason=reason, message=message, about=WEB)


def messages(log: EventLog) -> list[str]:
    return [found.message for found in log.read()]


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path / "root"))
    assert messages(log) == []
    assert log.append(event("a")) and log.append(event('b "quoted"\nand more'))
    assert list(log.read()) == [event("a"), event('b "quoted"\nand more')]
    assert log.append(event("c"), event("d")) and messages(log)[2:] == ["c", "d"]
    assert log.skipped == 0
    assert os.stat(log.path).st_mode & 0o777 == 0o600


def test_since(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path))
    for second in range(5):
        log.append(event(str(second), f"2026-01-01T00:00:0{second}.000000000Z"))
    assert [e.message for e in log.read("2026-01-01T00:00:03.000000000Z")] == ["3", "4"]


@pytest.mark.parametrize(
    ("before", "after", "read", "skipped"),
    [
        (b"", b'{"time":"2026', ["a", "b"], 1),
        (b"", b"\0\0\0\n", ["a", "b"], 1),
        (b'{"time":"2026-01-01T0', b"", ["a", "b"], 1),
        (b"rubbish\n", b"{}\n[]\n", ["a", "b"], 3),
        (b'{"time":"x","about":3}\n', b"\xff\xfe\n", ["a", "b"], 2),
    ],
)
def test_what_cannot_be_read_is_passed_over_and_counted(
    tmp_path: Path, before: bytes, after: bytes, read: list[str], skipped: int
) -> None:
    log = EventLog(str(tmp_path))
    os.makedirs(log.directory)
    Path(log.path).write_bytes(before)
    log.append(event("a"))
    log.append(event("b"))
    with open(log.path, "ab") as file:
        file.write(after)
    assert (messages(log), log.skipped) == (read, skipped)


@given(st.text())
def test_every_message_comes_back_even_behind_a_cut_line(text: str) -> None:
    from pyrun.state.events import _decode

    try:
        whole = msgspec.json.encode(event(text))
    except UnicodeEncodeError:  # half of a surrogate pair
        return
    assert _decode(whole) == event(text)
    assert _decode(whole[: len(whole) // 2] + whole) == event(text)


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file where the directory should be")
    assert not EventLog(str(tmp_path)).append(event("a"))
    assert not EventLog("/proc/nowhere").append(event("a"))
    full = EventLog(str(tmp_path / "full"))
    os.makedirs(full.directory)
    os.symlink("/dev/full", full.path)
    assert not full.append(event("a"))


def test_a_full_log_is_renamed_and_read_on(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), max_size=1000)
    for number in range(40):
        assert log.append(event(str(number)))
    kept = messages(log)
    assert kept == [str(number) for number in range(40)][-len(kept) :]
    assert 5 < len(kept) < 40
    assert os.path.getsize(log.older) < 1500 and os.path.getsize(log.path) < 1500


def test_a_follower_reads_on_over_renames(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), max_size=1000)
    log.append(event("first"))
    follower = EventFollower(log)
    try:
        assert [e.message for e in follower.read()] == ["first"]
        for number in range(40):
            log.append(event(str(number)))
            assert [e.message for e in follower.read()] == [str(number)]
    finally:
        follower.close()


def test_who_opened_the_log_before_its_renaming_is_heard(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), max_size=10**6)
    log.append(event("a"))
    follower = EventFollower(log)
    try:
        list(follower.read())
        late = os.open(log.path, os.O_WRONLY | os.O_APPEND)
        os.rename(log.path, log.older)
        log.append(event("b"))
        assert [e.message for e in follower.read()] == ["b"]
        os.write(late, msgspec.json.encode(event("late")) + b"\n")
        os.close(late)
        follower.wait(10)
        assert [e.message for e in follower.read()] == ["late"]
    finally:
        follower.close()


def test_following_wakes_up(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), max_size=1000)
    log.append(event("before"))
    batches = log.follow()
    assert [e.message for e in next(batches)] == ["before"]
    writer = threading.Thread(target=lambda: [log.append(event(str(n))) for n in range(500)])
    writer.start()
    found: list[str] = []
    while "499" not in found:
        found += [e.message for e in next(batches)]
    writer.join()
    batches.close()
    assert found == sorted(found, key=int)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path))
    children = []
    for writer in range(4):
        child = os.fork()
        if child == 0:
            for number in range(100):
                log.append(event(f"{writer}-{number}" + "x" * 500))
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert len(messages(log)) == 400 and log.skipped == 0


def test_equal_events_are_counted() -> None:
    found = aggregate([event("a", "1"), event("b", "2"), event("a", "3"), event("a", "4", "Killing")])
    assert [(r.event.message, r.event.reason, r.count, r.first, r.event.time) for r in found] == [
        ("b", "Started", 1, "2", "2"),
        ("a", "Started", 2, "1", "3"),
        ("a", "Killing", 1, "4", "4"),
    ]


def test_an_event_of_now() -> None:
    container = Container(name="c", image="i", image_pull_policy=PullPolicy.NEVER)
    pod = Pod(metadata=Metadata(name="web", namespace="n"), spec=PodSpec(containers=(container,)))
    about = about_pod("u-1", pod, "c")
    assert about == ObjectReference(kind="Pod", namespace="n", name="web", uid="u-1", container="c")
    assert happened(about, Reason.STARTED, "x").type is EventType.NORMAL
    for reason in WARNINGS:
        assert happened(about, str(reason), "x").type is EventType.WARNING
    assert len(happened(about, "Killing", "x" * 5000).message) == MAX_MESSAGE
    assert happened(about, Reason.KILLING, "x").reason == "Killing"
