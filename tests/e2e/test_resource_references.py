"""What containers are told of their resources and of the host's."""

from __future__ import annotations

import os

import pytest

from tests.e2e.conftest import Cli
from tests.e2e.observe import box, output, run_pod, wait_for_end

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")


def test_a_container_is_told_of_requests_and_of_the_host(cli: Cli) -> None:
    references = {
        "OWN": {"resource": "requests.memory", "divisor": "1Mi"},
        "OTHER": {"resource": "requests.cpu", "divisor": "1m", "containerName": "c1"},
        "CPUS": {"resource": "limits.cpu"},
        "MEMORY": {"resource": "limits.memory"},
        "DISK": {"resource": "limits.ephemeral-storage"},
    }
    env = [{"name": name, "valueFrom": {"resourceFieldRef": one}} for name, one in references.items()]
    first = box("env", env=env, resources={"requests": {"memory": "64Mi"}})
    second = box("true", "c1", resources={"requests": {"cpu": "250m"}})
    uid = run_pod(cli, first, second)
    wait_for_end(cli, uid)
    told = dict(line.partition("=")[::2] for line in output(cli, uid, "c0").splitlines())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert (told["OWN"], told["OTHER"]) == ("64", "250")
    assert (told["CPUS"], told["MEMORY"]) == (str(os.sysconf("SC_NPROCESSORS_ONLN")), str(memory))
    assert int(told["DISK"]) > 0
