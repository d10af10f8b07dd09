"""NetworkConfig: names that the kernel accepts and that instances do not share, subnets that hold Pods."""

from __future__ import annotations

import re
import uuid

import pytest

from pyrun.errors import InputError
from pyrun.spec.network import DEFAULT_SUBNET, NetworkConfig, mac_of, parse_subnet


def test_the_default_instance() -> None:
    config = NetworkConfig.of("pyrun", "/run/pyrun")
    assert (config.bridge, config.table, config.subnet) == ("pyrun0", "pyrun", DEFAULT_SUBNET)
    assert config.gateway == "10.137.0.1"
    assert config.prefix_length == 16
    assert config.lease_directory == "/run/pyrun/network/leases"
    assert config.lock_file == "/run/pyrun/network/lock"


@pytest.mark.parametrize("other", ["podman", "a b/c", "ä", "x" * 300, "0", "test-1", "test-2"])
def test_every_instance_has_names_of_its_own_that_the_kernel_accepts(other: str) -> None:
    default, config = NetworkConfig.of("pyrun", "/s"), NetworkConfig.of(other, "/s")
    uid = str(uuid.uuid4())
    for name in (config.bridge, config.link_of(uid)):
        assert re.fullmatch(r"[a-z0-9-]{1,15}", name)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", config.table)
    assert config.bridge != default.bridge
    assert config.table != default.table
    assert not config.link_of(uid).startswith(default.link_prefix)
    assert not default.link_of(uid).startswith(config.link_prefix)


def test_similar_instances_differ() -> None:
    first, second = NetworkConfig.of("test-1", "/s"), NetworkConfig.of("test1", "/s")
    assert (first.bridge, first.table) != (second.bridge, second.table)
    assert first.bridge != second.bridge


def test_link_names_come_from_the_uid() -> None:
    config = NetworkConfig.of("pyrun", "/s")
    assert config.link_of("1a2b3c4d-5e6f-4000-8000-000000000000") == "pr1a2b3c4d5e6f4"
    assert config.link_of("sandbox-one") != config.link_of("sandbox-two")


@pytest.mark.parametrize("good", ["10.0.0.0/8", "192.0.2.0/30", "10.137.0.0/255.255.0.0"])
def test_subnets_that_hold_pods(good: str) -> None:
    assert "/" in parse_subnet(good)
    assert parse_subnet("10.137.0.0/255.255.0.0") == "10.137.0.0/16"


@pytest.mark.parametrize(
    "bad",
    ["", "10.137.0.0", "10.137.0.1/16", "10.137.0.0/31", "10.0.0.0/7", "fd00::/64", "127.0.0.0/16",
     "224.0.0.0/8", "169.254.0.0/16", "0.0.0.0/0", "240.0.0.0/16", "x", "10.137.0.0/33"],
)  # fmt: skip
def test_subnets_that_do_not(bad: str) -> None:
    with pytest.raises(InputError) as caught:
        NetworkConfig.of("pyrun", "/s", subnet=bad)
    assert repr(bad) in str(caught.value)
    assert "PYRUN_SUBNET" in (caught.value.hint or "")


def test_mac_addresses_are_local_unicast_and_follow_the_address() -> None:
    assert mac_of("10.137.0.5") == "72:70:0a:89:00:05"
    assert int(mac_of("10.137.0.5")[:2], 16) & 0b11 == 0b10
