"""Capability sets: the default one, what is added and dropped, what a host must have, bit masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrun.security.capabilities import bounding_set, mask_of
from pyrun.spec.capability import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    effective_set,
    named_set,
    normalise,
    number_of,
)


def test_the_default_set_is_that_of_the_docker_family() -> None:
    assert mask_of(DEFAULT_CAPABILITIES) == 0xA80425FB


def test_numbers_are_the_kernels() -> None:
    assert [number_of(name) for name in ("CHOWN", "SYS_ADMIN", "CHECKPOINT_RESTORE")] == [0, 21, 40]
    assert len(ALL_CAPABILITIES) == len(set(ALL_CAPABILITIES)) == 41


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"not in tuple"):
        number_of("FLY")


@pytest.mark.parametrize("name", ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_net_admin"])
def test_spellings(name: str) -> None:
    assert normalise(name) == "NET_ADMIN"


DEFAULT = set(DEFAULT_CAPABILITIES)
ALL = set(ALL_CAPABILITIES)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), DEFAULT),
        (("SYS_TIME",), (), DEFAULT | {"SYS_TIME"}),
        (("CHOWN",), (), DEFAULT),
        ((), ("CHOWN", "SYS_TIME"), DEFAULT - {"CHOWN"}),
        ((), ("ALL",), set()),
        (("CHOWN", "SYS_TIME"), ("ALL",), {"CHOWN", "SYS_TIME"}),
        (("ALL",), (), ALL),
        (("ALL",), ("SYS_ADMIN",), ALL - {"SYS_ADMIN"}),
        (("ALL",), ("ALL",), ALL),
        (("SYS_TIME",), ("SYS_TIME",), DEFAULT | {"SYS_TIME"}),
        (("cap_sys_time",), ("cap_chown",), DEFAULT - {"CHOWN"} | {"SYS_TIME"}),
    ],
)
def test_effective_set(add: tuple[str, ...], drop: tuple[str, ...], expected: set[str]) -> None:
    result = effective_set(add, drop)
    assert set(result) == expected
    assert list(result) == sorted(result, key=number_of)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), DEFAULT),
        (("SYS_TIME",), ("ALL",), {"SYS_TIME"}),
        (("ALL",), (), set()),
        (("ALL", "SYS_TIME"), ("CHOWN",), {"SYS_TIME"}),
    ],
)
def test_all_asks_for_what_there_is(add: tuple[str, ...], drop: tuple[str, ...], expected: set[str]) -> None:
    assert set(named_set(add, drop)) == expected


def test_the_bounding_set_is_the_kernels() -> None:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd:")
    )
    known = (1 << len(ALL_CAPABILITIES)) - 1
    assert mask_of(bounding_set()) == int(line.split()[1], 16) & known
