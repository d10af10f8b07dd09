"""The journal: a line an operation, whole or not there, and readable by the next command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pyrun.cgroups.controllers import CONTROLLERS
from pyrun.cgroups.delegation import Owner, Place, VacateCgroup
from pyrun.cgroups.group import CreateCgroup, CreateLeaf
from pyrun.cgroups.scope import EnsureScope
from pyrun.cgroups.setting import EnableControllers, SetCgroup
from pyrun.cgroups.tier import WeighTier
from pyrun.errors import StateError
from pyrun.kernel.operation import Operation
from pyrun.network.etc_files import WriteEtcFiles
from pyrun.network.operations import ConnectPod, EnsureNetwork, LeaseAddress
from pyrun.plan.container import plan_container, plan_start
from pyrun.plan.host import HostFacts
from pyrun.plan.resources import make_group
from pyrun.plan.sandbox import plan_pod, plan_sandbox, sandbox_facts
from pyrun.rootfs.directories import ClaimName, EnsureDirectory, MakeDirectory, MakeFile, PrepareHostPath
from pyrun.spec.capability import DEFAULT_CAPABILITIES
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.container import ContainerConfig, Mount, MountSource, PidMode, Process, Root
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.pod import HostPath, HostPathType
from pyrun.spec.qos import QosClass
from pyrun.spec.resources import Capacity
from pyrun.spec.sandbox import HostVolume, SandboxConfig, SandboxVolume
from pyrun.state.journal import AnyOperation, Entry, Journal

NETWORK = NetworkConfig.of("pyrun", "/run/pyrun")
HOST = HostFacts(
    layout=Layout(),
    place=Place(parent="/sys/fs/cgroup", controllers=CONTROLLERS),
    capacity=Capacity(cpu_millis=4000, memory=1 << 34),
    capabilities=DEFAULT_CAPABILITIES,
    limits=(),
    network=NETWORK,
    hostname="host",
)


def owned(owner: Owner) -> HostFacts:
    """Return a host whose cgroups somebody looks after."""
    return msgspec.structs.replace(HOST, place=msgspec.structs.replace(HOST.place, owner=owner))


def everything() -> tuple[Operation, ...]:
    """Return the operations of a Pod that uses each kind of operation and of step."""
    sandbox = SandboxConfig(
        uid="0123",
        name="web",
        namespace="default",
        hostname="web",
        volumes=(SandboxVolume(name="disk"), SandboxVolume(name="fast", memory=True, size_limit=1 << 20)),
        qos=QosClass.BURSTABLE,
        resources=LinuxResources(cpu_weight=17, memory_max=1 << 26),
        controllers=("memory",),
        host_volumes=(HostVolume(name="h", source=HostPath(path="/srv", type=HostPathType.DIRECTORY)),),
    )
    facts = sandbox_facts(sandbox, HOST)
    configs = [
        ContainerConfig(
            name=f"c{number}",
            root=Root(layers_dir="/layers", layers=("a", "b"), readonly=True),
            process=Process(args=("sh", "ü\n"), env=("A=b",), no_new_privileges=True, terminal=number == 1),
            mounts=(
                Mount(kind=MountSource.HOST, source="/srv", target="/srv", sub_path="x"),
                Mount(kind=MountSource.SANDBOX, source="/volumes/fast", target="/fast", options=("ro",)),
            ),
            pid_mode=PidMode.POD,
            privileged=number == 2,
            message_path="/dev/termination-log",
        )
        for number in range(3)
    ]
    return (
        *plan_pod(sandbox, HOST),
        *plan_sandbox(sandbox, HOST),
        *(o for owner in (Owner.CONTAINER, Owner.SYSTEMD) for o in make_group(sandbox, owned(owner))),
        *(o for c in configs for o in (*plan_container(c, facts, HOST, 0), *plan_start(c, facts, 0))),
    )


def test_the_sample_has_every_kind_of_operation() -> None:
    kinds = {type(operation) for operation in everything()}
    assert kinds == set(AnyOperation.__args__)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    journal = Journal(f"{tmp_path}/journal")
    for operation in everything():
        journal.begin(operation)
    assert [entry.operation for entry in journal.read()] == list(everything())
    assert not journal.committed()
    journal.commit()
    assert journal.committed()


def test_one_line_an_operation_that_a_person_can_read(tmp_path: Path) -> None:
    journal = Journal(f"{tmp_path}/journal")
    for operation in everything():
        journal.begin(operation)
    lines = Path(journal.path).read_text().splitlines()
    assert len(lines) == len(everything())
    assert all(msgspec.json.decode(line)["operation"]["op"] for line in lines)
    assert os.stat(journal.path).st_mode & 0o777 == 0o600


def test_a_journal_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    journal = Journal(f"{tmp_path}/none")
    assert journal.read() == ()
    assert not journal.committed()
    journal.remove()


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_line_that_a_crash_cut_short_is_passed_over(tmp_path: Path, kept: int) -> None:
    journal = Journal(f"{tmp_path}/journal")
    journal.begin(MakeDirectory("/a"))
    whole = Path(journal.path).read_bytes()
    Path(journal.path).write_bytes(whole + whole[: kept if kept >= 0 else len(whole) - 1])
    assert journal.read() == (Entry(MakeDirectory("/a")),)


@pytest.mark.parametrize("line", [b"{\n", b'{"operation":{"op":"Unknown"}}\n', b"\xff\n", b"[]\n"])
def test_a_journal_of_another_version_is_an_error_and_not_an_empty_one(tmp_path: Path, line: bytes) -> None:
    journal = Journal(f"{tmp_path}/journal")
    journal.begin(MakeDirectory("/a"))
    with open(journal.path, "ab") as file:
        file.write(line)
    with pytest.raises(StateError, match=f"journal {tmp_path}/journal cannot be read") as caught:
        journal.read()
    assert caught.value.hint


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot write journal /no/such/journal: No such file") as caught:
        Journal("/no/such/journal").commit()
    assert caught.value.hint


@pytest.mark.requires("namespaces")
def test_a_line_that_the_disk_has_no_room_for_is_an_error(tmp_path: Path) -> None:
    """write(2) takes what fits and says no more than that; the operation must not be applied."""
    code = (
        "import os, sys\n"
        "from pyrun.errors import StateError\n"
        "from pyrun.kernel.syscalls import *\n"
        "from pyrun.rootfs.directories import MakeDirectory\n"
        "from pyrun.state.journal import Journal\n"
        "unshare(CLONE_NEWNS)\n"
        "mount_setattr(AT_FDCWD, '/', AT_RECURSIVE, propagation=MS_PRIVATE)\n"
        "mount('tmpfs', sys.argv[1], 'tmpfs', 0, 'size=4k')\n"
        "journal = Journal(sys.argv[1] + '/journal')\n"
        "journal.begin(MakeDirectory('/a' * 1000))\n"
        "try: journal.begin(MakeDirectory('/b' * 1500))\n"
        "except StateError as error: print(error)\n"
        "print(len(journal.read()), os.stat(journal.path).st_size)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    message, rest = result.stdout.splitlines()
    assert message == f"cannot write journal {tmp_path}/journal: No space left on device"
    assert rest == "1 4096"


UNDONE_WITHOUT_EFFECT: tuple[Operation, ...] = (
    ClaimName("/no/such/names/web", "uid"),
    MakeDirectory("/no/such/directory"),
    MakeFile("/no/such/file", 0o666),
    EnsureDirectory("/no/such/directory"),
    PrepareHostPath("v", "/no/such/path", HostPathType.FILE_OR_CREATE),
    CreateCgroup("/no/such/prefix", "group"),
    CreateLeaf("/no/such/group", "leaf"),
    SetCgroup("/no/such/group", "pids.max", "1"),
    EnableControllers("/no/such/group", ("pids",)),
    VacateCgroup("/no/such/group"),
    WeighTier("/no/such/tier", "uid", 100),
    EnsureScope("/no/such/machine.slice/pyrun.scope", "uid", "/pause"),
    WriteEtcFiles(directory="/no/such/etc", hostname="x", host_network=False),
    LeaseAddress(NetworkConfig.of("none", "/no/such/state"), "uid"),
)


@pytest.mark.parametrize("operation", UNDONE_WITHOUT_EFFECT, ids=lambda o: type(o).__name__)
def test_undo_of_what_never_happened_succeeds(operation: Operation) -> None:
    operation.undo()
    assert not os.path.exists("/no")


def test_descriptions_are_one_line() -> None:
    kinds = (EnsureNetwork(NETWORK, "uid"), ConnectPod(NETWORK, "uid"), *everything())
    for operation in kinds:
        assert operation.describe()
        assert "\n" not in operation.describe()
