"""Rights of a container: capabilities, users and groups, no_new_privs, privileged, read-only root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyrun.process.programs import program_path
from pyrun.security.capabilities import bounding_set, mask_of
from pyrun.spec.capability import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import (
    answers,
    box,
    init_of,
    manifest,
    mounts_of,
    probe,
    run_pod,
    status_field,
    wait_for_output,
)

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def capability_sets(cli: Cli, **context: Any) -> dict[str, int]:
    """Run a container with a securityContext and return its program's capability sets as masks."""
    # A second exec, by the shell: what counts is what a program gets, not what pyrun has set.
    uid = run_pod(cli, box("sleep 1000; true", securityContext=context))
    init = init_of(cli, uid)
    return {name: int(status_field(init, name), 16) for name in SETS}


def test_the_default_set_is_that_of_the_docker_family(cli: Cli) -> None:
    expected = mask_of(DEFAULT_CAPABILITIES)
    assert expected == 0xA80425FB
    assert capability_sets(cli) == {
        "CapInh": 0,
        "CapPrm": expected,
        "CapEff": expected,
        "CapBnd": expected,
        "CapAmb": 0,
    }


HELD = mask_of(bounding_set())


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["NET_ADMIN"], [], mask_of((*DEFAULT_CAPABILITIES, "NET_ADMIN"))),
        (["CAP_NET_ADMIN"], [], mask_of((*DEFAULT_CAPABILITIES, "NET_ADMIN"))),
        ([], ["MKNOD", "NET_RAW"], mask_of(DEFAULT_CAPABILITIES) & ~mask_of(("MKNOD", "NET_RAW"))),
        ([], ["ALL"], 0),
        (["NET_BIND_SERVICE"], ["ALL"], mask_of(("NET_BIND_SERVICE",))),
        (["ALL"], [], HELD),
        (["ALL"], ["SYS_ADMIN"], HELD & ~mask_of(("SYS_ADMIN",))),
    ],
)
def test_capabilities_are_added_and_dropped(cli: Cli, add: list[str], drop: list[str], expected: int) -> None:
    sets = capability_sets(cli, capabilities={"add": add, "drop": drop})
    assert (sets["CapEff"], sets["CapPrm"], sets["CapBnd"]) == (expected,) * 3


