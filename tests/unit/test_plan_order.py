"""The order facts a plan must encode, asserted on the plans of many Pods."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrun.cgroups.controllers import CONTROLLERS
from pyrun.cgroups.delegation import Place
from pyrun.cgroups.group import CreateCgroup, CreateLeaf
from pyrun.kernel.operation import Operation, Step
from pyrun.namespaces.steps import JoinNamespaces, UnshareNamespaces
from pyrun.namespaces.table import Namespace
from pyrun.network.loopback import LoopbackUp
from pyrun.network.operations import ConnectPod, EnsureNetwork, LeaseAddress
from pyrun.pause.sandbox import ExecutePause, SpawnPause
from pyrun.plan.container import plan_container, plan_init, plan_start
from pyrun.plan.convert import container_of, sandbox_of
from pyrun.plan.host import HostFacts
from pyrun.plan.sandbox import plan_pod, plan_sandbox, sandbox_facts
from pyrun.process.container import ContainerStep, SpawnContainer, StartContainer
from pyrun.process.execute import ExecuteProgram
from pyrun.process.terminal import OpenTerminal
from pyrun.rootfs.devices import BindDevices, CopyHostDevices, LinkDevices
from pyrun.rootfs.directories import ClaimName, MakeDirectory
from pyrun.rootfs.mounts import (
    AttachSandboxTree,
    BindMount,
    ChangeDirectory,
    CloneSandboxTrees,
    MakeMountsPrivate,
    MakePathsReadonly,
    MakeWorkingDirectory,
    MaskPaths,
    MountFilesystem,
    MountOverlay,
    PivotRoot,
    SetRootReadonly,
)
from pyrun.security.capabilities import DropBoundingSet, SetCapabilities, SetNoNewPrivileges
from pyrun.security.limits import SetLimits
from pyrun.security.users import SetUser
from pyrun.spec.capability import ALL_CAPABILITIES
from pyrun.spec.image import Image, ImageConfig
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.pod import (
    Container,
    EmptyDir,
    HostPath,
    Metadata,
    Pod,
    PodSpec,
    PullPolicy,
    SecurityContext,
    Volume,
    VolumeMount,
)
from pyrun.spec.resources import Capacity

UID = "0d9f1c5e-6a0f-4f5e-9a55-1f0e8f3b7c11"
LAYOUT = Layout()
IMAGE = Image(id="i", config=ImageConfig(entrypoint=("/app",)), layers_dir="/layers", layers=("base", "top"))
CAPACITY = Capacity(cpu_millis=4000, memory=1 << 34)
HOST = HostFacts(
    layout=LAYOUT,
    place=Place(parent="/sys/fs/cgroup", controllers=CONTROLLERS),
    capacity=CAPACITY,
    capabilities=ALL_CAPABILITIES,
    limits=(),
    network=NetworkConfig.of(LAYOUT.name, LAYOUT.state),
    hostname="host",
)

SOURCES = {
    "disk": EmptyDir(),
    "memory": EmptyDir(memory=True, size_limit=4096),
    "host": HostPath(path="/srv"),
}
PATHS = ("/data", "/data/deep", "/data/deep/er", "/dev/shm", "/etc/hosts", "/a", "/etc")

MOUNTING = (MountOverlay, MountFilesystem, BindMount, AttachSandboxTree, BindDevices, CopyHostDevices)
ATTACHING = (BindMount, AttachSandboxTree)


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    """Pods that set every field a plan depends on."""
    paths = draw(st.lists(st.sampled_from(PATHS), unique=True, max_size=4))
    mounts = tuple(
        VolumeMount(
            name=draw(st.sampled_from(sorted(SOURCES))), mount_path=path, read_only=draw(st.booleans())
        )
        for path in paths
    )
    container = Container(
        name="app",
        image="i",
        image_pull_policy=PullPolicy.NEVER,
        volume_mounts=mounts,
        tty=draw(st.booleans()),
        stdin=draw(st.booleans()),
        security_context=SecurityContext(
            run_as_user=draw(st.sampled_from([None, 0, 33])),
            privileged=draw(st.booleans()),
            read_only_root_filesystem=draw(st.booleans()),
            allow_privilege_escalation=draw(st.sampled_from([None, True, False])),
        ),
    )
    return Pod(
        metadata=Metadata(name="p"),
        spec=PodSpec(
            containers=(container,),
            volumes=tuple(Volume(name=name, source=source) for name, source in SOURCES.items()),
            share_process_namespace=draw(st.booleans()),
            host_network=draw(st.booleans()),
            host_pid=draw(st.booleans()),
            host_ipc=draw(st.booleans()),
        ),
    )


def init_steps(pod: Pod) -> tuple[Step, ...]:
    sandbox = sandbox_facts(sandbox_of(pod, UID, CAPACITY), HOST)
    config = container_of(pod, pod.spec.containers[0], IMAGE, UID, LAYOUT)
    return plan_init(config, sandbox, HOST, "/writable")


def operations(pod: Pod) -> tuple[Operation, ...]:
    sandbox = sandbox_of(pod, UID, CAPACITY)
    facts = sandbox_facts(sandbox, HOST)
    config = container_of(pod, pod.spec.containers[0], IMAGE, UID, LAYOUT)
    return (
        *plan_pod(sandbox, HOST),
        *plan_sandbox(sandbox, HOST),
        *plan_container(config, facts, HOST, 0),
        *plan_start(config, facts, 0),
    )


def assert_order(steps: tuple[Step, ...], *kinds: type[Step] | tuple[type[Step], ...]) -> None:
    """All steps of a kind come before all steps of the next kind; kinds that do not occur are passed over."""
    last, before = -1, ""
    for kind in kinds:
        places = [index for index, step in enumerate(steps) if isinstance(step, kind)]
        if places:
            assert min(places) > last, f"{steps[min(places)].describe()} comes before {before}"
            last, before = max(places), steps[max(places)].describe()


every_pod = given(pod=pods())
many = settings(max_examples=150, deadline=None)


@many
@every_pod
def test_the_steps_of_a_container_are_in_order(pod: Pod) -> None:
    steps = init_steps(pod)
    # Join before leaving; private before the first mount; all of the root before it becomes the root.
    assert_order(
        steps,
        JoinNamespaces,
        CloneSandboxTrees,
        UnshareNamespaces,
        MakeMountsPrivate,
        MountOverlay,
        MountFilesystem,
        (BindDevices, CopyHostDevices),
        LinkDevices,
        ATTACHING,
        MakeWorkingDirectory,
        PivotRoot,
        OpenTerminal,
        MaskPaths,
        MakePathsReadonly,
        SetRootReadonly,
        # The bounding set while CAP_SETPCAP is held; groups and user before the other sets; nothing that
        # needs rights after them; no_new_privs last.
        SetLimits,
        DropBoundingSet,
        SetUser,
        SetCapabilities,
        SetNoNewPrivileges,
        ChangeDirectory,
        ExecuteProgram,
    )
    assert_order(steps, MakeMountsPrivate, MOUNTING, PivotRoot)
    assert isinstance(steps[-1], ExecuteProgram)
    assert {type(step) for step in steps} <= set(get_args(ContainerStep))


@many
@every_pod
def test_mounts_come_before_what_is_mounted_below_them(pod: Pod) -> None:
    targets = []
    for step in init_steps(pod):
        if isinstance(step, BindMount):
            targets.append(step.target)
        elif isinstance(step, AttachSandboxTree):
            targets.append(step.tree.target)
    assert len(targets) == len(set(targets))
    for index, target in enumerate(targets):
        assert not any(target.startswith(f"{later}/") for later in targets[index + 1 :]), targets
    assert {mount.mount_path for mount in pod.spec.containers[0].volume_mounts} <= set(targets)


@many
@every_pod
def test_every_tree_that_is_attached_was_cloned_before(pod: Pod) -> None:
    cloned: set[str] = set()
    for step in init_steps(pod):
        if isinstance(step, CloneSandboxTrees):
            cloned |= {tree.target for tree in step.trees}
        elif isinstance(step, AttachSandboxTree):
            assert step.tree.target in cloned
            cloned.remove(step.tree.target)
    assert not cloned


@many
@every_pod
def test_what_is_shared_is_joined_and_the_rest_is_new(pod: Pod) -> None:
    steps = init_steps(pod)
    (join,) = (step for step in steps if isinstance(step, JoinNamespaces))
    (unshare,) = (step for step in steps if isinstance(step, UnshareNamespaces))
    spec = pod.spec
    wanted = {Namespace.TIME}
    if not spec.host_network:
        wanted |= {Namespace.UTS, Namespace.NETWORK}
    if not spec.host_ipc:
        wanted |= {Namespace.IPC}
    assert set(join.namespaces) == wanted
    assert set(unshare.namespaces) == {Namespace.CGROUP, Namespace.MOUNT}
    # No PID namespace here: it takes effect for the next child only, so the launcher makes or joins it.
    assert not {Namespace.PID, Namespace.USER} & {*join.namespaces, *unshare.namespaces}


@many
@every_pod
def test_pause_gets_what_the_host_does_not_share(pod: Pod) -> None:
    (spawn,) = (op for op in operations(pod) if isinstance(op, SpawnPause))
    spec = pod.spec
    wanted = {Namespace.MOUNT}
    wanted |= set() if spec.host_network else {Namespace.UTS, Namespace.NETWORK}
    wanted |= set() if spec.host_ipc else {Namespace.IPC}
    wanted |= set() if spec.host_pid else {Namespace.PID}
    assert set(spawn.namespaces) == wanted
    assert_order(spawn.steps, MakeMountsPrivate, MountFilesystem, PivotRoot, SetRootReadonly, ExecutePause)
    assert isinstance(spawn.steps[-1], ExecutePause)
    assert any(isinstance(step, LoopbackUp) for step in spawn.steps) is not spec.host_network


@many
@every_pod
def test_the_operations_of_a_pod_are_in_order(pod: Pod) -> None:
    plan = operations(pod)
    assert_order(
        plan, ClaimName, LeaseAddress, EnsureNetwork, SpawnPause, ConnectPod, SpawnContainer, StartContainer
    )
    made: set[str] = set()
    for operation in plan:
        if isinstance(operation, CreateCgroup | CreateLeaf):
            made.add(operation.path)
        elif isinstance(operation, SpawnPause):
            assert operation.leaf in made  # every process is born in its leaf
        elif isinstance(operation, SpawnContainer):
            assert {operation.leaf, operation.monitors} <= made
    # A group is made after the one it is in, so the undo in reverse removes the deepest first.
    paths = [operation.path for operation in plan if isinstance(operation, CreateCgroup | CreateLeaf)]
    assert paths == sorted(paths, key=lambda path: path.count("/"))
    directories = [operation.path for operation in plan if isinstance(operation, MakeDirectory)]
    for index, path in enumerate(directories):
        assert not any(path.startswith(f"{later}/") for later in directories[index + 1 :])


@many
@every_pod
def test_no_operation_names_what_a_crash_could_lose(pod: Pod) -> None:
    """An undo works with the operation alone, so its fields hold what is known before: here, after a round trip."""
    from pyrun.state.journal import AnyOperation

    plan = operations(pod)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=tuple[AnyOperation, ...]) == plan


@many
@every_pod
def test_rights_follow_the_security_context(pod: Pod) -> None:
    steps = init_steps(pod)
    context = pod.spec.containers[0].security_context
    kinds = {type(step) for step in steps}
    assert (SetNoNewPrivileges in kinds) is (context.allow_privilege_escalation is False)
    assert (MaskPaths in kinds) is (MakePathsReadonly in kinds) is (not context.privileged)
    assert (CopyHostDevices in kinds) is context.privileged
    assert (SetRootReadonly in kinds) is context.read_only_root_filesystem
    assert (OpenTerminal in kinds) is pod.spec.containers[0].tty
    (dropped,) = (step for step in steps if isinstance(step, DropBoundingSet))
    (kept,) = (step for step in steps if isinstance(step, SetCapabilities))
    assert dropped.keep == kept.keep
    assert (set(kept.keep) == set(ALL_CAPABILITIES)) is context.privileged


@pytest.mark.parametrize("target", ["/proc", "/sys", "/dev"])
def test_kernel_file_systems_cannot_be_executed_from_and_hold_no_devices(target: str) -> None:
    pod = Pod(
        metadata=Metadata(name="p"),
        spec=PodSpec(containers=(Container(name="app", image="i", image_pull_policy=PullPolicy.NEVER),)),
    )
    mounts = [s for s in init_steps(pod) if isinstance(s, MountFilesystem) and s.target == target]
    assert len(mounts) == 1
    assert {"nosuid", "nodev"} <= set(mounts[0].options)
    assert "ro" in mounts[0].options or target != "/sys"
