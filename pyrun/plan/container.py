"""The plan of one container: its directories and leaf, its init process step by step, its start.

The order of the steps is the subject of this module; ARCHITECTURE.md gives the reasons. The points at which
OCI hooks run: prestart, createRuntime and createContainer after the mounts and before `PivotRoot`,
startContainer before `ExecuteProgram`, poststart after `StartContainer`, poststop after the undo.
"""

from __future__ import annotations

from pyrun.cgroups.group import CreateLeaf
from pyrun.kernel.operation import Operation
from pyrun.namespaces.steps import JoinNamespaces, UnshareNamespaces
from pyrun.namespaces.table import Namespace
from pyrun.plan.host import HostFacts
from pyrun.plan.resources import infra_oom_score, set_oom_score, write_settings
from pyrun.plan.sandbox import MONITORS_LEAF, container_leaf
from pyrun.process.container import ContainerStep, SpawnContainer, StartContainer
from pyrun.process.execute import ExecuteProgram
from pyrun.process.terminal import OpenTerminal
from pyrun.rootfs.devices import BindDevices, CopyHostDevices, LinkDevices
from pyrun.rootfs.directories import EnsureDirectory, MakeDirectory, MakeFile
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
    SandboxTree,
    SetRootReadonly,
)
from pyrun.security.capabilities import DropBoundingSet, SetCapabilities, SetNoNewPrivileges
from pyrun.security.limits import SetLimits, limits_within
from pyrun.security.users import SetUser
from pyrun.spec.container import ContainerConfig, Mount, MountSource, PidMode
from pyrun.spec.layout import TERMINATION_LOG
from pyrun.spec.sandbox import SandboxFacts

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_ALWAYS = ("nosuid", "nodev", "noexec")


def plan_container(
    config: ContainerConfig, sandbox: SandboxFacts, host: HostFacts, attempt: int
) -> tuple[Operation, ...]:
    """Return the operations that create one attempt of a container; `plan_start` starts it."""
    layout, uid, name = sandbox.layout, sandbox.uid, config.name
    state = layout.container_state(uid, name, attempt)
    writable = layout.container_root(uid, name, attempt)
    leaf = container_leaf(name)
    return (
        EnsureDirectory(layout.logs(uid, name)),
        MakeDirectory(writable, 0o700),
        MakeDirectory(f"{writable}/upper"),
        MakeDirectory(f"{writable}/work"),
        MakeDirectory(f"{writable}/rootfs"),
        *((MakeFile(f"{writable}/{TERMINATION_LOG}", 0o666),) if config.message_path else ()),
        CreateLeaf(sandbox.cgroup, leaf),
        *write_settings(f"{sandbox.cgroup}/{leaf}", config.resources, host),
        SpawnContainer(
            container=name,
            directory=state,
            log=f"{layout.logs(uid, name)}/{attempt}.log",
            leaf=f"{sandbox.cgroup}/{leaf}",
            monitors=f"{sandbox.cgroup}/{MONITORS_LEAF}",
            pid_mode=config.pid_mode,
            stdin=config.process.stdin,
            terminal=config.process.terminal,
            steps=plan_init(config, sandbox, host, writable),
            monitor_score=infra_oom_score(sandbox.oom_together, host),
        ),
    )


def plan_start(config: ContainerConfig, sandbox: SandboxFacts, attempt: int) -> tuple[Operation, ...]:
    """Return the operation that starts a created container."""
    state = sandbox.layout.container_state(sandbox.uid, config.name, attempt)
    return (StartContainer(config.name, state, config.process.args[0]),)


def plan_init(
    config: ContainerConfig, sandbox: SandboxFacts, host: HostFacts, writable: str
) -> tuple[ContainerStep, ...]:
    """Return the steps of the init process: join, build the root, drop rights, execute."""
    root = f"{writable}/rootfs"
    return (
        *set_oom_score(config.resources.oom_score_adj, host),
        *_join(config, sandbox),
        *_root(config, writable, root),
        *_volumes(config, sandbox, root, f"{writable}/{TERMINATION_LOG}"),
        *_enter(config, root),
        *rights(config, host),
        ExecuteProgram(config.name, config.process.args, config.process.env),
    )


def _join(config: ContainerConfig, sandbox: SandboxFacts) -> tuple[ContainerStep, ...]:
    shared = [Namespace.TIME]
    if not sandbox.host_network:
        shared += [Namespace.UTS, Namespace.NETWORK]
    if not sandbox.host_ipc:
        shared.append(Namespace.IPC)
    return (
        JoinNamespaces("pause.pidfd", tuple(shared)),
        *((CloneSandboxTrees("pause.pidfd", trees),) if (trees := _trees(config, sandbox)) else ()),
        UnshareNamespaces((Namespace.CGROUP, Namespace.MOUNT)),
        MakeMountsPrivate(),
    )


