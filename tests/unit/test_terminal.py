"""The keys that detach from a terminal, and its size and mode."""

from __future__ import annotations

import os
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.process.terminal import set_window_size
from pyrun.runtime.terminal import DETACH_KEYS, DetachScanner, raw_mode, window_size

P, Q = b"\x10", b"\x11"


def test_detach_keys_are_ctrl_p_ctrl_q() -> None:
    assert DETACH_KEYS == P + Q


@pytest.mark.parametrize(
    ("typed", "passed", "found"),
    [
        ([b"abc"], b"abc", False),
        ([P + Q], b"", True),
        ([P, Q], b"", True),
        ([b"a" + P, Q + b"b"], b"a", True),
        ([b"abc" + P + Q + b"def"], b"abc", True),
        ([P, b"x"], P + b"x", False),
        ([P, P, Q], P, True),
        ([P + P + Q], P, True),
        ([Q, P], Q, False),
        ([Q + P + b"x" + Q], Q + P + b"x" + Q, False),
        ([P], b"", False),
    ],
)
def test_scanner(typed: list[bytes], passed: bytes, found: bool) -> None:
    scanner = DetachScanner()
    results = [scanner.feed(data) for data in typed]
    assert b"".join(data for data, _ in results) == passed
    assert results[-1][1] is found


@given(st.lists(st.lists(st.sampled_from([P, Q, b"x"]), max_size=4).map(b"".join)))
def test_the_keys_are_found_however_what_is_typed_is_cut(pieces: list[bytes]) -> None:
    scanner = DetachScanner()
    passed, typed, found = b"", b"".join(pieces), False
    for piece in pieces:
        data, found = scanner.feed(piece)
        passed += data
        if found:
            break
    before, keys, _ = typed.partition(DETACH_KEYS)
    assert found == bool(keys)
    # A key that may begin them is held back until the next one is known.
    assert passed == before or (not found and passed + P == before)


def test_window_size_of_a_terminal_and_of_something_else() -> None:
    master, slave = os.openpty()
    try:
        set_window_size(master, (33, 77))
        assert window_size(slave) == (33, 77)
    finally:
        os.close(master)
        os.close(slave)
    with open(os.devnull, "rb") as null:
        assert window_size(null.fileno()) is None


def test_raw_mode_is_left_as_it_was_found() -> None:
    master, slave = os.openpty()
    try:
        before = termios.tcgetattr(slave)
        with pytest.raises(KeyError), raw_mode(slave):
            assert not termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
            raise KeyError
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_raw_mode_of_something_else_is_nothing() -> None:
    with open(os.devnull, "rb") as null, raw_mode(null.fileno()), raw_mode(-1):
        pass
