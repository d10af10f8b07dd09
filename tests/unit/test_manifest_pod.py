"""Pods: every field converted, refused or ignored by the table; the rules; the way back."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrun.errors import ManifestError
from pyrun.manifest import dump_pod, load_pods, to_json, to_yaml
from pyrun.manifest.containers import SIGNAL_NAMES, default_pull_policy
from pyrun.manifest.nearest import nearest
from pyrun.manifest.reader import MAX_PROBLEMS
from pyrun.manifest.scalars import Value
from pyrun.manifest.schema import OTHER_KINDS, POD, Kind, Support, rows
from pyrun.spec.downward import ResourceReference
from pyrun.spec.pod import (
    Capabilities,
    Container,
    ContainerPort,
    EmptyDir,
    EnvVar,
    HostPath,
    HostPathType,
    Metadata,
    OwnerReference,
    Pod,
    PodSpec,
    PullPolicy,
    RestartPolicy,
    RestartRule,
    RestartRuleAction,
    SecurityContext,
    TerminationMessagePolicy,
    Volume,
    VolumeMount,
)
from pyrun.spec.probe import (
    ExecAction,
    GrpcAction,
    HttpGetAction,
    HttpHeader,
    Lifecycle,
    Probe,
    SleepAction,
    TcpSocketAction,
)
from pyrun.spec.resources import (
    ResizableResource,
    ResizePolicy,
    ResourceList,
    ResourceRequirements,
    RestartOnResize,
)
from tests.unit.manifest_kit import load, place_of, problems, put, small
from tests.unit.manifest_values import pods

FULL = """
apiVersion: v1
kind: Pod
metadata:
  name: web.1
  generateName: web-
  namespace: shop
  labels: {app.kubernetes.io/name: nginx, tier: ""}
  annotations: {Example.com/note: "any text: at all", empty: ~}
  uid: 6a1f
  resourceVersion: "12"
  creationTimestamp: 2024-01-01T00:00:00Z
  generation: 1
  managedFields: [{manager: kubectl}]
  selfLink: /api/v1/x
