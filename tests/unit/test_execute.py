"""Finding a container's program, and saying why it cannot be executed."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from pyrun.errors import ProgramError, ProgramNotFound
from pyrun.process.control import StartRecord
from pyrun.process.execute import explain_exec_error, find_program


def make(path: Path, content: bytes = b"#!/bin/sh\n", mode: int = 0o755) -> Path:
    """Make a file that may be executed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def elf(*headers: tuple[int, bytes]) -> bytes:
    """Return a 64-bit ELF file whose program headers are these: (type, content)."""
    count = len(headers)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQ", 2, 62, 1, 0, 64, 0)
    head += struct.pack("<IHHHHHH", 0, 64, 56, count, 0, 0, 0)
    offset, table, contents = 64 + 56 * count, b"", b""
    for kind, content in headers:
        place = offset + len(contents)
        table += struct.pack("<IIQQQQQQ", kind, 4, place, 0, 0, len(content), len(content), 1)
        contents += content
    return head + table + contents


def test_a_name_is_looked_for_in_every_directory_of_path(tmp_path: Path) -> None:
    wanted = make(tmp_path / "b/tool")
    make(tmp_path / "c/tool")
    assert find_program("c0", "tool", f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c") == str(wanted)


def test_what_cannot_be_executed_is_passed_over_if_another_directory_has_it(tmp_path: Path) -> None:
    make(tmp_path / "a/tool", mode=0o644)
    wanted = make(tmp_path / "b/tool")
    assert find_program("c0", "tool", f"{tmp_path}/a:{tmp_path}/b") == str(wanted)


def test_a_path_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = make(tmp_path / "sub/tool")
    monkeypatch.chdir(tmp_path)
    assert find_program("c0", "sub/tool", "/nowhere") == str(wanted)
    assert find_program("c0", str(wanted), "") == str(wanted)


def test_an_empty_part_of_path_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "tool")
    monkeypatch.chdir(tmp_path)
    assert os.path.samefile(find_program("c0", "tool", "/nowhere:"), tmp_path / "tool")


@pytest.mark.parametrize(
    "content",
    [
        b"#!/bin/sh\necho\n",
        b"#! /bin/sh -e\n",
        b"#!/bin/sh",
        b"#!\n",
        b"no program at all",
        b"",
        b"\x7fELF\x01 of 32 bits",
        b"\x7fELF\x02 cut short",
        elf(),
        elf((1, b"code")),
        elf((1, b"code"), (3, b"/bin/sh\0")),
    ],
)
def test_programs_that_exec_may_decide_about(tmp_path: Path, content: bytes) -> None:
    path = make(tmp_path / "tool", content)
    assert find_program("c0", str(path), "") == str(path)


@pytest.mark.parametrize(
    ("content", "interpreter"),
    [
        (b"#!/no/such/sh\n", "/no/such/sh"),
        (b"#! /no/such/sh -e\n", "/no/such/sh"),
        (b"#!/no/such/sh", "/no/such/sh"),
        (b"#!\t/no/such/sh\t-e\n", "/no/such/sh"),
        (b"#!/bin/sh\r\n", r"'/bin/sh\r'"),
        (elf((3, b"/lib/no-such-loader.so\0")), "/lib/no-such-loader.so"),
        (elf((6, b"x" * 40), (1, b"code"), (3, b"/lib/no-such-loader.so\0")), "/lib/no-such-loader.so"),
    ],
)
def test_a_missing_interpreter_is_named(tmp_path: Path, content: bytes, interpreter: str) -> None:
    path = make(tmp_path / "tool", content)
    with pytest.raises(ProgramNotFound) as caught:
        find_program("c0", str(path), "")
    assert str(caught.value) == (
        f'container "c0": program "{path}" has no interpreter: {path} needs {interpreter}, '
        "which does not exist in its root file system"
    )
    assert caught.value.exit_code == 127


@pytest.mark.parametrize("mode", [0o644, 0o000])
def test_a_file_without_an_execute_bit(tmp_path: Path, mode: int) -> None:
    path = make(tmp_path / "tool", mode=mode)
    with pytest.raises(
        ProgramError, match=f"is not executable: {path} has mode {mode:04o} for uid"
    ) as caught:
        find_program("c0", "tool", str(tmp_path))
    assert not isinstance(caught.value, ProgramNotFound)
    assert caught.value.exit_code == 126


@pytest.mark.parametrize(
    ("name", "message", "code"),
    [
        ("tool", "was not found in PATH=/a:/b of its root file system", 127),
        ("/a/tool", "was not found: /a/tool does not exist in its root file system", 127),
        ("/etc", "is not executable: /etc is a directory", 126),
        ("/etc/passwd/tool", "cannot be reached: /etc/passwd/tool: Not a directory", 126),
        ("", "the command is empty", 126),
    ],
)
def test_why_not(name: str, message: str, code: int) -> None:
    with pytest.raises(ProgramError) as caught:
        find_program("c0", name, "/a:/b")
    assert message in str(caught.value)
    assert str(caught.value).startswith('container "c0": ')
    assert caught.value.exit_code == code


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        (StartRecord(errno.ENOENT, "interpreter"), ProgramNotFound, "its interpreter does not exist"),
        (StartRecord(errno.ENOENT, "exec"), ProgramNotFound, "No such file or directory"),
        (StartRecord(errno.ENOEXEC, "exec"), ProgramError, "Exec format error"),
        (StartRecord(errno.EACCES, "exec"), ProgramError, "Permission denied"),
        (StartRecord(errno.E2BIG, "exec"), ProgramError, "Argument list too long"),
    ],
)
def test_what_the_last_hop_reports(record: StartRecord, kind: type[ProgramError], message: str) -> None:
    error = explain_exec_error("c0", "/bin/tool", record)
    assert type(error) is kind
    assert str(error) == f'container "c0": program "/bin/tool" cannot be executed: {message}'
    assert error.hint
