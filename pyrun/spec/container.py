"""One container as the OCI runtime specification sees it: root, process, mounts, namespaces.

The planner of a container reads this and facts of the sandbox, never the Pod, so that other sources (an OCI
bundle, CRI messages) need only a converter to it. Source: OCI runtime specification, config.md.
"""

from __future__ import annotations

import enum

import msgspec

from pyrun.spec.cgroup import LinuxResources


class PidMode(enum.Enum):
    """Which PID namespace a container lives in."""

    PRIVATE = "private"
    POD = "pod"
    HOST = "host"


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """The root file system: read-only layers below `layers_dir`, lowest first, and whether it is writable."""

    layers_dir: str
    layers: tuple[str, ...]
    readonly: bool = False


class User(msgspec.Struct, frozen=True, kw_only=True):
    """The user, as an image or a manifest names it; `group` overrides the primary group."""

    name: str = ""
    group: int | None = None


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """The program of a container and its rights. `env` is complete but for HOME; `capabilities` is the set."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    user: User = User()
    capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    terminal: bool = False
    stdin: bool = False


class MountSource(enum.Enum):
    """Where the content of a mount comes from."""

    HOST = "host"
    SANDBOX = "sandbox"


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of a container: a path of the host, or of the sandbox's own mount namespace (tmpfs)."""

    kind: MountSource
    source: str
    target: str
    options: tuple[str, ...] = ()
    sub_path: str = ""


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One container. At `message_path` of it is the file for its termination message; empty for none."""

    name: str
    root: Root
    process: Process
    mounts: tuple[Mount, ...] = ()
    pid_mode: PidMode = PidMode.PRIVATE
    privileged: bool = False
    stop_signal: str = "SIGTERM"
    message_path: str = ""
    image: str = ""
    image_id: str = ""
    resources: LinuxResources = LinuxResources()
