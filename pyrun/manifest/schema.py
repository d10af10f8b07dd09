"""The one table of fields: what Kubernetes knows at each level of an object, and what pyrun does with it.

A field is SUPPORTED (converted to the spec), IGNORED (accepted without effect, and why) or REFUSED (known to
Kubernetes, refused by name). To support a field, move its name here and read it in `convert` or
`containers`; the reader refuses, suggests and documents (docs/fields.md) from this table alone.
Source: Kubernetes API, core/v1, apps/v1 and meta/v1 (the structured-merge schema of client-go), 1.36.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec


class Support(enum.Enum):
    """What pyrun does with a field that Kubernetes knows."""

    SUPPORTED = "supported"
    IGNORED = "accepted without effect"
    REFUSED = "refused"


class Field(msgspec.Struct, frozen=True):
    """One field of a kind. `of` is the kind of its value (of each element, when `many`).

    `why`: why it is ignored or refused (empty: not supported yet); of a supported one, its limits.
    """

    name: str
    support: Support
    why: str = ""
    of: Kind | None = None
    many: bool = False


class Kind(msgspec.Struct, frozen=True):
    """The fields of one kind of object, by name."""

    name: str
    fields: dict[str, Field]


class Row(msgspec.Struct, frozen=True):
    """A field for a reader of the documentation: `spec.containers[].image`."""

    path: str
    support: Support
    why: str


def _kind(name: str, *groups: tuple[Field, ...]) -> Kind:
    return Kind(name, {field.name: field for group in groups for field in group})


def _supported(names: str, note: str = "") -> tuple[Field, ...]:
    return tuple(Field(name, Support.SUPPORTED, note) for name in names.split())


def _refused(names: str, why: str = "") -> tuple[Field, ...]:
    return tuple(Field(name, Support.REFUSED, why) for name in names.split())


def _ignored(names: str, why: str) -> tuple[Field, ...]:
    return tuple(Field(name, Support.IGNORED, why) for name in names.split())


def _one(name: str, kind: Kind, note: str = "") -> tuple[Field, ...]:
    return (Field(name, Support.SUPPORTED, note, of=kind),)


def _many(name: str, kind: Kind, note: str = "") -> tuple[Field, ...]:
    return (Field(name, Support.SUPPORTED, note, of=kind, many=True),)


CAPABILITIES = _kind("Capabilities", _supported("add drop"))

SECURITY_CONTEXT = _kind(
    "SecurityContext",
    _supported("runAsUser runAsGroup privileged readOnlyRootFilesystem allowPrivilegeEscalation"),
    _one("capabilities", CAPABILITIES),
    _refused("appArmorProfile procMount runAsNonRoot seLinuxOptions seccompProfile windowsOptions"),
)

EXEC_ACTION = _kind("ExecAction", _supported("command"))

HTTP_HEADER = _kind("HTTPHeader", _supported("name value"))

_HOST = "an IP address or localhost; names are not resolved"
_PORT = "a number, or the name of a port of the container"

HTTP_GET_ACTION = _kind(
    "HTTPGetAction",
    _supported("path scheme"),
    _supported("port", _PORT),
    _supported("host", _HOST),
    _many("httpHeaders", HTTP_HEADER),
)

TCP_SOCKET_ACTION = _kind("TCPSocketAction", _supported("port", _PORT), _supported("host", _HOST))

GRPC_ACTION = _kind("GRPCAction", _supported("port service"))

SLEEP_ACTION = _kind("SleepAction", _supported("seconds", "at most terminationGracePeriodSeconds"))

PROBE = _kind(
    "Probe",
    _one("exec", EXEC_ACTION),
    _one("httpGet", HTTP_GET_ACTION),
    _one("tcpSocket", TCP_SOCKET_ACTION),
    _one("grpc", GRPC_ACTION),
    _supported("initialDelaySeconds periodSeconds timeoutSeconds failureThreshold"),
    _supported("successThreshold", "1 unless a readinessProbe's"),
    _supported("terminationGracePeriodSeconds", "not of a readinessProbe"),
)

LIFECYCLE_HANDLER = _kind(
    "LifecycleHandler",
    _one("exec", EXEC_ACTION),
    _one("httpGet", HTTP_GET_ACTION),
    _one("sleep", SLEEP_ACTION),
    _refused("tcpSocket", "deprecated by Kubernetes, whose hooks fail with it"),
)

LIFECYCLE = _kind(
    "Lifecycle",
    _one("postStart", LIFECYCLE_HANDLER),
    _one("preStop", LIFECYCLE_HANDLER),
    _supported("stopSignal"),
)

OBJECT_FIELD_SELECTOR = _kind(
    "ObjectFieldSelector",
    _supported("apiVersion", "v1"),
    _supported(
        "fieldPath", "of the Pod: name, namespace, uid, a label, an annotation, node, account, addresses"
    ),
)

RESOURCE_FIELD_SELECTOR = _kind(
    "ResourceFieldSelector",
    _supported(
        "resource", "requests or limits of cpu, memory, ephemeral-storage; a limit not given is the host's"
    ),
    _supported("containerName", "its own unless given"),
    _supported("divisor", "1m or 1 of cpu, else 1 to 1E and 1Ki to 1Ei"),
)

ENV_VAR_SOURCE = _kind(
    "EnvVarSource",
    _one("fieldRef", OBJECT_FIELD_SELECTOR),
    _one("resourceFieldRef", RESOURCE_FIELD_SELECTOR),
    _refused("configMapKeyRef fileKeyRef secretKeyRef"),
)

ENV_VAR = _kind("EnvVar", _supported("name value"), _one("valueFrom", ENV_VAR_SOURCE))

CONTAINER_PORT = _kind(
    "ContainerPort", _supported("name containerPort protocol"), _refused("hostIP hostPort")
)

VOLUME_MOUNT = _kind(
    "VolumeMount",
    _supported("name mountPath readOnly subPath"),
    _refused("mountPropagation recursiveReadOnly subPathExpr"),
)

RESTART_RULE_CODES = _kind("ContainerRestartRuleOnExitCodes", _supported("operator values"))

RESTART_RULE = _kind("ContainerRestartRule", _supported("action"), _one("exitCodes", RESTART_RULE_CODES))

RESOURCE_REQUIREMENTS = _kind(
    "ResourceRequirements",
    _supported("requests", "as limits; unless given equal to the limit"),
    _supported("limits", "cpu, memory, hugepages-SIZE; of a container ephemeral-storage too"),
    _refused("claims", "there are no device plugins"),
)

RESIZE_POLICY = _kind(
    "ContainerResizePolicy",
    _supported("resourceName", "cpu or memory"),
    _supported("restartPolicy", "NotRequired (what is not given) or RestartContainer"),
)

_NO_PROBES = "of an init container only when its restartPolicy is Always (a sidecar)"

CONTAINER = _kind(
    "Container",
    _supported("name image imagePullPolicy command args workingDir stdin tty"),
    _many("env", ENV_VAR),
    _many("ports", CONTAINER_PORT),
    _many("volumeMounts", VOLUME_MOUNT),
    _one("resources", RESOURCE_REQUIREMENTS),
    _many(
        "resizePolicy",
        RESIZE_POLICY,
        "what a change of resources (pod resize, apply) does; of an init container only when it is a sidecar",
    ),
    _one("securityContext", SECURITY_CONTEXT),
    _supported("restartPolicy", "Always makes an init container a sidecar"),
    _many("restartPolicyRules", RESTART_RULE),
    _one("startupProbe", PROBE, _NO_PROBES),
    _one("readinessProbe", PROBE, _NO_PROBES),
    _one("livenessProbe", PROBE, _NO_PROBES),
    _one("lifecycle", LIFECYCLE, _NO_PROBES),
    _supported("terminationMessagePath terminationMessagePolicy"),
    _refused("envFrom stdinOnce volumeDevices"),
)

EMPTY_DIR = _kind("EmptyDirVolumeSource", _supported("medium sizeLimit"))

HOST_PATH = _kind("HostPathVolumeSource", _supported("path type"))

VOLUME = _kind(
    "Volume",
    _supported("name"),
    _one("emptyDir", EMPTY_DIR),
    _one("hostPath", HOST_PATH),
    _refused("awsElasticBlockStore azureDisk azureFile cephfs cinder configMap csi downwardAPI ephemeral fc"),
    _refused("flexVolume flocker gcePersistentDisk gitRepo glusterfs image iscsi nfs persistentVolumeClaim"),
    _refused("photonPersistentDisk portworxVolume projected quobyte rbd scaleIO secret storageos"),
    _refused("vsphereVolume"),
)

POD_OS = _kind("PodOS", _supported("name", "linux"))

_ONE_NODE = "there is one node, and nothing to schedule"
_ACCOUNT = "there are no accounts; what is given is what a fieldRef reads"

POD_SPEC = _kind(
    "PodSpec",
    _many("initContainers", CONTAINER),
    _many("containers", CONTAINER),
    _many("volumes", VOLUME),
    _supported("hostname shareProcessNamespace hostNetwork hostPID hostIPC"),
    _supported("restartPolicy", "in a ReplicaSet only Always"),
    _supported("terminationGracePeriodSeconds"),
    _supported("activeDeadlineSeconds", "not in a ReplicaSet"),
    _one("resources", RESOURCE_REQUIREMENTS, "of the Pod as a whole"),
    _one("os", POD_OS),
    _supported("serviceAccountName", _ACCOUNT),
    _supported("serviceAccount", "the older name of serviceAccountName"),
    _ignored("nodeName nodeSelector affinity tolerations topologySpreadConstraints", _ONE_NODE),
    _ignored("schedulerName priority priorityClassName preemptionPolicy", _ONE_NODE),
    _ignored("automountServiceAccountToken", "there is no API server that a token would be for"),
    _ignored("enableServiceLinks", "there are no Services"),
    _refused("dnsConfig dnsPolicy ephemeralContainers evictionResponders hostAliases hostUsers"),
    _refused("hostnameOverride imagePullSecrets overhead readinessGates resourceClaims"),
    _refused("runtimeClassName schedulingGates schedulingGroup securityContext setHostnameAsFQDN"),
    _refused("subdomain workloadRef"),
)

_OF_SERVER = (
    _ignored("uid resourceVersion creationTimestamp generation managedFields selfLink", "set by the server"),
    _ignored("deletionGracePeriodSeconds deletionTimestamp", "set by the server when an object is deleted"),
    _ignored("ownerReferences", "set by controllers"),
    _refused("finalizers"),
)

METADATA = _kind("ObjectMeta", _supported("name generateName namespace labels annotations"), *_OF_SERVER)

TEMPLATE_METADATA = _kind(
    "ObjectMeta of a PodTemplateSpec",
    _supported("labels annotations"),
    _ignored("name generateName namespace", "a controller names the Pods that it makes"),
    *_OF_SERVER,
)

_STATUS = _ignored("status", "observed by the server, not wished for")

POD = _kind("Pod", _supported("apiVersion kind"), _one("metadata", METADATA), _one("spec", POD_SPEC), _STATUS)

LABEL_SELECTOR_REQUIREMENT = _kind("LabelSelectorRequirement", _supported("key operator values"))

LABEL_SELECTOR = _kind(
    "LabelSelector", _supported("matchLabels"), _many("matchExpressions", LABEL_SELECTOR_REQUIREMENT)
)

POD_TEMPLATE = _kind("PodTemplateSpec", _one("metadata", TEMPLATE_METADATA), _one("spec", POD_SPEC))

REPLICA_SET_SPEC = _kind(
    "ReplicaSetSpec",
    _supported("replicas minReadySeconds"),
    _one("selector", LABEL_SELECTOR),
    _one("template", POD_TEMPLATE),
)

REPLICA_SET = _kind(
    "ReplicaSet",
    _supported("apiVersion kind"),
    _one("metadata", METADATA),
    _one("spec", REPLICA_SET_SPEC),
    _STATUS,
)

LIST = _kind(
    "List",
    _supported("apiVersion kind items"),
    _ignored("metadata", "a list in a file has no identity"),
)

_OTHER_KINDS = """
    APIService Binding CertificateSigningRequest ClusterRole ClusterRoleBinding ClusterTrustBundle
    ComponentStatus ConfigMap ControllerRevision CronJob CSIDriver CSINode CSIStorageCapacity
    CustomResourceDefinition DaemonSet Deployment DeviceClass DeviceTaintRule Endpoints EndpointSlice
    Event FlowSchema HorizontalPodAutoscaler Ingress IngressClass IPAddress Job Lease LeaseCandidate
    LimitRange MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
    Namespace NetworkPolicy Node PersistentVolume PersistentVolumeClaim PodCertificateRequest
    PodDisruptionBudget PodGroup PodTemplate PriorityClass PriorityLevelConfiguration
    ReplicationController ResourceClaim ResourceClaimTemplate ResourceQuota ResourceSlice Role
    RoleBinding RuntimeClass Secret Service ServiceAccount ServiceCIDR StatefulSet StorageClass
    StorageVersionMigration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
    ValidatingWebhookConfiguration VolumeAttachment VolumeAttributesClass Workload
"""
OTHER_KINDS = frozenset(_OTHER_KINDS.split())
"""Kinds of Kubernetes that pyrun does not take yet."""


def kinds(*roots: Kind) -> tuple[Kind, ...]:
    """Return the kinds of these and below, each once, depth first."""
    found: dict[str, Kind] = {}
    waiting = list(reversed(roots))
    while waiting:
        kind = waiting.pop()
        if kind.name not in found:
            found[kind.name] = kind
            waiting += [field.of for field in reversed(kind.fields.values()) if field.of is not None]
    return tuple(found.values())


def rows(kind: Kind = POD, prefix: str = "") -> Iterator[Row]:
    """Yield every field of `kind` and below with its path, depth first."""
    for field in kind.fields.values():
        path = f"{prefix}{field.name}{'[]' if field.many else ''}"
        yield Row(path, field.support, field.why)
        if field.of is not None:
            yield from rows(field.of, f"{path}.")
