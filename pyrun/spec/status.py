"""The status of a Pod, in the words and the shape of a Kubernetes PodStatus (core/v1).

What reads a PodStatus of Kubernetes reads this.
"""

from __future__ import annotations

import enum

import msgspec


class Phase(enum.Enum):
    """Where a Pod is in its life."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class KubernetesValue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Base of the values that are printed as Kubernetes spells them."""


class Waiting(KubernetesValue, frozen=True, kw_only=True):
    """Not started yet, or not started again yet."""

    reason: str
    message: str = ""


class Running(KubernetesValue, frozen=True, kw_only=True):
    """Its program runs."""

    started_at: str


class Terminated(KubernetesValue, frozen=True, kw_only=True):
    """Its program has ended."""

    exit_code: int
    reason: str
    message: str = ""
    signal: int = 0
    started_at: str = ""
    finished_at: str = ""
    container_id: str = msgspec.field(name="containerID", default="")


class ContainerState(KubernetesValue, frozen=True, kw_only=True):
    """Exactly one of the three is set."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ResourcesView(KubernetesValue, frozen=True, kw_only=True):
    """Requests and limits, in Kubernetes' quantities."""

    limits: dict[str, str] = {}
    requests: dict[str, str] = {}


class ContainerStatus(KubernetesValue, frozen=True, kw_only=True):
    """One container: its latest attempt, and how the one before ended.

    `allocated_resources` are the requests that are kept for it, `resources` what it really has while it runs.
    """

    name: str
    state: ContainerState
    last_state: ContainerState = ContainerState()
    image: str
    image_id: str = msgspec.field(name="imageID", default="")
    container_id: str = msgspec.field(name="containerID", default="")
    ready: bool
    started: bool
    restart_count: int
    allocated_resources: dict[str, str] = {}
    resources: ResourcesView | None = None


class Condition(KubernetesValue, frozen=True, kw_only=True):
    """One condition of a Pod; `status` is True or False as a word."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class PodIP(KubernetesValue, frozen=True, kw_only=True):
    """One address of a Pod."""

    ip: str


class PodStatus(KubernetesValue, frozen=True, kw_only=True):
    """A Pod as it is now. `reason` and `message` say why a whole Pod failed (DeadlineExceeded, Evicted)."""

    phase: Phase
    conditions: tuple[Condition, ...]
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] = msgspec.field(name="podIPs", default=())
    start_time: str = ""
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...]


class ReplicaSetStatus(KubernetesValue, frozen=True, kw_only=True, omit_defaults=False):
    """How far a ReplicaSet is (apps/v1 ReplicaSetStatus)."""

    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    terminating_replicas: int = 0
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
