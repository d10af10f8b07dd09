"""Compressed streams, cut into chunks of every size."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrun.errors import ImageError, Unsupported
from pyrun.images.compression import compressed, plain

DATA = bytes(range(256)) * 40 + b"\0" * 300_000


def zstd(data: bytes) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed (Debian package zstd)")
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


def twice(squeeze: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def both(data: bytes) -> bytes:
        return squeeze(data[:999]) + squeeze(data[999:])

    return both


ALL = [gzip.compress, bz2.compress, lzma.compress, zstd]


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("squeeze", [*ALL, *(twice(one) for one in ALL), bytes])
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_round_trip(squeeze: Callable[[bytes], bytes], size: int) -> None:
    packed = squeeze(DATA)
    if size == 1:
        packed = squeeze(DATA[:2000])
    assert b"".join(plain(cut(packed, size))) == (DATA[:2000] if size == 1 else DATA)
    assert compressed(packed) is (squeeze is not bytes)


@pytest.mark.parametrize("squeeze", ALL)
def test_truncated_and_damaged(squeeze: Callable[[bytes], bytes]) -> None:
    packed = squeeze(bytes(range(256)) * 40)
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        b"".join(plain(cut(packed[:-9], 100)))
    broken = packed[:20] + bytes(byte ^ 0xFF for byte in packed[20:60]) + packed[60:]
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        b"".join(plain(cut(broken, 100)))


def test_a_bomb_comes_in_small_chunks() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    assert max(len(chunk) for chunk in plain(iter([bomb]))) <= 1 << 20


def test_zstd_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = zstd(DATA)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unsupported, match="program zstd is missing") as caught:
        b"".join(plain(iter([packed])))
    assert caught.value.hint == "apt-get install zstd"


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(min_value=1, max_value=50))
def test_plain_data_passes_as_it_is(data: bytes, size: int) -> None:
    if not compressed(data):
        assert b"".join(plain(cut(data, size))) == data
