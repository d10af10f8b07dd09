"""The way back: spec -> Kubernetes' spelling, as values and as text."""

from __future__ import annotations

from pyrun.manifest.quantity import format_bytes
from pyrun.manifest.scalars import Value
from pyrun.spec.pod import (
    Container,
    EmptyDir,
    Metadata,
    Pod,
    SecurityContext,
    Volume,
    VolumeMount,
)


def dump_pod(pod: Pod) -> dict[str, Value]:
    """Return the Pod in Kubernetes' spelling; reading that back gives an equal Pod.

    Defaults that Kubernetes fills in (policies, grace period, protocols) are written, empty fields are not.
    """
    spec = pod.spec
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(pod.metadata),
        "spec": _given(
            {
                "containers": [_container(container) for container in spec.containers],
                "volumes": [_volume(volume) for volume in spec.volumes],
                "hostname": spec.hostname,
                "shareProcessNamespace": spec.share_process_namespace,
                "hostNetwork": spec.host_network,
                "hostPID": spec.host_pid,
                "hostIPC": spec.host_ipc,
                "restartPolicy": spec.restart_policy.value,
            }
        )
        | {"terminationGracePeriodSeconds": spec.termination_grace_period_seconds},
    }


def to_yaml(value: Value) -> str:
    """Write a value as one YAML document that Kubernetes reads back as the same value."""
    from pyrun.manifest.yamltext import write_yaml  # PyYAML costs start-up time

    return write_yaml(value)


def to_json(value: Value) -> str:
    """Write a value as indented JSON, with a line end."""
    import json  # only when JSON is asked for

    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _given(fields: dict[str, Value]) -> dict[str, Value]:
    """Leave out what is empty, false or absent: it means the same."""
    return {name: value for name, value in fields.items() if value not in (None, "", False, [], {})}


def _metadata(metadata: Metadata) -> dict[str, Value]:
    return _given(
        {
            "name": metadata.name,
            "generateName": metadata.generate_name,
            "namespace": metadata.namespace,
            "labels": dict(metadata.labels),
            "annotations": dict(metadata.annotations),
        }
    )


def _container(container: Container) -> dict[str, Value]:
    return _given(
        {
            "name": container.name,
            "image": container.image,
            "imagePullPolicy": container.image_pull_policy.value,
            "command": list(container.command or ()),
            "args": list(container.args or ()),
            "env": [_given({"name": variable.name, "value": variable.value}) for variable in container.env],
            "workingDir": container.working_dir,
            "ports": [
                _given({"name": port.name, "containerPort": port.container_port, "protocol": port.protocol})
                for port in container.ports
            ],
            "volumeMounts": [_volume_mount(mount) for mount in container.volume_mounts],
            "stdin": container.stdin,
            "tty": container.tty,
            "lifecycle": _given({"stopSignal": container.stop_signal}),
            "securityContext": _security_context(container.security_context),
        }
    )


def _volume_mount(mount: VolumeMount) -> dict[str, Value]:
    return _given(
        {
            "name": mount.name,
            "mountPath": mount.mount_path,
            "readOnly": mount.read_only,
            "subPath": mount.sub_path,
        }
    )


def _security_context(context: SecurityContext) -> dict[str, Value]:
    # 0 and false mean something else than absence here.
    chosen: dict[str, Value] = {
        "runAsUser": context.run_as_user,
        "runAsGroup": context.run_as_group,
        "allowPrivilegeEscalation": context.allow_privilege_escalation,
    }
    capabilities = _given({"add": list(context.capabilities.add), "drop": list(context.capabilities.drop)})
    return {name: value for name, value in chosen.items() if value is not None} | _given(
        {
            "privileged": context.privileged,
            "readOnlyRootFilesystem": context.read_only_root_filesystem,
            "capabilities": capabilities,
        }
    )


def _volume(volume: Volume) -> dict[str, Value]:
    source = volume.source
    if isinstance(source, EmptyDir):
        limit = None if source.size_limit is None else format_bytes(source.size_limit)
        empty = _given({"medium": "Memory" if source.memory else "", "sizeLimit": limit})
        return {"name": volume.name, "emptyDir": empty}
    return {"name": volume.name, "hostPath": _given({"path": source.path, "type": source.type.value})}
