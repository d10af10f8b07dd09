"""Address leases: exclusive without a lock, attributable, given back."""

from __future__ import annotations

import os
import uuid
from multiprocessing import get_context
from pathlib import Path

import msgspec
import pytest

from pyrun.errors import NetworkError
from pyrun.kernel.operation import Results
from pyrun.network.leases import leases, leases_of, remove_leases, take_lease
from pyrun.network.operations import ConnectPod, EnsureNetwork, LeaseAddress
from pyrun.spec.network import NetworkConfig


def config_at(directory: Path, subnet: str = "10.137.0.0/16") -> NetworkConfig:
    return NetworkConfig.of("pyrun", str(directory), subnet=subnet)


def test_a_lease_says_whose_it_is(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    address = take_lease(config, "uid-1")
    assert os.readlink(f"{config.lease_directory}/{address}") == "uid-1"
    assert leases(config) == [(address, "uid-1")]
    assert leases_of(config, "uid-2") == []


def test_giving_back_is_idempotent_and_touches_no_other_pod(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    remove_leases(config, "uid-1")
    mine, again, other = (take_lease(config, uid) for uid in ("uid-1", "uid-1", "uid-2"))
    assert len({mine, again, other}) == 3
    remove_leases(config, "uid-1")
    remove_leases(config, "uid-1")
    assert leases(config) == [(other, "uid-2")]


def test_network_gateway_and_broadcast_are_never_leased_and_exhaustion_is_said(tmp_path: Path) -> None:
    config = config_at(tmp_path, "192.0.2.8/29")
    taken = {take_lease(config, f"uid-{n}") for n in range(5)}
    assert taken == {f"192.0.2.{n}" for n in range(10, 15)}
    with pytest.raises(NetworkError, match=r"subnet 192\.0\.2\.8/29 is exhausted: its 5 addresses") as caught:
        take_lease(config, "uid-6")
    assert "PYRUN_SUBNET" in (caught.value.hint or "")
    remove_leases(config, "uid-3")
    assert take_lease(config, "uid-6") in taken


def test_an_address_is_not_reused_at_once(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    seen = set()
    for _ in range(20):
        uid = str(uuid.uuid4())
        seen.add(take_lease(config, uid))
        remove_leases(config, uid)
    assert len(seen) >= 18


def _take(config: NetworkConfig, uid: str) -> tuple[str, str]:
    return uid, take_lease(config, uid)


def test_parallel_leases_are_unique(tmp_path: Path) -> None:
    config = config_at(tmp_path, "192.0.2.0/27")  # 29 addresses for 20 Pods: they meet
    with get_context("fork").Pool(20) as pool:
        taken = pool.starmap(_take, [(config, f"uid-{n}") for n in range(20)], chunksize=1)
    assert len({address for _, address in taken}) == 20
    assert sorted((address, uid) for uid, address in taken) == sorted(leases(config))


def test_planning_is_pure_and_survives_the_journal(tmp_path: Path) -> None:
    config = config_at(tmp_path / "absent")
    uid = "1a2b3c4d-5e6f-4000-8000-000000000000"
    operations = (LeaseAddress(config, uid), EnsureNetwork(config, uid), ConnectPod(config, uid))
    for operation in operations:
        line = msgspec.json.encode(operation)
        assert msgspec.json.decode(line, type=LeaseAddress | EnsureNetwork | ConnectPod) == operation
    descriptions = [operation.describe() for operation in operations]
    assert "<address from 10.137.0.0/16>" in descriptions[0]
    assert "masquerade" in descriptions[1]
    assert "ip link add pr1a2b3c4d5e6f4 type veth peer name eth0 netns <pause.pidfd>" in descriptions[2]
    assert not (tmp_path / "absent").exists()


def test_the_lease_is_the_result(tmp_path: Path) -> None:
    config, results = config_at(tmp_path), Results()
    LeaseAddress(config, "uid-1").apply(results)
    assert leases(config) == [(results.text("address"), "uid-1")]