spec:
  hostname: www
  shareProcessNamespace: true
  hostNetwork: true
  hostPID: false
  hostIPC: true
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 5
  activeDeadlineSeconds: 600
  os: {name: linux}
  resources:
    requests: {cpu: 3, memory: 1Gi}
    limits: {memory: 2Gi}
  serviceAccountName: builder
  serviceAccount: builder
  initContainers:
  - {name: migrate, image: "tools:1", restartPolicy: Never, command: [migrate]}
  - name: proxy
    image: proxy:1
    restartPolicy: Always
    ports: [{name: admin, containerPort: 9901}]
    startupProbe: {httpGet: {path: /ready, port: admin}, periodSeconds: 2}
    lifecycle: {preStop: {sleep: {seconds: 5}}}
  volumes:
  - name: plain
  - name: null-source
    emptyDir:
  - {name: disk, emptyDir: {sizeLimit: 1.5Gi}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1e3}}
  - {name: host, hostPath: {path: /srv, type: DirectoryOrCreate}}
  - {name: any, hostPath: {path: /srv}}
  containers:
  - name: nginx
    image: registry:5000/nginx
    imagePullPolicy: Never
    command: [nginx, -g]
    args: ["daemon off;"]
    env:
    - {name: A, value: "1"}
    - {name: A}
    - {name: "odd name.$", value: $(A)}
    - {name: ME, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app.kubernetes.io/name']"}}}
    - name: CPUS
      valueFrom: {resourceFieldRef: {containerName: tcp, resource: limits.cpu, divisor: 1m}}
    workingDir: /srv
    ports: [{name: http, containerPort: 80}, {containerPort: 53.0, protocol: UDP}]
    volumeMounts:
    - {name: disk, mountPath: /data, readOnly: true, subPath: a/b}
    - {name: host, mountPath: /host/}
    stdin: true
    tty: true
    restartPolicy: OnFailure
    restartPolicyRules:
    - {action: Restart, exitCodes: {operator: In, values: [42, 43]}}
    - {action: RestartAllContainers, exitCodes: {operator: NotIn, values: [1]}}
    startupProbe: {exec: {command: [test, -e, /run/up]}, failureThreshold: 30}
    readinessProbe:
      httpGet:
        {path: /ready?full, port: http, host: 127.0.0.1, scheme: HTTPS, httpHeaders: [{name: X-A, value: b}]}
      initialDelaySeconds: 1
      periodSeconds: 2
      timeoutSeconds: 3
      successThreshold: 4
      failureThreshold: 5
    livenessProbe: {grpc: {port: 9000, service: web}, terminationGracePeriodSeconds: 7}
    lifecycle:
      stopSignal: SIGRTMIN+3
      postStart: {exec: {command: [touch, /run/started]}}
      preStop: {httpGet: {port: 80}}
    terminationMessagePath: /run/last-words
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      runAsUser: 0
      runAsGroup: 2147483647
      privileged: false
      capabilities: {add: [CAP_NET_ADMIN, sys_time, NET_ADMIN], drop: [ALL]}
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
  - {name: small, image: nginx, command: [], args: ~, lifecycle: {}, securityContext: ~}
  - {name: tcp, image: "x:1", livenessProbe: {tcpSocket: {port: 80}}, readinessProbe: ~}
  - name: limited
    image: x:1
    resources:
      requests: {cpu: 0.25, memory: 64Mi}
      limits: {cpu: 1500m, memory: 1e8, ephemeral-storage: 1Gi, hugepages-2048Ki: 4Mi}
    resizePolicy:
    - {resourceName: memory, restartPolicy: RestartContainer}
    - {resourceName: cpu, restartPolicy: NotRequired}
status: {phase: Running}
"""

EXPECTED = Pod(
    metadata=Metadata(
        name="web.1",
        generate_name="web-",
        namespace="shop",
        labels={"app.kubernetes.io/name": "nginx", "tier": ""},
        annotations={"Example.com/note": "any text: at all", "empty": ""},
    ),
    spec=PodSpec(
        hostname="www",
        share_process_namespace=True,
        host_network=True,
        host_ipc=True,
        restart_policy=RestartPolicy.ON_FAILURE,
        termination_grace_period_seconds=5,
        active_deadline_seconds=600,
        service_account_name="builder",
        resources=ResourceRequirements(
            requests=ResourceList(cpu_millis=3000, memory=2**30), limits=ResourceList(memory=2**31)
        ),
        init_containers=(
            Container(
                name="migrate",
                image="tools:1",
                image_pull_policy=PullPolicy.IF_NOT_PRESENT,
                restart_policy=RestartPolicy.NEVER,
                command=("migrate",),
            ),
            Container(
                name="proxy",
                image="proxy:1",
                image_pull_policy=PullPolicy.IF_NOT_PRESENT,
                restart_policy=RestartPolicy.ALWAYS,
                ports=(ContainerPort(name="admin", container_port=9901),),
                startup_probe=Probe(action=HttpGetAction(path="/ready", port="admin"), period_seconds=2),
                lifecycle=Lifecycle(pre_stop=SleepAction(seconds=5)),
            ),
        ),
        volumes=(
            Volume(name="plain", source=EmptyDir()),
            Volume(name="null-source", source=EmptyDir()),
            Volume(name="disk", source=EmptyDir(size_limit=3 * 2**29)),
            Volume(name="memory", source=EmptyDir(memory=True, size_limit=1000)),
            Volume(name="host", source=HostPath(path="/srv", type=HostPathType.DIRECTORY_OR_CREATE)),
            Volume(name="any", source=HostPath(path="/srv")),
        ),
        containers=(
            Container(
                name="nginx",
                image="registry:5000/nginx",
                image_pull_policy=PullPolicy.NEVER,
                command=("nginx", "-g"),
                args=("daemon off;",),
                env=(
                    EnvVar(name="A", value="1"),
                    EnvVar(name="A"),
                    EnvVar(name="odd name.$", value="$(A)"),
                    EnvVar(name="ME", field_path="metadata.name"),
                    EnvVar(name="TIER", field_path="metadata.labels['app.kubernetes.io/name']"),
                    EnvVar(
                        name="CPUS",
                        resource=ResourceReference(resource="limits.cpu", divisor=1, container="tcp"),
                    ),
                ),
                working_dir="/srv",
                ports=(
                    ContainerPort(name="http", container_port=80),
                    ContainerPort(container_port=53, protocol="UDP"),
                ),
                volume_mounts=(
                    VolumeMount(name="disk", mount_path="/data", read_only=True, sub_path="a/b"),
                    VolumeMount(name="host", mount_path="/host/"),
                ),
                stdin=True,
                tty=True,
                stop_signal="SIGRTMIN+3",
                restart_policy=RestartPolicy.ON_FAILURE,
                restart_policy_rules=(
                    RestartRule(action=RestartRuleAction.RESTART, exit_codes=(42, 43)),
                    RestartRule(
                        action=RestartRuleAction.RESTART_ALL_CONTAINERS, exit_codes=(1,), negated=True
                    ),
                ),
                startup_probe=Probe(
                    action=ExecAction(command=("test", "-e", "/run/up")), failure_threshold=30
                ),
                readiness_probe=Probe(
                    action=HttpGetAction(
                        path="/ready?full",
                        port="http",
                        host="127.0.0.1",
                        scheme="HTTPS",
                        headers=(HttpHeader(name="X-A", value="b"),),
                    ),
                    initial_delay_seconds=1,
                    period_seconds=2,
                    timeout_seconds=3,
                    success_threshold=4,
                    failure_threshold=5,
                ),
                liveness_probe=Probe(
                    action=GrpcAction(port=9000, service="web"), termination_grace_period_seconds=7
                ),
                lifecycle=Lifecycle(
                    post_start=ExecAction(command=("touch", "/run/started")),
                    pre_stop=HttpGetAction(port=80, path="/", scheme="HTTP"),
                ),
                termination_message_path="/run/last-words",
                termination_message_policy=TerminationMessagePolicy.FALLBACK_TO_LOGS_ON_ERROR,
                security_context=SecurityContext(
                    run_as_user=0,
                    run_as_group=2**31 - 1,
                    capabilities=Capabilities(add=("NET_ADMIN", "SYS_TIME"), drop=("ALL",)),
                    read_only_root_filesystem=True,
                    allow_privilege_escalation=False,
                ),
            ),
            Container(name="small", image="nginx", image_pull_policy=PullPolicy.ALWAYS),
            Container(
                name="tcp",
                image="x:1",
                image_pull_policy=PullPolicy.IF_NOT_PRESENT,
                liveness_probe=Probe(action=TcpSocketAction(port=80)),
            ),
            Container(
                name="limited",
                image="x:1",
                image_pull_policy=PullPolicy.IF_NOT_PRESENT,
                resources=ResourceRequirements(
                    requests=ResourceList(
                        cpu_millis=250,
                        memory=2**26,
                        ephemeral_storage=2**30,
                        hugepages=((2**21, 2**22),),
                    ),
                    limits=ResourceList(
                        cpu_millis=1500,
                        memory=10**8,
                        ephemeral_storage=2**30,
                        hugepages=((2**21, 2**22),),
                    ),
                ),
                resize_policy=(
                    ResizePolicy(
                        resource=ResizableResource.MEMORY, restart=RestartOnResize.RESTART_CONTAINER
                    ),
                    ResizePolicy(resource=ResizableResource.CPU, restart=RestartOnResize.NOT_REQUIRED),
                ),
            ),
        ),
    ),
)


def test_every_supported_field() -> None:
    assert load_pods(FULL, "full.yaml") == (EXPECTED,)


def test_the_full_manifest_names_every_supported_field() -> None:
    names = {row.path.split(".")[-1].removesuffix("[]") for row in rows() if row.support is Support.SUPPORTED}
    assert {name for name in names if f"{name}:" not in FULL} == set()


def test_defaults() -> None:
    pod = load(small())
    assert pod.metadata == Metadata(name="web", namespace="default")
    assert pod.spec.restart_policy is RestartPolicy.ALWAYS
    assert pod.spec.termination_grace_period_seconds == 30
    container = pod.spec.containers[0]
    assert (container.command, container.args, container.stop_signal) == (None, None, "")
    assert container.ports == (ContainerPort(container_port=80, protocol="TCP"),)
    assert container.security_context == SecurityContext()
    assert pod.spec.volumes[0].source == EmptyDir(memory=False, size_limit=None)


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", PullPolicy.ALWAYS),
        ("nginx:latest", PullPolicy.ALWAYS),
        ("localhost:5000/nginx", PullPolicy.ALWAYS),
        ("localhost:5000/nginx:latest", PullPolicy.ALWAYS),
        ("nginx:latest@sha256:00", PullPolicy.ALWAYS),
        ("nginx:1.22", PullPolicy.IF_NOT_PRESENT),
        ("localhost:5000/a/nginx:1", PullPolicy.IF_NOT_PRESENT),
        ("nginx@sha256:00", PullPolicy.IF_NOT_PRESENT),
        ("localhost:5000/nginx@sha256:00", PullPolicy.IF_NOT_PRESENT),
    ],
)
def test_default_pull_policy(image: str, policy: PullPolicy) -> None:
    assert default_pull_policy(image) is policy


REFUSED = {place_of(row.path): row.why for row in rows() if row.support is Support.REFUSED}


@pytest.mark.parametrize(("path", "why"), REFUSED.items())
def test_what_kubernetes_knows_is_refused_by_name(path: str, why: str) -> None:
    reason = f"not supported by pyrun: {why}" if why else "known to Kubernetes, not supported by pyrun yet"
    values: list[Value] = [{}, [], 1, "x", True]
    for value in values:
        assert problems(put(small(path), path, value)) == [f"{path}: {reason}"]
    assert load(put(small(path), path, None)) == load(small(path))


IGNORED = [place_of(row.path) for row in rows() if row.support is Support.IGNORED]


@pytest.mark.parametrize("path", IGNORED)
def test_what_has_no_effect_is_accepted_whatever_it_is(path: str) -> None:
    values: list[Value] = [{}, [{"a": 1}], 1, "x", True]
    for value in values:
        assert load(put(small(), path, value)) == load(small())


OF_A_CLUSTER = """
    metadata.ownerReferences metadata.deletionTimestamp metadata.deletionGracePeriodSeconds metadata.uid
    metadata.resourceVersion metadata.generation metadata.creationTimestamp metadata.managedFields status
    spec.nodeName spec.nodeSelector spec.affinity spec.tolerations spec.topologySpreadConstraints
    spec.schedulerName spec.priority spec.priorityClassName spec.preemptionPolicy
    spec.automountServiceAccountToken spec.enableServiceLinks
"""


def test_what_a_real_cluster_adds_has_no_effect() -> None:
    assert set(OF_A_CLUSTER.split()) <= set(IGNORED)
    assert "metadata.finalizers" in REFUSED


def test_the_table_is_complete() -> None:
    by_level: dict[str, int] = {}
    for row in rows():
        by_level[row.path.rpartition(".")[0]] = by_level.get(row.path.rpartition(".")[0], 0) + 1
    # As counted in the schema of client-go; evictionResponders and workloadRef come and go between versions.
    assert by_level[""] == 5
    assert by_level["metadata"] == 15
    assert by_level["spec"] == 42 + 2
    assert by_level["spec.containers[]"] == 25
    assert by_level["spec.containers[].securityContext"] == 12
    assert by_level["spec.volumes[]"] == 31
    assert by_level["spec.containers[].volumeMounts[]"] == 7
    assert by_level["spec.containers[].ports[]"] == 5
    assert by_level["spec.containers[].env[]"] == 3
    for path in (
        "spec.ephemeralContainers",
        "spec.hostnameOverride",
        "spec.hostUsers",
    ):
        assert path in REFUSED
    assert all(row.why for row in rows() if row.support is Support.IGNORED)


def levels(kind: Kind, prefix: str = "") -> list[tuple[str, Kind]]:
    found = [(prefix, kind)]
    for field in kind.fields.values():
        if field.of is not None:
            found += levels(field.of, f"{prefix}{field.name}{'[]' if field.many else ''}.")
    return found


@pytest.mark.parametrize(("prefix", "kind"), levels(POD))
def test_unknown_fields_of_every_level(prefix: str, kind: Kind) -> None:
    place = place_of(prefix)
    pod = small(place)
    assert problems(put(pod, f"{place}zzzzzzzzzz", None)) == [f"{place}zzzzzzzzzz: unknown field"]
    for name in kind.fields:
        wrong = name.swapcase()
        assert f'{place}{wrong}: unknown field, did you mean "{name}"?' in problems(
            put(pod, f"{place}{wrong}", 1)
        )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("imagee", "image"), ("comand", "command"), ("evn", "env"), ("volumeMount", "volumeMounts")],
)
def test_the_nearest_name_is_suggested(wrong: str, right: str) -> None:
    path = f"spec.containers[0].{wrong}"
    assert problems(put(small(), path, 1)) == [f'{path}: unknown field, did you mean "{right}"?']


def test_nearest() -> None:
    assert nearest("hostPid", ("hostPID", "hostIPC")) == "hostPID"
    assert nearest("hostnetwrok", ("hostNetwork",)) == "hostNetwork"
    assert nearest("zzz", ("hostNetwork",)) is None
    assert nearest("", ("a", "bc")) == "a"
    assert nearest("x" * 101, ("x" * 101,)) is None


C = "spec.containers[0]"
BY_TYPE: list[tuple[str, Value, str]] = [
    ("spec", [], "expected a mapping, got a list"),
    ("metadata", "x", "expected a mapping, got a string"),
    ("spec.containers", "x", "expected a list, got a string"),
    ("spec.containers", {}, "expected a list, got a mapping"),
    ("spec.containers", [], "required, at least one container"),
    ("spec.containers", None, "required, at least one container"),
    (f"{C}.ports", 1, "expected a list, got number 1"),
    ("spec.hostNetwork", "true", "expected a boolean, got a string; remove the quotes"),
    ("spec.hostNetwork", 1, "expected a boolean, got number 1"),
    ("spec.terminationGracePeriodSeconds", "30", "expected an integer, got a string; remove the quotes"),
    ("spec.terminationGracePeriodSeconds", 1.5, "expected an integer, got number 1.5"),
    ("spec.terminationGracePeriodSeconds", True, "expected an integer, got boolean true"),
    (f"{C}.command", "sh -c x", "expected a list, got a string"),
    (f"{C}.image", 3, "expected a string, got number 3; quote it"),
    ("metadata.name", 2.5, "expected a string, got number 2.5; quote it"),
    ("metadata.labels", ["x"], "expected a mapping, got a list"),
]
BY_ELEMENT: list[tuple[str, Value, str, str]] = [
    (f"{C}.command", ["sh", 1], f"{C}.command[1]", "expected a string, got number 1; quote it"),
    (f"{C}.args", [None], f"{C}.args[0]", "expected a string, got null"),
    (f"{C}.args", ["a\0b"], f"{C}.args[0]", "contains a NUL character"),
    (
        f"{C}.env",
        [{"name": "A", "value": True}],
        f"{C}.env[0].value",
        "expected a string, got boolean true; quote it",
    ),
    (f"{C}.env", ["A=1"], f"{C}.env[0]", "expected a mapping, got a string"),
    (f"{C}.env", [{"value": "1"}], f"{C}.env[0].name", "required"),
    (f"{C}.ports", [{}], f"{C}.ports[0].containerPort", "required"),
    (f"{C}.volumeMounts", [{"name": "v"}], f"{C}.volumeMounts[0].mountPath", "required"),
    (f"{C}.volumeMounts", [{"mountPath": "/v"}], f"{C}.volumeMounts[0].name", "required"),
    ("metadata.labels", {"a": 1}, "metadata.labels[a]", "expected a string, got number 1; quote it"),
    (
        "metadata.annotations",
        {"a": False},
        "metadata.annotations[a]",
        "expected a string, got boolean false; quote it",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), BY_TYPE)
def test_wrong_types_in_words(path: str, value: Value, message: str) -> None:
    assert problems(put(small(), path, value)) == [f"{path}: {message}"]


@pytest.mark.parametrize(("path", "value", "place", "message"), BY_ELEMENT)
def test_wrong_elements(path: str, value: Value, place: str, message: str) -> None:
    assert problems(put(small(), path, value)) == [f"{place}: {message}"]


BAD: list[tuple[str, Value, str]] = [
    ("apiVersion", "v2", 'expected "v1" for kind Pod, got "v2"'),
    ("apiVersion", None, "required"),
    ("kind", None, "required"),
    ("kind", 7, "expected a string, got number 7; quote it"),
    ("metadata", None, "required"),
    ("spec", None, "required"),
    ("metadata.name", None, "required, or generateName"),
    ("metadata.name", "", "required, or generateName"),
    ("metadata.name", "Web", "not a DNS name"),
    ("metadata.name", "a..b", "not a DNS name"),
    ("metadata.name", "web\n", "not a DNS name"),
    ("metadata.name", "a" * 254, "longer than 253 characters (254)"),
    ("metadata.generateName", "-web", "not a DNS name"),
    ("metadata.namespace", "a.b", "not a DNS label"),
    ("metadata.labels[a b]", "x", "is not a key"),
    ("metadata.labels[/a]", "x", "the part before the slash"),
    ("metadata.labels[A.b/c]", "x", "the part before the slash"),
    ("metadata.labels[a/]", "x", "is not a key"),
    (f"metadata.labels[{'a' * 64}]", "x", "is not a key"),
    ("metadata.labels[a]", "x y", "is not a label value"),
    ("metadata.labels[a]", "x" * 64, "is not a label value"),
    ("metadata.annotations[a b]", "x", "is not a key"),
    ("spec.hostname", "a.b", "not a DNS label"),
    ("spec.hostname", "a" * 64, "longer than 63 characters (64)"),
    ("spec.restartPolicy", "always", 'unknown value "always", did you mean "Always"?'),
    ("spec.restartPolicy", "Sometimes", "known are Always, OnFailure, Never"),
    ("spec.terminationGracePeriodSeconds", -1, "must be between 0 and"),
    (f"{C}.name", "web_1", "not a DNS label"),
    (f"{C}.name", None, "required"),
    (f"{C}.name", "", "required"),
    (f"{C}.image", None, "required"),
    (f"{C}.image", "", "required"),
    (f"{C}.image", " nginx", "must not begin or end with white space"),
    (f"{C}.image", "nginx\n", "must not begin or end with white space"),
    (f"{C}.imagePullPolicy", "IfNotpresent", 'did you mean "IfNotPresent"?'),
    (f"{C}.workingDir", "srv", "is relative"),
    (f"{C}.env[0].name", "A=B", "is not a variable name"),
    (f"{C}.env[0].name", "ä", "is not a variable name"),
    (f"{C}.ports[0].containerPort", 0, "must be between 1 and 65535, got 0"),
    (f"{C}.ports[0].containerPort", 65536, "must be between 1 and 65535, got 65536"),
    (f"{C}.ports[0].protocol", "tcp", 'did you mean "TCP"?'),
    (f"{C}.ports[0].name", "80", "is not a port name"),
    (f"{C}.ports[0].name", "a--b", "is not a port name"),
    (f"{C}.ports[0].name", "-a", "is not a port name"),
    (f"{C}.ports[0].name", "HTTP", "is not a port name"),
    (f"{C}.ports[0].name", "a" * 16, "longer than 15 characters (16)"),
    (f"{C}.volumeMounts[0].name", "w", 'no volume is named "w", did you mean "h"?'),
    (f"{C}.volumeMounts[0].mountPath", "v", "is relative; give an absolute path"),
    (f"{C}.volumeMounts[0].mountPath", "/a:b", 'must not contain ":"'),
    (f"{C}.volumeMounts[0].mountPath", "/a/../b", 'must not contain ".."'),
    (f"{C}.volumeMounts[0].mountPath", "//", "must not be the root of the container"),
    (f"{C}.volumeMounts[0].subPath", "/a", "must be relative to the volume"),
    (f"{C}.volumeMounts[0].subPath", "a/..", 'must not contain ".."'),
    (f"{C}.securityContext.runAsUser", -1, "must be between 0 and 2147483647"),
    (f"{C}.securityContext.runAsGroup", 2**31, "must be between 0 and 2147483647"),
    (f"{C}.lifecycle.stopSignal", "TERM", 'unknown signal "TERM", did you mean "SIGTERM"?'),
    (f"{C}.lifecycle.stopSignal", "SIGRTMIN+16", "unknown signal"),
    (f"{C}.lifecycle.stopSignal", "15", "unknown signal"),
    ("spec.volumes[0].name", "A", "not a DNS label"),
    ("spec.volumes[0].emptyDir.medium", "memory", 'did you mean "Memory"?'),
    ("spec.volumes[0].emptyDir.medium", "HugePages-2Mi", "known to Kubernetes, not supported by pyrun yet"),
    ("spec.volumes[0].emptyDir.sizeLimit", -1, "must not be negative"),
    ("spec.volumes[0].emptyDir.sizeLimit", "1e400", "exponent beyond"),
    ("spec.volumes[0].emptyDir.sizeLimit", 1e300, "exponent beyond"),
    ("spec.volumes[0].emptyDir.sizeLimit", "1 Gi", "is not a quantity"),
    ("spec.volumes[0].emptyDir.sizeLimit", True, "expected a quantity such as 64Mi, got boolean true"),
    ("spec.volumes[1].hostPath.path", None, "required"),
    ("spec.volumes[1].hostPath.path", "srv", "is relative"),
    ("spec.volumes[1].hostPath.path", "/a/../b", 'must not contain ".."'),
    ("spec.volumes[1].hostPath.type", "directory", 'did you mean "Directory"?'),
]


def put_key(pod: dict[str, Value], path: str, value: Value) -> dict[str, Value]:
    """As `put`, and for `metadata.labels[any text]` too."""
    field, bracket, key = path.partition("s[")
    if bracket and field.startswith("metadata"):
        return put(pod, f"{field}s", {key.removesuffix("]"): value})
    return put(pod, path, value)


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_rules(path: str, value: Value, message: str) -> None:
    found = problems(put_key(small(), path, value))
    assert found[0].startswith(f"{path}: ")
    assert message in found[0]
    # A volume that has lost its name is missed by its mount; nothing else may follow.
    assert len(found) == 1 or (path == "spec.volumes[0].name" and len(found) == 2)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "1.a-b.c"),
        ("metadata.labels[a.b/C_d.e-f]", "X_1.2-z"),
        ("metadata.annotations[a.B/c]", "any\ntext"),
        (f"{C}.env[0].name", "a.b c-%"),
        (f"{C}.ports[0].protocol", "SCTP"),
        (f"{C}.ports[0].name", "a-1-b"),
        (f"{C}.tty", True),
        (f"{C}.imagePullPolicy", ""),
        (f"{C}.volumeMounts[0].subPath", "a/..b/c"),
        ("spec.volumes[0].emptyDir.medium", ""),
        ("spec.volumes[0].emptyDir.sizeLimit", 0),
        ("spec.terminationGracePeriodSeconds", 0),
        ("metadata.uid", {"any": ["thing"]}),
        ("status", 7),
        *((f"{C}.lifecycle.stopSignal", name) for name in SIGNAL_NAMES),
        *(("spec.volumes[1].hostPath.type", kind.value) for kind in HostPathType),
    ],
)
def test_allowed(path: str, value: Value) -> None:
    pod = load(put_key(small(), path, value))
    assert load(dump_pod(pod)) == pod


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"spec.hostPID": True, "spec.shareProcessNamespace": True},
            "spec.shareProcessNamespace: cannot be true when hostPID is true",
        ),
        (
            {f"{C}.securityContext.privileged": True, f"{C}.securityContext.allowPrivilegeEscalation": False},
            f"{C}.securityContext.allowPrivilegeEscalation: cannot be false when privileged is true",
        ),
        (
            {
                f"{C}.securityContext.capabilities.add": ["CAP_SYS_ADMIN"],
                f"{C}.securityContext.allowPrivilegeEscalation": False,
            },
            f"{C}.securityContext.allowPrivilegeEscalation: cannot be false when CAP_SYS_ADMIN is added",
        ),
        (
            {f"{C}.securityContext.capabilities.drop": ["ALL", "NET_ADMINN"]},
            f"{C}.securityContext.capabilities.drop[1]: "
            'unknown capability "NET_ADMINN", did you mean "NET_ADMIN"?',
        ),
        (
            {"spec.volumes[1].emptyDir": {}},
            "spec.volumes[1].hostPath: a volume has only one source, and emptyDir is given too",
        ),
        (
            {"spec.containers[1]": {"name": "c", "image": "y"}},
            'spec.containers[1].name: "c" is given twice, first at spec.containers[0].name',
        ),
        (
            {"spec.volumes[2]": {"name": "v"}},
            'spec.volumes[2].name: "v" is given twice, first at spec.volumes[0].name',
        ),
        (
            {f"{C}.volumeMounts[1]": {"name": "h", "mountPath": "//v/./"}},
            f'{C}.volumeMounts[1].mountPath: "/v" is given twice, first at {C}.volumeMounts[0].mountPath',
        ),
        (
            {f"{C}.ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
            f'{C}.ports[1].name: "a" is given twice, first at {C}.ports[0].name',
        ),
        (
            {"metadata.annotations": {"a": "x" * 200_000, "b": "x" * 62_143}},
            "metadata.annotations: take 262145 bytes together, at most 262144 may be",
        ),
    ],
)
def test_rules_between_fields(values: dict[str, Value], expected: str) -> None:
    pod = small()
    for path, value in values.items():
        pod = put(pod, path, value)
    assert problems(pod) == [expected]


def test_what_kubernetes_allows_between_fields() -> None:
    pod = put(put(small(), "spec.hostNetwork", True), "spec.hostname", "www")
    pod = put(pod, f"{C}.ports", [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}])
    pod = put(pod, f"{C}.env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}])
    pod = put(pod, "metadata.annotations", {"a": "x" * 262_143})
    assert load(pod).spec.hostname == "www"


def test_a_size_limit_of_zero_limits_nothing() -> None:
    pod = load(put(small(), "spec.volumes[0].emptyDir.sizeLimit", 0))
    assert pod.spec.volumes[0].source == EmptyDir(size_limit=None)


def test_all_problems_are_told_at_once() -> None:
    pod = small()
    for path in ("spec.hostPid", f"{C}.imagee", "metadata.nam"):
        pod = put(pod, path, 1)
    pod = put(pod, f"{C}.image", 5)
    assert len(problems(pod)) == 4
    many = put(small(), f"{C}.env", [{"name": "="}] * (MAX_PROBLEMS + 50))
    assert len(problems(many)) == MAX_PROBLEMS + 1


@pytest.mark.parametrize("kind", [*sorted(OTHER_KINDS), "DeploymentList"])
def test_other_kinds_are_refused_by_name(kind: str) -> None:
    assert problems({"apiVersion": "x/v1", "kind": kind}) == [f"kind: kind {kind} is not supported yet"]


@pytest.mark.parametrize(("kind", "hint"), [("pod", "Pod"), ("Deploymnet", "Deployment"), ("list", "List")])
def test_unknown_kinds(kind: str, hint: str) -> None:
    assert problems({"apiVersion": "v1", "kind": kind}) == [
        f'kind: unknown kind "{kind}", did you mean "{hint}"?'
    ]


def test_nothing_of_the_text_reaches_a_terminal_raw() -> None:
    pod = put(small(), "metadata.name", "\x1b[2J")
    pod["\x1b[2J"] = 1
    pod = put(pod, "metadata.annotations", {"\x1b": "x"})
    assert all(line.isprintable() for line in problems(pod))
    assert all(line.isprintable() for line in problems({"kind": "\x1b"}))


# Properties


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(pods())
def test_what_is_dumped_loads_as_the_same_pod(pod: Pod) -> None:
    assert load_pods(to_yaml(dump_pod(pod)), "x") == (pod,)
    assert load_pods(to_json(dump_pod(pod)), "x") == (pod,)


def test_a_dump_names_the_owners_which_are_not_read_back() -> None:
    owner = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web", uid="1", controller=True)
    pod = Pod(metadata=Metadata(name="a", owner_references=(owner,)), spec=load(small()).spec)
    metadata = dump_pod(pod)["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["ownerReferences"] == [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": True}
    ]
    assert load(dump_pod(pod)).metadata == Metadata(name="a")


def test_the_dump_of_the_full_pod() -> None:
    dumped = dump_pod(EXPECTED)
    assert load_pods(to_yaml(dumped), "x") == (EXPECTED,)
    assert dumped["kind"] == "Pod"
    assert "sizeLimit: 1536Mi" in to_yaml(dumped)
    assert "imagePullPolicy: Always" in to_yaml(dumped)


FIELDS = sorted({row.path.split(".")[-1].removesuffix("[]") for row in rows()})
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["Pod", "v1", "64Mi"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=15,
)


def loads_or_tells(text: str) -> None:
    try:
        assert load_pods(text, "x")
    except ManifestError as error:
        assert error.problems
        assert str(error).isascii() or str(error)


@settings(deadline=None)
@given(ANY)
def test_arbitrary_values_load_or_have_problems(value: Value) -> None:
    loads_or_tells(to_yaml(value))
    loads_or_tells(to_json(value))


@settings(deadline=None)
@given(path=st.sampled_from([place_of(row.path) for row in rows()]), value=ANY)
def test_arbitrary_values_in_every_field_load_or_have_problems(path: str, value: Value) -> None:
    loads_or_tells(to_json(put(small(path), path, value)))
