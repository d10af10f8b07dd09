"""Compressed bytes to plain bytes, chunk by chunk; the kind is read from the first bytes, not from a label.

gzip, bzip2 and xz are Python's own. For zstd the `zstd` program is used, through two pipes.
"""

from __future__ import annotations

import bz2
import lzma
import os
import select
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from pyrun.errors import ImageError, Unsupported

CHUNK = 1 << 20
MAGIC = 6

_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\x00"
_ZSTD = b"\x28\xb5\x2f\xfd"


class _Decompressor(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def compressed(head: bytes) -> bool:
    """Whether these first bytes (MAGIC of them or more) begin a compressed stream."""
    return head.startswith((_GZIP, _BZIP2, _XZ, _ZSTD))


def plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a stream, in chunks of about CHUNK bytes; plain input passes as it is.

    Raises ImageError for damaged or truncated data, Unsupported when the program zstd is needed and missing.
    """
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= MAGIC:
            break
    whole = _chain(head, chunks)
    if head.startswith(_GZIP):
        return _gzip(whole)
    if head.startswith(_BZIP2):
        return _members(whole, bz2.BZ2Decompressor, "bzip2")
    if head.startswith(_XZ):
        return _members(whole, lzma.LZMADecompressor, "xz")
    if head.startswith(_ZSTD):
        return _zstd(whole)
    return whole


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Several members one after the other are one stream (RFC 1952)."""
    engine = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if engine.eof:
                    engine = zlib.decompressobj(wbits=31)
                yield engine.decompress(data, CHUNK)
                data = engine.unused_data if engine.eof else engine.unconsumed_tail
        while not engine.eof:
            rest = engine.decompress(engine.unconsumed_tail, CHUNK)
            if not rest:
                raise ImageError("truncated gzip data")
            yield rest
    except zlib.error as error:
        raise ImageError(f"damaged gzip data: {error}") from error


def _members(chunks: Iterator[bytes], new: Callable[[], _Decompressor], kind: str) -> Iterator[bytes]:
    engine = new()
    try:
        for chunk in chunks:
            data = chunk
            while data or not (engine.eof or engine.needs_input):
                if engine.eof:
                    engine = new()
                yield engine.decompress(data, CHUNK)
                data = engine.unused_data if engine.eof else b""
    except (OSError, lzma.LZMAError) as error:
        raise ImageError(f"damaged {kind} data: {error}") from error
    if not engine.eof:
        raise ImageError(f"truncated {kind} data")


def _zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import subprocess  # most layers do without

    command = ["zstd", "--decompress", "--stdout", "--quiet"]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, bufsize=0)
    except FileNotFoundError as error:
        raise Unsupported(
            "the data is compressed with zstd, and the program zstd is missing", hint="apt-get install zstd"
        ) from error
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield from _pump(chunks, process.stdin.fileno(), process.stdout.fileno())
        process.stdin.close()
        while data := process.stdout.read(CHUNK):
            yield data
        if process.wait() != 0:
            raise ImageError("damaged or truncated zstd data")
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _pump(chunks: Iterator[bytes], sink: int, source: int) -> Iterator[bytes]:
    """Feed a program and yield what it answers meanwhile, so that neither pipe can fill up for good."""
    os.set_blocking(sink, False)
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(sink, select.POLLOUT)
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            ready = {fd for fd, _ in poll.poll()}
            if source in ready:
                data = os.read(source, CHUNK)
                if not data:
                    raise ImageError("damaged zstd data")
                yield data
            elif sink in ready:
                try:
                    rest = rest[os.write(sink, rest) :]
                except BrokenPipeError as error:
                    raise ImageError("damaged zstd data") from error