def _trees(config: ContainerConfig, sandbox: SandboxFacts) -> tuple[SandboxTree, ...]:
    shm = SandboxTree("/dev/shm", "/dev/shm", _ALWAYS)
    volumes = tuple(_tree(m) for m in config.mounts if m.kind is MountSource.SANDBOX)
    covered = any(mount.target == shm.target for mount in config.mounts)
    return (*(() if sandbox.host_ipc or covered else (shm,)), *volumes)


def _tree(mount: Mount) -> SandboxTree:
    return SandboxTree(mount.source, mount.target, mount.options, mount.sub_path)


def _root(config: ContainerConfig, writable: str, root: str) -> tuple[ContainerStep, ...]:
    sys_options = _ALWAYS if config.privileged else (*_ALWAYS, "ro")
    return (
        MountOverlay(
            config.root.layers_dir, config.root.layers, f"{writable}/upper", f"{writable}/work", root
        ),
        MountFilesystem("proc", root, "/proc", _ALWAYS),
        MountFilesystem("sysfs", root, "/sys", sys_options),
        MountFilesystem("cgroup2", root, "/sys/fs/cgroup", sys_options),
        *_dev(config, root),
    )


def _dev(config: ContainerConfig, root: str) -> tuple[ContainerStep, ...]:
    # A privileged container has its own nodes of all devices, so its /dev alone is without nodev.
    options = ("nosuid",) if config.privileged else ("nosuid", "nodev")
    return (
        MountFilesystem("tmpfs", root, "/dev", options, "mode=755,size=64k"),
        MountFilesystem(
            "devpts", root, "/dev/pts", ("nosuid", "noexec"), "newinstance,ptmxmode=0666,mode=0620,gid=5"
        ),
        MountFilesystem("mqueue", root, "/dev/mqueue", _ALWAYS),
        CopyHostDevices(root) if config.privileged else BindDevices(root),
        LinkDevices(root),
    )


def _volumes(
    config: ContainerConfig, sandbox: SandboxFacts, root: str, message: str
) -> tuple[ContainerStep, ...]:
    """Return the mounts of volumes and of the Pod's own files, parents before what lies below them.

    `message` is the host's file for the termination message.
    """
    steps: list[tuple[str, ContainerStep]] = []
    targets = {mount.target for mount in config.mounts}
    etc = sandbox.layout.etc(sandbox.uid)
    for name in ("hosts", "hostname", "resolv.conf"):
        if f"/etc/{name}" not in targets:
            steps.append(
                (f"/etc/{name}", BindMount(f"{etc}/{name}", root, f"/etc/{name}", ("nosuid", "nodev")))
            )
    if config.message_path and config.message_path not in targets:
        steps.append((config.message_path, BindMount(message, root, config.message_path, _ALWAYS)))
    if sandbox.host_ipc and "/dev/shm" not in targets:
        steps.append(("/dev/shm", BindMount("/dev/shm", root, "/dev/shm", _ALWAYS)))
    steps += [(tree.target, AttachSandboxTree(root, tree)) for tree in _trees(config, sandbox)]
    steps += [
        (m.target, BindMount(m.source, root, m.target, m.options, m.sub_path))
        for m in config.mounts
        if m.kind is MountSource.HOST
    ]
    return tuple(step for _, step in sorted(steps, key=lambda item: item[0].rstrip("/").split("/")))


def _enter(config: ContainerConfig, root: str) -> tuple[ContainerStep, ...]:
    steps: list[ContainerStep] = [MakeWorkingDirectory(root, config.process.cwd), PivotRoot(root)]
    if config.process.terminal:
        steps.append(OpenTerminal())
    if not config.privileged:
        steps += [MaskPaths(MASKED_PATHS), MakePathsReadonly(READONLY_PATHS)]
    if config.root.readonly:
        steps.append(SetRootReadonly())
    return tuple(steps)


def rights(config: ContainerConfig, host: HostFacts) -> tuple[ContainerStep, ...]:
    """Return the steps that leave a process with the rights of the container, and in its directory.

    The bounding set goes first, while CAP_SETPCAP is held; groups and user before the remaining sets,
    because changing them needs rights; the directory is entered as the user who will work in it.
    """
    process = config.process
    keep = tuple(name for name in process.capabilities if name in host.capabilities)
    return (
        SetLimits(limits_within(host.limits)),
        DropBoundingSet(keep),
        SetUser(process.user.name, process.user.group),
        SetCapabilities(keep),
        *((SetNoNewPrivileges(),) if process.no_new_privileges else ()),
        ChangeDirectory(process.cwd),
    )


def pid_mode_of(host_pid: bool, share: bool) -> PidMode:
    """Return where a container's processes are numbered."""
    if host_pid:
        return PidMode.HOST
    return PidMode.POD if share else PidMode.PRIVATE
