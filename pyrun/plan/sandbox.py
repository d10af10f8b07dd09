"""The plan of a sandbox: directories, address, cgroups, pause with its namespaces, the link to the bridge."""

from __future__ import annotations

from pyrun.cgroups.group import CreateLeaf
from pyrun.kernel.operation import Operation
from pyrun.namespaces.steps import SetHostname, WriteTimeOffsets
from pyrun.namespaces.table import Namespace
from pyrun.network.etc_files import WriteEtcFiles
from pyrun.network.loopback import LoopbackUp
from pyrun.network.operations import ConnectPod, EnsureNetwork, LeaseAddress
from pyrun.pause.sandbox import ExecutePause, SandboxStep, SpawnPause
from pyrun.plan.host import HostFacts
from pyrun.plan.resources import infra_oom_score, make_group, pod_group
from pyrun.rootfs.directories import ClaimName, MakeDirectory, PrepareHostPath
from pyrun.rootfs.mounts import MakeMountsPrivate, MountFilesystem, PivotRoot, SetRootReadonly
from pyrun.spec.sandbox import SHM_SIZE, SandboxConfig, SandboxFacts

PAUSE_LEAF = "pause"
MONITORS_LEAF = "monitors"


def container_leaf(name: str) -> str:
    """Return the leaf of a container; the prefix keeps it apart from `pause` and `monitors`."""
    return f"ctr-{name}"


def sandbox_facts(config: SandboxConfig, host: HostFacts) -> SandboxFacts:
    """Return what containers need to know of a sandbox; known before it is made."""
    return SandboxFacts(
        uid=config.uid,
        layout=host.layout,
        cgroup=pod_group(config, host),
        host_network=config.host_network,
        host_pid=config.host_pid,
        host_ipc=config.host_ipc,
        hostname=host.hostname if config.host_network else config.hostname,
        oom_together=config.resources.oom_group is True,
    )


def plan_pod(config: SandboxConfig, host: HostFacts) -> tuple[Operation, ...]:
    """Return the operations that make what outlives a sandbox: the name, the directories, volumes on disk."""
    layout, uid = host.layout, config.uid
    volumes = tuple(MakeDirectory(layout.volume(uid, v.name), 0o777) for v in config.volumes if not v.memory)
    checks = tuple(PrepareHostPath(v.name, v.source.path, v.source.type) for v in config.host_volumes)
    return (
        ClaimName(f"{layout.names(config.namespace)}/{config.name}", uid),
        *checks,
        # Closed to the host's users: below it are volumes that every user of a container may write.
        MakeDirectory(layout.pod_root(uid), 0o700),
        *volumes,
    )


def plan_sandbox(config: SandboxConfig, host: HostFacts) -> tuple[Operation, ...]:
    """Return the operations that make a sandbox, in order; undone in reverse they remove it.

    The network comes before pause where it can (address, bridge), so that nothing of a Pod runs before its
    place is known; the link comes after, because it ends in pause's network namespace.
    """
    group = pod_group(config, host)
    return (
        *_addressing(config, host),
        *make_group(config, host),
        CreateLeaf(group, PAUSE_LEAF),
        CreateLeaf(group, MONITORS_LEAF),
        _spawn_pause(config, host, f"{group}/{PAUSE_LEAF}"),
        *_connection(config, host),
    )


def _addressing(config: SandboxConfig, host: HostFacts) -> tuple[Operation, ...]:
    etc = WriteEtcFiles(
        directory=host.layout.etc(config.uid),
        hostname=host.hostname if config.host_network else config.hostname,
        host_network=config.host_network,
    )
    if config.host_network:
        return (etc,)
    return (LeaseAddress(host.network, config.uid), EnsureNetwork(host.network, config.uid), etc)


def _connection(config: SandboxConfig, host: HostFacts) -> tuple[Operation, ...]:
    if config.host_network:
        return ()
    return (ConnectPod(host.network, config.uid),)


def _spawn_pause(config: SandboxConfig, host: HostFacts, leaf: str) -> SpawnPause:
    shared_with_host = {
        Namespace.NETWORK: config.host_network,
        Namespace.UTS: config.host_network,
        Namespace.IPC: config.host_ipc,
        Namespace.PID: config.host_pid,
    }
    wanted = (Namespace.UTS, Namespace.IPC, Namespace.NETWORK, Namespace.PID, Namespace.MOUNT)
    # A mount point that exists; the tmpfs on it is seen only in pause's own mount namespace.
    root = host.layout.pod_root(config.uid)
    steps: list[SandboxStep] = [infra_oom_score(config.resources.oom_group is True, host)]
    if not config.host_network:
        steps += [SetHostname(config.hostname), LoopbackUp()]
    steps += [
        MakeMountsPrivate(),
        MountFilesystem("tmpfs", root, "/", ("nosuid", "nodev"), "mode=755,size=64k"),
    ]
    steps.append(_tmpfs(root, "/dev/shm", SHM_SIZE, ("nosuid", "nodev", "noexec")))
    steps += [
        _tmpfs(root, sandbox_volume_path(v.name), v.size_limit, ("nosuid", "nodev"))
        for v in config.volumes
        if v.memory
    ]
    steps += [PivotRoot(root), SetRootReadonly(), ExecutePause()]
    return SpawnPause(
        leaf=leaf,
        namespaces=tuple(n for n in wanted if not shared_with_host.get(n, False)),
        time_offsets=_offsets(config),
        steps=tuple(steps),
    )


def _offsets(config: SandboxConfig) -> WriteTimeOffsets | None:
    if config.monotonic_offset == 0 and config.boottime_offset == 0:
        return None
    return WriteTimeOffsets(config.monotonic_offset, config.boottime_offset)


def sandbox_volume_path(name: str) -> str:
    """Return where a memory volume is mounted in the sandbox's own mount namespace."""
    return f"/volumes/{name}"


def _tmpfs(root: str, target: str, size: int | None, options: tuple[str, ...]) -> MountFilesystem:
    data = "mode=1777" if target == "/dev/shm" else "mode=777"
    if size is not None:
        data += f",size={max(size, 1)}"
    return MountFilesystem("tmpfs", root, target, options, data)
