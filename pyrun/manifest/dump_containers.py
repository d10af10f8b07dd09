"""Containers on the way back: spec -> Kubernetes' spelling."""

from __future__ import annotations

from pyrun.manifest.scalars import Value
from pyrun.spec.downward import ResourceReference, divisors
from pyrun.spec.pod import Container, EnvVar, RestartRule, SecurityContext, VolumeMount
from pyrun.spec.probe import (
    ExecAction,
    GrpcAction,
    HookAction,
    HttpGetAction,
    Probe,
    ProbeAction,
    SleepAction,
    TcpSocketAction,
    action_name,
)
from pyrun.spec.resources import ResizePolicy, ResourceList, ResourceRequirements, amounts, format_amount


def given(fields: dict[str, Value]) -> dict[str, Value]:
    """Leave out what is empty, false or absent: it means the same."""
    return {name: value for name, value in fields.items() if value not in (None, "", False, [], {})}


def dump_container(container: Container) -> dict[str, Value]:
    """Return a container in Kubernetes' spelling."""
    hooks = container.lifecycle
    return given(
        {
            "name": container.name,
            "image": container.image,
            "imagePullPolicy": container.image_pull_policy.value,
            "command": list(container.command or ()),
            "args": list(container.args or ()),
            "env": [_env_var(variable) for variable in container.env],
            "workingDir": container.working_dir,
            "ports": [
                given({"name": port.name, "containerPort": port.container_port, "protocol": port.protocol})
                for port in container.ports
            ],
            "volumeMounts": [_volume_mount(mount) for mount in container.volume_mounts],
            "restartPolicy": container.restart_policy.value if container.restart_policy else "",
            "restartPolicyRules": [_restart_rule(rule) for rule in container.restart_policy_rules],
            "startupProbe": _probe(container.startup_probe),
            "readinessProbe": _probe(container.readiness_probe),
            "livenessProbe": _probe(container.liveness_probe),
            "lifecycle": given(
                {
                    "postStart": _handler(hooks.post_start),
                    "preStop": _handler(hooks.pre_stop),
                    "stopSignal": container.stop_signal,
                }
            ),
            "stdin": container.stdin,
            "tty": container.tty,
            "resources": dump_resources(container.resources),
            "resizePolicy": [_resize_policy(policy) for policy in container.resize_policy],
            "securityContext": _security_context(container.security_context),
            "terminationMessagePath": container.termination_message_path,
            "terminationMessagePolicy": container.termination_message_policy.value,
        }
    )


def _env_var(variable: EnvVar) -> dict[str, Value]:
    if variable.field_path:
        reference: dict[str, Value] = {"apiVersion": "v1", "fieldPath": variable.field_path}
        return {"name": variable.name, "valueFrom": {"fieldRef": reference}}
    if variable.resource is not None:
        return {"name": variable.name, "valueFrom": {"resourceFieldRef": _resource_field(variable.resource)}}
    return given({"name": variable.name, "value": variable.value})


def _resource_field(reference: ResourceReference) -> dict[str, Value]:
    names = {divisor: name for name, divisor in divisors(reference.resource).items()}
    fields: dict[str, Value] = {"containerName": reference.container, "resource": reference.resource}
    return given(fields | {"divisor": names[reference.divisor]})


def dump_resources(resources: ResourceRequirements) -> dict[str, Value]:
    """Return requests and limits in Kubernetes' spelling."""
    return given({"requests": _amounts(resources.requests), "limits": _amounts(resources.limits)})


def _amounts(resources: ResourceList) -> dict[str, Value]:
    return {name: format_amount(name, amount) for name, amount in amounts(resources).items()}


def _resize_policy(policy: ResizePolicy) -> dict[str, Value]:
    return {"resourceName": policy.resource.value, "restartPolicy": policy.restart.value}


def _restart_rule(rule: RestartRule) -> dict[str, Value]:
    operator = "NotIn" if rule.negated else "In"
    return {
        "action": rule.action.value,
        "exitCodes": {"operator": operator, "values": list(rule.exit_codes)},
    }


def _probe(probe: Probe | None) -> dict[str, Value]:
    if probe is None:
        return {}
    return _handler(probe.action) | given(
        {
            "initialDelaySeconds": probe.initial_delay_seconds,
            "periodSeconds": probe.period_seconds,
            "timeoutSeconds": probe.timeout_seconds,
            "successThreshold": probe.success_threshold,
            "failureThreshold": probe.failure_threshold,
            "terminationGracePeriodSeconds": probe.termination_grace_period_seconds,
        }
    )


def _handler(action: ProbeAction | HookAction | None) -> dict[str, Value]:
    """Return the one handler of a probe or hook, none as nothing."""
    if action is None:
        return {}
    fields: dict[str, Value]
    match action:
        case ExecAction():
            fields = {"command": list(action.command)}
        case HttpGetAction():
            headers: list[Value] = [{"name": one.name, "value": one.value} for one in action.headers]
            fields = {"path": action.path, "port": action.port, "host": action.host}
            fields |= {"scheme": action.scheme, "httpHeaders": headers}
        case TcpSocketAction():
            fields = {"port": action.port, "host": action.host}
        case GrpcAction():
            fields = {"port": action.port, "service": action.service}
        case SleepAction():
            return {"sleep": {"seconds": action.seconds}}  # 0 is said, it is required
    return {action_name(action): given(fields)}


def _volume_mount(mount: VolumeMount) -> dict[str, Value]:
    return given(
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
    capabilities = given({"add": list(context.capabilities.add), "drop": list(context.capabilities.drop)})
    return {name: value for name, value in chosen.items() if value is not None} | given(
        {
            "privileged": context.privileged,
            "readOnlyRootFilesystem": context.read_only_root_filesystem,
            "capabilities": capabilities,
        }
    )
