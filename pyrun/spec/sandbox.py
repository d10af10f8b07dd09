"""The sandbox of a Pod: everything its containers share, without the containers.

Source: CRI PodSandboxConfig; the container planner reads only `SandboxFacts`.
"""

from __future__ import annotations

import msgspec

from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.layout import Layout
from pyrun.spec.pod import HostPath
from pyrun.spec.qos import QosClass

SHM_SIZE = 64 * 1024 * 1024
"""Bytes of /dev/shm, as the container engines give it."""


class SandboxVolume(msgspec.Struct, frozen=True, kw_only=True):
    """An emptyDir: a tmpfs of `size_limit` bytes when `memory`, else a directory on disk."""

    name: str
    memory: bool = False
    size_limit: int | None = None


class HostVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A hostPath volume, whose path is checked or made before any container."""

    name: str
    source: HostPath


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandbox of one Pod shall be. Clock offsets are nanoseconds.

    `resources` are those of the Pod's own cgroup. `cpu_millis` is what it asks for as a whole, and `controllers` those
    that the limits of the Pod and its containers cannot do without.
    """

    uid: str
    name: str
    namespace: str
    hostname: str
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False
    volumes: tuple[SandboxVolume, ...] = ()
    host_volumes: tuple[HostVolume, ...] = ()
    monotonic_offset: int = 0
    boottime_offset: int = 0
    qos: QosClass = QosClass.BEST_EFFORT
    resources: LinuxResources = LinuxResources()
    cpu_millis: int = 0
    controllers: tuple[str, ...] = ()


class SandboxFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a container needs to know of the sandbox it joins.

    `cgroup` is the path of the Pod's; `oom_together`: an OOM kill takes all its containers at once.
    """

    uid: str
    layout: Layout
    cgroup: str
    host_network: bool
    host_pid: bool
    host_ipc: bool
    hostname: str
    oom_together: bool = False
