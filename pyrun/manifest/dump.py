"""The way back: spec -> Kubernetes' spelling, as values and as text."""

from __future__ import annotations

from pyrun.manifest.dump_containers import dump_container, dump_resources, given
from pyrun.manifest.scalars import Value
from pyrun.spec import replicaset
from pyrun.spec.pod import EmptyDir, Metadata, OwnerReference, Pod, PodSpec, Volume
from pyrun.spec.quantity import format_bytes
from pyrun.spec.replicaset import ReplicaSet
from pyrun.spec.selector import Requirement, Selector


def dump_object(one: Pod | ReplicaSet) -> dict[str, Value]:
    """Return an object in Kubernetes' spelling, as `dump_pod` does."""
    return dump_pod(one) if isinstance(one, Pod) else dump_replica_set(one)


def dump_pod(pod: Pod) -> dict[str, Value]:
    """Return the Pod in Kubernetes' spelling; reading that back gives an equal Pod, but for its owners.

    Defaults that Kubernetes fills in (policies, grace period, protocols) are written, empty fields are not.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(pod.metadata),
        "spec": _pod_spec(pod.spec),
    }


def dump_replica_set(replica_set: ReplicaSet) -> dict[str, Value]:
    """Return the ReplicaSet in Kubernetes' spelling, as `dump_pod` does."""
    spec = replica_set.spec
    metadata = spec.template.metadata
    labels = given({"labels": dict(metadata.labels), "annotations": dict(metadata.annotations)})
    return {
        "apiVersion": replicaset.API_VERSION,
        "kind": replicaset.KIND,
        "metadata": _metadata(replica_set.metadata),
        "spec": {
            "replicas": spec.replicas,
            "minReadySeconds": spec.min_ready_seconds,
            "selector": _selector(spec.selector),
            "template": {"metadata": labels, "spec": _pod_spec(spec.template.spec)},
        },
    }


def to_yaml(value: Value) -> str:
    """Write a value as one YAML document that Kubernetes reads back as the same value."""
    from pyrun.manifest.yamltext import write_yaml  # PyYAML costs start-up time

    return write_yaml(value)


def to_json(value: Value) -> str:
    """Write a value as indented JSON, with a line end."""
    import json  # only when JSON is asked for

    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _metadata(metadata: Metadata) -> dict[str, Value]:
    return given(
        {
            "name": metadata.name,
            "generateName": metadata.generate_name,
            "namespace": metadata.namespace,
            "labels": dict(metadata.labels),
            "annotations": dict(metadata.annotations),
            "ownerReferences": [_owner(owner) for owner in metadata.owner_references],
        }
    )


def _owner(owner: OwnerReference) -> dict[str, Value]:
    return given(
        {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": owner.controller,
            "blockOwnerDeletion": owner.block_owner_deletion,
        }
    )


def _selector(selector: Selector) -> dict[str, Value]:
    return given(
        {
            "matchLabels": dict(selector.match_labels),
            "matchExpressions": [_requirement(one) for one in selector.match_expressions],
        }
    )


def _requirement(one: Requirement) -> dict[str, Value]:
    return given({"key": one.key, "operator": one.operator.value, "values": list(one.values)})


def _pod_spec(spec: PodSpec) -> dict[str, Value]:
    return given(
        {
            "initContainers": [dump_container(container) for container in spec.init_containers],
            "containers": [dump_container(container) for container in spec.containers],
            "resources": dump_resources(spec.resources) if spec.resources else {},
            "volumes": [_volume(volume) for volume in spec.volumes],
            "hostname": spec.hostname,
            "shareProcessNamespace": spec.share_process_namespace,
            "hostNetwork": spec.host_network,
            "hostPID": spec.host_pid,
            "hostIPC": spec.host_ipc,
            "restartPolicy": spec.restart_policy.value,
            "activeDeadlineSeconds": spec.active_deadline_seconds,
            "serviceAccountName": spec.service_account_name,
        }
    ) | {"terminationGracePeriodSeconds": spec.termination_grace_period_seconds}


def _volume(volume: Volume) -> dict[str, Value]:
    source = volume.source
    if isinstance(source, EmptyDir):
        limit = None if source.size_limit is None else format_bytes(source.size_limit)
        empty = given({"medium": "Memory" if source.memory else "", "sizeLimit": limit})
        return {"name": volume.name, "emptyDir": empty}
    return {"name": volume.name, "hostPath": given({"path": source.path, "type": source.type.value})}
