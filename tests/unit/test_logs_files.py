"""The CRI log format read over rotated files: nothing missed, nothing twice, no more read than needed."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrun.errors import InputError
from pyrun.process.control import Stream
from pyrun.runtime.logfiles import LogFiles, Record, parse
from pyrun.runtime.logs import parse_since

STAMP = b"2026-01-31T10:00:00.000000001Z"


def line(stream: str, tag: str, text: bytes) -> bytes:
    return b" ".join((STAMP, stream.encode(), tag.encode(), text)) + b"\n"


class Writer:
    """Writes a log as the monitor does, and rotates it."""

    def __init__(self, directory: Path, files: int = 5) -> None:
        self.path = directory / "0.log"
        self.files = files
        self.path.write_bytes(b"")

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def rotate(self) -> None:
        for number in range(self.files - 1, 0, -1):
            source = self.path if number == 1 else self.path.with_name(f"0.log.{number - 1}")
            if source.exists():
                source.rename(self.path.with_name(f"0.log.{number}"))
        self.path.write_bytes(b"")


def text(log: LogFiles) -> bytes:
    return b"".join(record.data for record in log.read())


RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.sampled_from(["F", "P"]),
        st.binary(max_size=9),
        st.booleans(),
    ),
    max_size=30,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=RECORDS, tail=st.integers(0, 12))
def test_the_tail_is_the_last_lines_wherever_files_and_streams_are_split(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str, bytes, bool]],
    tail: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyrun.runtime.logfiles.BLOCK", 97)
    writer = Writer(tmp_path_factory.mktemp("log"), files=100)
    written = []
    for stream, tag, data, rotate in records:
        payload = data.replace(b"\n", b".")
        writer.write(line(stream, tag, payload))
        written.append(parse(line(stream, tag, payload)[:-1]))
        if rotate:
            writer.rotate()
    log = LogFiles(str(writer.path))
    log.skip_to_tail(tail)
    assert list(log.read()) == last_lines(written, tail)
    log.close()


def last_lines(records: list[Record], count: int) -> list[Record]:
    """The same said simply: join records to lines, order these by their ends, take the last."""
    lines: list[list[int]] = []
    open_line: dict[Stream, list[int]] = {}
    for index, record in enumerate(records):
        current = open_line.pop(record.stream, None)
        if current is None:
            current = []
            lines.append(current)
        current.append(index)
        if not record.whole:
            open_line[record.stream] = current
    lines.sort(key=lambda line: line[-1])
    wanted = sorted(index for line in lines[len(lines) - min(count, len(lines)) :] for index in line)
    return [records[index] for index in wanted]


def test_parts_are_joined_byte_for_byte(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(line("stdout", "P", b"a\x00\xff ") + line("stdout", "F", b"b") + line("stdout", "P", b"end"))
    log = LogFiles(str(writer.path))
    assert text(log) == b"a\x00\xff b\nend"


def test_a_line_of_no_known_form_is_not_lost() -> None:
    assert parse(b"\x00\x00 rubbish") == Record(b"", Stream.STDERR, True, b"\x00\x00 rubbish\n")


def test_following_goes_on_over_many_rotations(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    log = LogFiles(str(writer.path))
    writer.write(line("stdout", "F", b"1"))
    assert text(log) == b"1\n"
    writer.write(line("stdout", "F", b"2"))
    writer.rotate()
    writer.write(line("stdout", "F", b"3"))
    writer.rotate()
    writer.rotate()
    writer.write(line("stdout", "F", b"4"))
    assert text(log) == b"2\n3\n4\n"
    assert text(log) == b""
    writer.rotate()
    assert text(log) == b""
    writer.write(line("stdout", "F", b"5"))
    assert text(log) == b"5\n"


def test_a_reader_left_behind_goes_on_with_the_oldest_file(tmp_path: Path) -> None:
    writer = Writer(tmp_path, files=2)
    log = LogFiles(str(writer.path))
    for number in b"123":
        writer.write(line("stdout", "F", bytes([number])))
        writer.rotate()
    writer.write(line("stdout", "F", b"4"))
    assert text(log) == b"1\n3\n4\n"


def test_half_a_record_waits_for_its_end_and_may_be_cut_off(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    whole = line("stdout", "F", b"text")
    writer.write(whole + whole[:20])
    log = LogFiles(str(writer.path))
    assert text(log) == b"text\n"
    os.truncate(writer.path, len(whole))
    writer.write(line("stdout", "F", b"other"))
    assert text(log) == b"other\n"
    tail = LogFiles(str(writer.path))
    writer.write(whole[:20])
    tail.skip_to_tail(1)
    assert text(tail) == b"other\n"


def test_a_log_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    log = LogFiles(str(tmp_path / "0.log"))
    log.skip_to_tail(3)
    assert text(log) == b""
    Writer(tmp_path).write(line("stdout", "F", b"x"))
    assert text(log) == b"x\n"


def test_the_tail_of_a_huge_log_is_read_without_reading_it(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    os.truncate(writer.path, 1 << 30)  # a hole
    writer.write(b"\n" + b"".join(line("stdout", "F", b"%d" % n) for n in range(100)))
    before = resource.getrusage(resource.RUSAGE_SELF)
    log = LogFiles(str(writer.path))
    log.skip_to_tail(10)
    assert text(log) == b"".join(b"%d\n" % n for n in range(90, 100))
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.1


def test_one_stream_far_back_does_not_cost_the_whole_log(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    os.truncate(writer.path, 1 << 30)
    filler = line("stderr", "F", b"e" * 10000)
    writer.write(b"\n" + line("stdout", "P", b"begin") + filler * 300 + line("stdout", "P", b"end"))
    log = LogFiles(str(writer.path))
    log.skip_to_tail(1)
    assert text(log) == b"end"  # its beginning lies further back than is looked for
    log.close()


NOW = 1_800_000_000_000_000_000


@pytest.mark.parametrize(
    ("given_text", "time"),
    [
        ("10s", NOW - 10 * 10**9),
        ("10", NOW - 10 * 10**9),
        ("1h30m", NOW - 5400 * 10**9),
        ("1.5m", NOW - 90 * 10**9),
        ("250ms", NOW - 250 * 10**6),
        ("2026-01-31T10:00:00Z", 1769853600 * 10**9),
        ("2026-01-31t10:00:00.000000001z", 1769853600 * 10**9 + 1),
        ("2026-01-31T12:00:00.5+02:00", 1769853600 * 10**9 + 500_000_000),
    ],
)
def test_since_is_a_duration_or_a_time(given_text: str, time: int) -> None:
    assert parse_since(given_text, NOW) == time


@pytest.mark.parametrize("wrong", ["", "yesterday", "1d", "-5s", "2026-01-31", "2026-13-31T10:00:00Z"])
def test_anything_else_is_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(InputError, match="neither a duration nor a time") as caught:
        parse_since(wrong, NOW)
    assert "1h30m" in (caught.value.hint or "")
