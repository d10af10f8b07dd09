"""Resource limits of a container: the wanted ones, cut to what the host allows."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from pyrun.security.limits import WANTED, Rlimit, hard_limits, limits_within

UNLIMITED = resource.RLIM_INFINITY


def test_an_unlimited_host_gives_what_is_wanted() -> None:
    assert limits_within(tuple(Rlimit(w.name, 0, UNLIMITED) for w in WANTED)) == WANTED


def test_a_host_that_tells_nothing_gives_what_is_wanted() -> None:
    assert limits_within(()) == WANTED


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (Rlimit("NOFILE", 100, 1000), Rlimit("NOFILE", 1000, 1000)),
        (Rlimit("NOFILE", 100, 2000000), Rlimit("NOFILE", 1048576, 1048576)),
        (Rlimit("CORE", 0, 0), Rlimit("CORE", 0, 0)),
        (Rlimit("CORE", 5, 10), Rlimit("CORE", 0, 10)),
        (Rlimit("CORE", UNLIMITED, UNLIMITED), Rlimit("CORE", 0, UNLIMITED)),
        (Rlimit("NPROC", 7, 7), Rlimit("NPROC", 7, 7)),
    ],
)
def test_no_limit_is_above_the_hosts_hard_limit(host: Rlimit, expected: Rlimit) -> None:
    assert expected in limits_within((host,))


def test_limits_of_this_process_are_read() -> None:
    limits = {limit.name: (limit.soft, limit.hard) for limit in hard_limits()}
    assert limits["NOFILE"] == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert set(limits) == {"CORE", "NOFILE", "NPROC"}


def test_the_step_sets_limits_and_umask() -> None:
    """In a process of its own: limits once lowered stay low."""
    code = (
        "import os, resource\n"
        "from pyrun.kernel.operation import Results\n"
        "from pyrun.security.limits import Rlimit, SetLimits\n"
        "os.umask(0o077)\n"
        "SetLimits((Rlimit('NOFILE', 50, 60), Rlimit('CORE', 0, 0))).apply(Results())\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE), os.umask(0))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout == "(50, 60) (0, 0) 18\n"
