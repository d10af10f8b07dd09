"""The Pod as Kubernetes means it, in typed values.

Field by field the Kubernetes Pod v1 API, spelled in Python. Quantities are plain integers (bytes), absent
lists are empty tuples, and `None` is kept only where absence means something else than the zero value.
Source: Kubernetes API reference, core/v1.
"""

from __future__ import annotations

import enum

import msgspec


class RestartPolicy(enum.Enum):
    """When the supervisor restarts the containers of a Pod."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class PullPolicy(enum.Enum):
    """When an image is pulled before a container is made."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class HostPathType(enum.Enum):
    """What must be (or is made) at the path of a hostPath volume."""

    ANY = ""
    DIRECTORY_OR_CREATE = "DirectoryOrCreate"
    DIRECTORY = "Directory"
    FILE_OR_CREATE = "FileOrCreate"
    FILE = "File"
    SOCKET = "Socket"
    CHAR_DEVICE = "CharDevice"
    BLOCK_DEVICE = "BlockDevice"


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the values of this room: immutable, compared by value."""


class Metadata(Value, frozen=True, kw_only=True):
    """Identity of an object. Either `name` or `generate_name` is set; the namespace is only a label here."""

    name: str = ""
    generate_name: str = ""
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class EnvVar(Value, frozen=True, kw_only=True):
    """An environment variable with a literal value, `$(NAME)` not yet expanded."""

    name: str
    value: str = ""


class ContainerPort(Value, frozen=True, kw_only=True):
    """A port the container says it listens on; declared, nothing is mapped."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class VolumeMount(Value, frozen=True, kw_only=True):
    """Where a volume of the Pod (or a path below it) appears in a container."""

    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""


class Capabilities(Value, frozen=True, kw_only=True):
    """Changes to the default capability set; names without CAP_, `ALL` allowed."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(Value, frozen=True, kw_only=True):
    """Rights of one container. `allow_privilege_escalation` None means the default, true."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    privileged: bool = False
    capabilities: Capabilities = Capabilities()
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool | None = None


class Container(Value, frozen=True, kw_only=True):
    """One application container. `command` and `args` are None when the image decides."""

    name: str
    image: str
    image_pull_policy: PullPolicy
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: tuple[EnvVar, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    stdin: bool = False
    tty: bool = False
    stop_signal: str = ""
    security_context: SecurityContext = SecurityContext()


class EmptyDir(Value, frozen=True, kw_only=True, tag="emptyDir", tag_field="kind"):
    """A directory that lives as long as the Pod; on disk, or a tmpfs when `memory`. `size_limit` in bytes."""

    memory: bool = False
    size_limit: int | None = None


class HostPath(Value, frozen=True, kw_only=True, tag="hostPath", tag_field="kind"):
    """A path of the host."""

    path: str
    type: HostPathType = HostPathType.ANY


class Volume(Value, frozen=True, kw_only=True):
    """A named volume of the Pod."""

    name: str
    source: EmptyDir | HostPath


class PodSpec(Value, frozen=True, kw_only=True):
    """What a Pod shall be."""

    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...] = ()
    hostname: str = ""
    share_process_namespace: bool = False
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    termination_grace_period_seconds: int = 30


class Pod(Value, frozen=True, kw_only=True):
    """A Pod as a manifest describes it: metadata and spec; status is derived, never stored here."""

    metadata: Metadata
    spec: PodSpec