def test_a_capability_this_host_lacks_is_refused_by_name(cli: Cli) -> None:
    lacking = sorted(set(ALL_CAPABILITIES) - set(bounding_set()))
    if not lacking:
        command = ["setpriv", "--bounding-set=-audit_control", *cli.command]
        lacking = ["AUDIT_CONTROL"]
    else:
        command = cli.command
    text = manifest(cli, box("true", securityContext={"capabilities": {"add": lacking[:1]}}))
    result = subprocess.run(
        [*command, "pod", "create", "-f", "-"],
        input=text,
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert 'container "c0"' in result.stderr
    assert lacking[0] in result.stderr
    assert not Path(cli.layout.pods).exists() or not os.listdir(cli.layout.pods)


def test_inheritable_capabilities_of_the_caller_go_nowhere(cli: Cli) -> None:
    """CVE-2022-24769: a user who is not root could use them through files that have some."""
    result = subprocess.run(
        ["setpriv", "--inh-caps=+net_raw,+chown", *cli.command, "pod", "create", "-f", "-"],
        input=manifest(cli, box("exec sleep 1000")),
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    init = init_of(cli, result.stdout.split()[1])
    assert int(status_field(init, "CapInh"), 16) == 0


def test_privileged(cli: Cli) -> None:
    """All capabilities of the host, its devices, and nothing hidden or read-only."""
    look = probe(
        sysctl="cat /proc/sys/net/ipv4/ip_forward > /proc/sys/net/ipv4/ip_forward && echo written",
        device="test -c /dev/kmsg && echo there",
        keys="wc -c < /proc/interrupts",
    )
    uid = run_pod(cli, box(f"{look}; exec sleep 1000", securityContext={"privileged": True}))
    seen = answers(cli, uid)
    init = init_of(cli, uid)
    assert int(status_field(init, "CapEff"), 16) == HELD
    assert int(status_field(init, "CapBnd"), 16) == HELD
    assert seen["sysctl"] == "written"
    assert seen["device"] == ("there" if Path("/dev/kmsg").exists() else "")
    assert int(seen["keys"]) > 0
    mounts = mounts_of(init)
    assert "ro" not in mounts["/sys"][1]
    assert not [point for point in mounts if point.startswith("/proc/")]
    assert status_field(init, "NoNewPrivs") == "0"


@pytest.mark.parametrize(("allowed", "expected"), [(False, "1"), (True, "0"), (None, "0")])
def test_no_new_privs(cli: Cli, allowed: bool | None, expected: str) -> None:
    context = {} if allowed is None else {"allowPrivilegeEscalation": allowed}
    uid = run_pod(cli, box("exec sleep 1000", securityContext=context))
    assert status_field(init_of(cli, uid), "NoNewPrivs") == expected


@pytest.mark.parametrize(("allowed", "effective"), [(True, "0"), (False, "33")])
def test_a_setuid_program_gains_rights_only_where_allowed(
    cli: Cli, tmp_path: Path, allowed: bool, effective: str
) -> None:
    """Any static program does that goes on running; busybox gives the rights of a setuid bit away by itself."""
    directory = tmp_path / "bin"
    directory.mkdir()
    shutil.copy(program_path("pause"), directory / "setuid")
    (directory / "setuid").chmod(0o4755)
    container = box(
        "exec /v/setuid",
        securityContext={"runAsUser": 33, "allowPrivilegeEscalation": allowed},
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
    )
    uid = run_pod(cli, container, volumes=[{"name": "v", "hostPath": {"path": str(directory)}}])
    init = init_of(cli, uid)
    eventually(lambda: status_field(init, "Name") == "pause")
    assert status_field(init, "Uid").split()[:2] == ["33", effective]


def test_a_user_who_is_not_root_has_no_capabilities(cli: Cli) -> None:
    sets = capability_sets(cli, runAsUser=1000)
    assert (sets["CapEff"], sets["CapPrm"], sets["CapInh"], sets["CapAmb"]) == (0, 0, 0, 0)
    assert sets["CapBnd"] == mask_of(DEFAULT_CAPABILITIES)


def test_a_user_who_is_not_root_gets_no_capabilities_even_if_privileged(cli: Cli) -> None:
    sets = capability_sets(cli, runAsUser=1000, privileged=True)
    assert (sets["CapEff"], sets["CapPrm"]) == (0, 0)


WHO = "id; grep ^Groups /proc/self/status; echo $HOME; pwd; echo x > /dev/stdout; echo end"


def identity(cli: Cli, **context: Any) -> list[str]:
    """Return what a container with this securityContext sees of itself."""
    uid = run_pod(cli, box(WHO, securityContext=context))
    return wait_for_output(cli, uid, "end").splitlines()


def test_root_by_default_with_the_groups_of_the_image(cli: Cli) -> None:
    who, groups, home, *_ = identity(cli)
    assert who.startswith("uid=0(root) gid=0(root)")
    assert groups.split()[1:] == ["45"]
    assert home == "/root"


def test_a_user_of_the_image_has_its_groups_and_home(cli: Cli) -> None:
    who, groups, home, cwd, device, _ = identity(cli, runAsUser=33)
    assert who.startswith("uid=33(www) gid=33(www)")
    assert groups.split()[1:] == ["44", "45"]
    assert home == "/var/www"
    assert cwd == "/"
    assert device == "x"


def test_a_user_the_image_does_not_know(cli: Cli) -> None:
    who, groups, home, *_ = identity(cli, runAsUser=4242)
    assert who.startswith("uid=4242 gid=0(root)")
    assert groups.split()[1:] == []
    assert home == "/"


def test_run_as_group_cancels_the_groups_of_the_image(cli: Cli) -> None:
    who, groups, *_ = identity(cli, runAsUser=33, runAsGroup=1234)
    assert who.startswith("uid=33(www) gid=1234")
    assert groups.split()[1:] == []


def test_run_as_group_alone(cli: Cli) -> None:
    who, *_ = identity(cli, runAsGroup=1234)
    assert who.startswith("uid=0(root) gid=1234")


def test_read_only_root_file_system(cli: Cli) -> None:
    """The root alone is read-only: volumes, /dev/shm and /tmp of a volume are not."""
    look = probe(
        root="touch /x",
        tmp="touch /tmp/x",
        shm="touch /dev/shm/x && echo written",
        volume="touch /v/x && echo written",
        cwd="pwd",
    )
    container = box(
        f"{look}",
        workingDir="/made",
        securityContext={"readOnlyRootFilesystem": True},
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
    )
    seen = answers(cli, run_pod(cli, container, volumes=[{"name": "v", "emptyDir": {}}]))
    assert "Read-only file system" in seen["root"]
    assert "Read-only file system" in seen["tmp"]
    assert (seen["shm"], seen["volume"], seen["cwd"]) == ("written", "written", "/made")


def test_the_container_holds_no_descriptor_of_the_host(cli: Cli) -> None:
    uid = run_pod(cli, box("exec sleep 1000"))
    fds = Path(f"/proc/{init_of(cli, uid).pid}/fd")
    assert sorted(entry.name for entry in fds.iterdir()) == ["0", "1", "2"]


def test_signals_are_neither_blocked_nor_ignored_at_the_start(cli: Cli) -> None:
    uid = run_pod(cli, box("exec sleep 1000"))
    init = init_of(cli, uid)
    assert int(status_field(init, "SigBlk"), 16) == 0
    assert int(status_field(init, "SigIgn"), 16) == 0
