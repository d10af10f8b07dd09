"""The one table of fields: what Kubernetes knows at each level of a Pod, and what pyrun does with it.

A field is SUPPORTED (converted to the spec), IGNORED (accepted without effect, and why) or REFUSED (known to
Kubernetes, refused by name). To support a field, move its name here and read it in `convert` or
`containers`; the reader refuses, suggests and documents from this table alone.
Source: Kubernetes API, core/v1 and meta/v1 (the structured-merge schema of client-go), 1.36.
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
    """One field of a kind. `of` is the kind of its value (of each element, when `many`)."""

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


def _supported(names: str) -> tuple[Field, ...]:
    return tuple(Field(name, Support.SUPPORTED) for name in names.split())


def _refused(names: str) -> tuple[Field, ...]:
    return tuple(Field(name, Support.REFUSED) for name in names.split())


def _ignored(names: str, why: str) -> tuple[Field, ...]:
    return tuple(Field(name, Support.IGNORED, why) for name in names.split())


def _one(name: str, kind: Kind) -> tuple[Field, ...]:
    return (Field(name, Support.SUPPORTED, of=kind),)


def _many(name: str, kind: Kind) -> tuple[Field, ...]:
    return (Field(name, Support.SUPPORTED, of=kind, many=True),)


CAPABILITIES = _kind("Capabilities", _supported("add drop"))

SECURITY_CONTEXT = _kind(
    "SecurityContext",
    _supported("runAsUser runAsGroup privileged readOnlyRootFilesystem allowPrivilegeEscalation"),
    _one("capabilities", CAPABILITIES),
    _refused("appArmorProfile procMount runAsNonRoot seLinuxOptions seccompProfile windowsOptions"),
)

LIFECYCLE = _kind("Lifecycle", _supported("stopSignal"), _refused("postStart preStop"))

ENV_VAR = _kind("EnvVar", _supported("name value"), _refused("valueFrom"))

CONTAINER_PORT = _kind(
    "ContainerPort", _supported("name containerPort protocol"), _refused("hostIP hostPort")
)

VOLUME_MOUNT = _kind(
    "VolumeMount",
    _supported("name mountPath readOnly subPath"),
    _refused("mountPropagation recursiveReadOnly subPathExpr"),
)

CONTAINER = _kind(
    "Container",
    _supported("name image imagePullPolicy command args workingDir stdin tty"),
    _many("env", ENV_VAR),
    _many("ports", CONTAINER_PORT),
    _many("volumeMounts", VOLUME_MOUNT),
    _one("securityContext", SECURITY_CONTEXT),
    _one("lifecycle", LIFECYCLE),
    _refused("envFrom livenessProbe readinessProbe startupProbe resizePolicy resources restartPolicy"),
    _refused("restartPolicyRules stdinOnce terminationMessagePath terminationMessagePolicy volumeDevices"),
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

POD_SPEC = _kind(
    "PodSpec",
    _many("containers", CONTAINER),
    _many("volumes", VOLUME),
    _supported("hostname shareProcessNamespace hostNetwork hostPID hostIPC restartPolicy"),
    _supported("terminationGracePeriodSeconds"),
    _refused("activeDeadlineSeconds affinity automountServiceAccountToken dnsConfig dnsPolicy"),
    _refused("enableServiceLinks ephemeralContainers evictionResponders hostAliases hostUsers"),
    _refused("hostnameOverride imagePullSecrets initContainers nodeName nodeSelector os overhead"),
    _refused("preemptionPolicy priority priorityClassName readinessGates resourceClaims resources"),
    _refused("runtimeClassName schedulerName schedulingGates schedulingGroup securityContext"),
    _refused("serviceAccount serviceAccountName setHostnameAsFQDN subdomain tolerations"),
    _refused("topologySpreadConstraints workloadRef"),
)

METADATA = _kind(
    "ObjectMeta",
    _supported("name generateName namespace labels annotations"),
    _ignored("uid resourceVersion creationTimestamp generation managedFields selfLink", "set by the server"),
    _refused("deletionGracePeriodSeconds deletionTimestamp finalizers ownerReferences"),
)

POD = _kind(
    "Pod",
    _supported("apiVersion kind"),
    _one("metadata", METADATA),
    _one("spec", POD_SPEC),
    _ignored("status", "observed by the server, not wished for"),
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
    PodDisruptionBudget PodGroup PodTemplate PriorityClass PriorityLevelConfiguration ReplicaSet
    ReplicationController ResourceClaim ResourceClaimTemplate ResourceQuota ResourceSlice Role
    RoleBinding RuntimeClass Secret Service ServiceAccount ServiceCIDR StatefulSet StorageClass
    StorageVersionMigration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
    ValidatingWebhookConfiguration VolumeAttachment VolumeAttributesClass Workload
"""
OTHER_KINDS = frozenset(_OTHER_KINDS.split())
"""Kinds of Kubernetes that pyrun does not take yet."""


def rows(kind: Kind = POD, prefix: str = "") -> Iterator[Row]:
    """Yield every field of `kind` and below, depth first, for the documentation."""
    for field in kind.fields.values():
        path = f"{prefix}{field.name}{'[]' if field.many else ''}"
        yield Row(path, field.support, field.why)
        if field.of is not None:
            yield from rows(field.of, f"{path}.")
