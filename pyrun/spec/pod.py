"""The Pod as Kubernetes means it, in typed values.

Field by field the Kubernetes Pod v1 API, spelled in Python. Quantities are plain integers (bytes), absent
lists are empty tuples, and `None` is kept only where absence means something else than the zero value.
Source: Kubernetes API reference, core/v1.
"""

from __future__ import annotations

import enum

from pyrun.spec.downward import ResourceReference
from pyrun.spec.probe import Lifecycle, Probe
from pyrun.spec.resources import ResizePolicy, ResourceRequirements
from pyrun.spec.value import Value


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


class TerminationMessagePolicy(enum.Enum):
    """Where the message of an ended container comes from."""

    FILE = "File"
    FALLBACK_TO_LOGS_ON_ERROR = "FallbackToLogsOnError"


class RestartRuleAction(enum.Enum):
    """What a restart rule that matches an exit code does."""

    RESTART = "Restart"
    RESTART_ALL_CONTAINERS = "RestartAllContainers"


class OwnerReference(Value, frozen=True, kw_only=True):
    """An object that another one belongs to; at most one owner is the controller."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class Metadata(Value, frozen=True, kw_only=True):
    """Identity of an object. Either `name` or `generate_name` is set; the namespace is only a label here.

    `owner_references` are never read from a manifest: a controller sets them.
    """

    name: str = ""
    generate_name: str = ""
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class EnvVar(Value, frozen=True, kw_only=True):
    """An environment variable: a literal value, `$(NAME)` not yet expanded, or (downward API) one of the Pod's.

    `field_path` is a field such as `metadata.name` or `status.podIP`, `resource` a request or limit; a literal one
    has neither.
    """

    name: str
    value: str = ""
    field_path: str = ""
    resource: ResourceReference | None = None


class RestartRule(Value, frozen=True, kw_only=True):
    """One rule of a container's restartPolicyRules: exit codes, in or (`negated`) not in `exit_codes`."""

    action: RestartRuleAction
    exit_codes: tuple[int, ...]
    negated: bool = False


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


DEFAULT_MESSAGE_PATH = "/dev/termination-log"


class Container(Value, frozen=True, kw_only=True):
    """One container. `command` and `args` are None when the image decides.

    `restart_policy` None means the Pod's; in an init container ALWAYS makes it a sidecar.
    """

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
    resources: ResourceRequirements = ResourceRequirements()
    resize_policy: tuple[ResizePolicy, ...] = ()
    restart_policy: RestartPolicy | None = None
    restart_policy_rules: tuple[RestartRule, ...] = ()
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    termination_message_path: str = DEFAULT_MESSAGE_PATH
    termination_message_policy: TerminationMessagePolicy = TerminationMessagePolicy.FILE


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
    """What a Pod shall be. Times in seconds; `active_deadline_seconds` None is no deadline.

    `resources` are those of the Pod as a whole; None when only its containers have some.
    `service_account_name` is only what a field reference reads: there are no accounts.
    """

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    hostname: str = ""
    share_process_namespace: bool = False
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    service_account_name: str = ""
    resources: ResourceRequirements | None = None

    def all_containers(self) -> tuple[Container, ...]:
        """Init containers (sidecars among them), then application containers, in the order of the manifest."""
        return (*self.init_containers, *self.containers)

    def container(self, name: str) -> Container:
        """The container of this name, an init container too; KeyError when there is none."""
        for container in self.all_containers():
            if container.name == name:
                return container
        raise KeyError(name)


def is_sidecar(spec: PodSpec, container: Container) -> bool:
    """Whether an init container runs beside the application (restartPolicy Always)."""
    return container in spec.init_containers and container.restart_policy is RestartPolicy.ALWAYS


class Pod(Value, frozen=True, kw_only=True):
    """A Pod as a manifest describes it: metadata and spec; status is derived, never stored here."""

    metadata: Metadata
    spec: PodSpec
