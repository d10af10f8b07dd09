"""Fixtures of the command line, for tests that need whole Pods."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrun.network.netns import OWN
from tests.e2e.conftest import cli, module_cli, rootfs

__all__ = ["cli", "module_cli", "rootfs", "unharmed"]


@pytest.fixture
def unharmed() -> Iterator[None]:
    """The test leaves this process as it was: its network namespace, its descriptors, its children."""
    before = _state()
    yield
    assert _state() == before


def _state() -> tuple[int, list[str], str]:
    links = [(fd, _link(fd)) for fd in sorted(os.listdir("/proc/self/fd"), key=int)]
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return os.stat(OWN).st_ino, [f"{fd} {link}" for fd, link in links if link], children


def _link(fd: str) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # that of the listing itself
        return None
