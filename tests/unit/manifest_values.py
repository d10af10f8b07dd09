"""Values of the spec that a manifest can give, generated: what is dumped of them must load as the same."""

from __future__ import annotations

import string

import msgspec
from hypothesis import strategies as st

from pyrun.manifest.containers import SIGNAL_NAMES
from pyrun.manifest.resources import MAX_CPU_MILLIS, MIN_MEMORY_LIMIT
from pyrun.spec.capability import ALL_CAPABILITIES
from pyrun.spec.downward import FIELD_PATHS, RESOURCES, ResourceReference, divisors
from pyrun.spec.effective import containers_request, filled
from pyrun.spec.pod import (
    Capabilities,
    Container,
    ContainerPort,
    EmptyDir,
    EnvVar,
    HostPath,
    HostPathType,
    Metadata,
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
    HookAction,
    HttpGetAction,
    HttpHeader,
    Lifecycle,
    Probe,
    SleepAction,
    TcpSocketAction,
)
from pyrun.spec.replicaset import PodTemplate, ReplicaSet, ReplicaSetSpec
from pyrun.spec.resources import (
    ResizableResource,
    ResizePolicy,
    ResourceList,
    ResourceRequirements,
    RestartOnResize,
)
from pyrun.spec.selector import Operator, Requirement, Selector

LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
PATH = st.lists(st.text(string.ascii_letters + "._- ", min_size=1, max_size=8), min_size=1, max_size=3).map(
    "/".join
)
PATHS = PATH.filter(lambda path: ".." not in path.split("/"))
ABSOLUTE = PATHS.map("/{}".format)
NAMES = st.lists(LABEL, min_size=1, max_size=3, unique=True)
VARIABLE = st.text(string.printable[:95].replace("=", ""), min_size=1, max_size=10)
PORT_NAME = st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True)
IDS = st.none() | st.integers(0, 2**31 - 1)
CAPABILITY_SETS = st.lists(st.sampled_from([*ALL_CAPABILITIES, "ALL"]), unique=True, max_size=3).map(tuple)
COMMAND = st.none() | st.lists(TEXT, min_size=1, max_size=3).map(tuple)
SECURITY = st.builds(
    SecurityContext,
    run_as_user=IDS,
    run_as_group=IDS,
    privileged=st.booleans(),
    capabilities=st.builds(Capabilities, add=CAPABILITY_SETS, drop=CAPABILITY_SETS),
    read_only_root_filesystem=st.booleans(),
    allow_privilege_escalation=st.sampled_from([None, True, False]),
).filter(
    lambda context: (
        context.allow_privilege_escalation is not False
        or not (context.privileged or "SYS_ADMIN" in context.capabilities.add)
    )
)
SOURCES = st.builds(
    EmptyDir, memory=st.booleans(), size_limit=st.none() | st.integers(1, 2**63 - 1)
) | st.builds(HostPath, path=ABSOLUTE, type=st.sampled_from(HostPathType))
SECONDS = st.integers(1, 2**31 - 1)
NUMBERS = st.integers(1, 65535)
HOSTS = st.sampled_from(["", "localhost", "127.0.0.1", "10.1.2.3", "::1"])
FIELD_REFERENCES = (
    st.sampled_from(FIELD_PATHS)
    | LABEL.map("metadata.labels['{}']".format)
    | LABEL.map("metadata.annotations['example.com/{}']".format)
)
RESOURCE_REFERENCES = st.sampled_from(RESOURCES).flatmap(
    lambda resource: st.builds(
        ResourceReference, resource=st.just(resource), divisor=st.sampled_from([*divisors(resource).values()])
    )
)
VARIABLES = (
    st.builds(EnvVar, name=VARIABLE, value=TEXT)
    | st.builds(EnvVar, name=VARIABLE, field_path=FIELD_REFERENCES)
    | st.builds(EnvVar, name=VARIABLE, resource=RESOURCE_REFERENCES)
)
PAGE_SIZES = st.integers(14, 34).map(lambda twos: 2**twos)
HEADERS = st.builds(
    HttpHeader,
    name=st.from_regex(r"[-A-Za-z0-9]{1,10}", fullmatch=True),
    value=st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs"]), max_size=10),
)
RULES = st.builds(
    RestartRule,
    action=st.sampled_from(RestartRuleAction),
    exit_codes=st.lists(st.integers(0, 255), max_size=4).map(tuple),
    negated=st.booleans(),
)
EXECS = st.builds(ExecAction, command=st.lists(TEXT, min_size=1, max_size=3).map(tuple))
MOUNT_POINTS = ABSOLUTE.filter(lambda path: path.strip("/.") != "")


@st.composite
def resources(draw: st.DrawFn, *, of_pod: bool = False) -> ResourceRequirements:
    """Requests and limits: a request is at most its limit, and there where its limit is."""

    def pair(least: int, most: int) -> tuple[int | None, int | None]:
        request, limit = draw(st.none() | st.integers(1, most)), draw(st.none() | st.integers(least, most))
        return (limit if request is None or (limit is not None and request > limit) else request), limit

    cpu, memory = pair(1, MAX_CPU_MILLIS // 10), pair(MIN_MEMORY_LIMIT, 2**50)
    storage = (None, None) if of_pod else pair(1, 2**50)
    sizes = draw(st.lists(PAGE_SIZES, max_size=2, unique=True)) if any((*cpu, *memory)) else []
    pages = tuple((size, size * draw(st.integers(1, 2**20))) for size in sorted(sizes))
    return ResourceRequirements(
        requests=ResourceList(
            cpu_millis=cpu[0], memory=memory[0], ephemeral_storage=storage[0], hugepages=pages
        ),
        limits=ResourceList(
            cpu_millis=cpu[1], memory=memory[1], ephemeral_storage=storage[1], hugepages=pages
        ),
    )


@st.composite
def pod_resources(draw: st.DrawFn, spec: PodSpec) -> ResourceRequirements | None:
    """The resources of a Pod as a whole, not less than what its containers ask for and may use."""
    found = draw(st.none() | resources(of_pod=True))
    if found in (None, ResourceRequirements()):
        return None
    asked = containers_request(spec)
    limits = [container.resources.limits for container in spec.all_containers()]
    pages = dict(asked.hugepages)

    def grown(amount: int | None, *others: int | None) -> int | None:
        return None if amount is None else max(amount, *(other or 0 for other in others))

    def one(given: ResourceList, *others: ResourceList) -> ResourceList:
        return ResourceList(
            cpu_millis=grown(given.cpu_millis, *(other.cpu_millis for other in others)),
            memory=grown(given.memory, *(other.memory for other in others)),
            hugepages=tuple((size, max(amount, pages.get(size, 0))) for size, amount in given.hugepages),
        )

    requests, limit = one(found.requests, asked), one(found.limits, asked, *limits)
    if limit != ResourceList():
        whole = ResourceList(cpu_millis=asked.cpu_millis, memory=asked.memory)
        requests = filled(filled(requests, whole), limit)
    return ResourceRequirements(requests=requests, limits=limit)


def resize_policies(*, restarts: bool) -> st.SearchStrategy[tuple[ResizePolicy, ...]]:
    restart = st.sampled_from(RestartOnResize) if restarts else st.just(RestartOnResize.NOT_REQUIRED)
    policies = st.builds(ResizePolicy, resource=st.sampled_from(ResizableResource), restart=restart)
    return st.lists(policies, max_size=2, unique_by=lambda policy: policy.resource).map(tuple)


def http_gets(ports: list[str]) -> st.SearchStrategy[HttpGetAction]:
    return st.builds(
        HttpGetAction,
        port=NUMBERS | st.sampled_from(ports) if ports else NUMBERS,
        path=st.from_regex(r"/[a-z?=/%]{0,10}", fullmatch=True),
        host=HOSTS,
        scheme=st.sampled_from(["HTTP", "HTTPS"]),
        headers=st.lists(HEADERS, max_size=2).map(tuple),
    )


def probes(ports: list[str], kind: str) -> st.SearchStrategy[Probe | None]:
    tcp = st.builds(TcpSocketAction, port=NUMBERS | st.sampled_from(ports) if ports else NUMBERS, host=HOSTS)
    grpc = st.builds(GrpcAction, port=NUMBERS, service=TEXT)
    readiness = kind == "readiness"
    return st.none() | st.builds(
        Probe,
        action=EXECS | http_gets(ports) | tcp | grpc,
        initial_delay_seconds=st.integers(0, 2**31 - 1),
        period_seconds=SECONDS,
        timeout_seconds=SECONDS,
        success_threshold=SECONDS if readiness else st.just(1),
        failure_threshold=SECONDS,
        termination_grace_period_seconds=st.none() if readiness else st.none() | st.integers(1, 2**63 - 1),
    )


def hooks(ports: list[str], grace: int) -> st.SearchStrategy[HookAction | None]:
    sleep = st.builds(SleepAction, seconds=st.integers(0, grace))
    return st.none() | EXECS | http_gets(ports) | sleep


@st.composite
def containers(draw: st.DrawFn, name: str, volumes: list[str], grace: int) -> Container:
    """A container of the application, or a sidecar."""
    container = draw(plain_containers(name, volumes))
    ports = [port.name for port in container.ports]
    policy = draw(st.none() | st.sampled_from(RestartPolicy))
    return msgspec.structs.replace(
        container,
        restart_policy=policy,
        resize_policy=draw(
            resize_policies(restarts=policy in (RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE))
        ),
        restart_policy_rules=draw(st.lists(RULES, max_size=3).map(tuple)) if policy else (),
        startup_probe=draw(probes(ports, "startup")),
        readiness_probe=draw(probes(ports, "readiness")),
        liveness_probe=draw(probes(ports, "liveness")),
        lifecycle=Lifecycle(post_start=draw(hooks(ports, grace)), pre_stop=draw(hooks(ports, grace))),
    )


@st.composite
def init_containers(draw: st.DrawFn, name: str, volumes: list[str], grace: int) -> Container:
    """A sidecar, or an init container that is none: neither probed nor hooked."""
    if draw(st.booleans()):
        sidecar = draw(containers(name, volumes, grace))
        return msgspec.structs.replace(sidecar, restart_policy=RestartPolicy.ALWAYS)
    policy = draw(st.sampled_from([None, RestartPolicy.NEVER, RestartPolicy.ON_FAILURE]))
    plain = draw(plain_containers(name, volumes))
    return msgspec.structs.replace(plain, restart_policy=policy, stop_signal="")


def plain_containers(name: str, volumes: list[str]) -> st.SearchStrategy[Container]:
    mounts = st.lists(
        st.builds(
            VolumeMount,
            name=st.sampled_from(volumes),
            mount_path=MOUNT_POINTS,
            read_only=st.booleans(),
            sub_path=st.just("") | PATHS.filter(lambda path: not path.startswith("/")),
        ),
        max_size=3,
        unique_by=lambda mount: [
            part for part in mount.mount_path.split("/") if part not in ("", ".")
        ].__repr__(),
    )
    ports = st.lists(
        st.builds(
            ContainerPort,
            container_port=st.integers(1, 65535),
            name=PORT_NAME,
            protocol=st.sampled_from(["TCP", "UDP", "SCTP"]),
        ),
        max_size=3,
        unique_by=lambda port: port.name,
    )
    return st.builds(
        Container,
        name=st.just(name),
        image=TEXT.filter(lambda text: text.strip() == text != ""),
        image_pull_policy=st.sampled_from(PullPolicy),
        command=COMMAND,
        args=COMMAND,
        env=st.lists(VARIABLES, max_size=3).map(tuple),
        working_dir=st.just("") | ABSOLUTE,
        ports=ports.map(tuple),
        volume_mounts=mounts.map(tuple),
        stdin=st.booleans(),
        tty=st.booleans(),
        stop_signal=st.sampled_from(["", *SIGNAL_NAMES]),
        security_context=SECURITY,
        resources=resources(),
        termination_message_path=ABSOLUTE,
        termination_message_policy=st.sampled_from(TerminationMessagePolicy),
    )


@st.composite
def specs(draw: st.DrawFn) -> PodSpec:
    volumes = draw(NAMES)
    share = draw(st.booleans())
    grace = draw(st.integers(0, 2**63 - 1))
    names = draw(NAMES)
    inits = draw(st.integers(0, len(names) - 1))
    spec = PodSpec(
        init_containers=tuple(draw(init_containers(name, volumes, grace)) for name in names[:inits]),
        containers=tuple(draw(containers(name, volumes, grace)) for name in names[inits:]),
        volumes=tuple(Volume(name=name, source=draw(SOURCES)) for name in volumes),
        hostname=draw(st.just("") | LABEL),
        share_process_namespace=share,
        host_network=draw(st.booleans()),
        host_pid=not share and draw(st.booleans()),
        host_ipc=draw(st.booleans()),
        restart_policy=draw(st.sampled_from(RestartPolicy)),
        termination_grace_period_seconds=grace,
        active_deadline_seconds=draw(st.none() | SECONDS),
        service_account_name=draw(st.just("") | LABEL),
    )
    return msgspec.structs.replace(spec, resources=draw(pod_resources(spec)))


LABELS = st.dictionaries(LABEL, st.just("") | LABEL, max_size=3)
ANNOTATIONS = st.dictionaries(LABEL, TEXT, max_size=3)
METADATA = st.builds(
    Metadata,
    name=LABEL,
    generate_name=st.just("") | LABEL.map("{}-".format),
    namespace=LABEL,
    labels=LABELS,
    annotations=ANNOTATIONS,
)


def pods() -> st.SearchStrategy[Pod]:
    return st.builds(Pod, metadata=METADATA, spec=specs())


@st.composite
def selectors(draw: st.DrawFn, labels: dict[str, str]) -> Selector:
    """A selector that matches these labels, and is not empty."""
    chosen = draw(st.lists(st.sampled_from(sorted(labels)), min_size=1, unique=True))
    values = draw(st.lists(LABEL, min_size=1, max_size=2, unique=True))
    key = draw(st.sampled_from(sorted(labels)))
    others = tuple(value for value in values if value != labels[key])
    conditions = [
        Requirement(key=key, operator=Operator.EXISTS),
        Requirement(key=key, operator=Operator.IN, values=(labels[key], *others)),
        Requirement(key="absent-from-all-of-them", operator=Operator.DOES_NOT_EXIST),
        *([Requirement(key=key, operator=Operator.NOT_IN, values=others)] if others else []),
    ]
    return Selector(
        match_labels={name: labels[name] for name in chosen},
        match_expressions=tuple(draw(st.lists(st.sampled_from(conditions), max_size=3))),
    )


@st.composite
def replica_sets(draw: st.DrawFn) -> ReplicaSet:
    labels = draw(st.dictionaries(LABEL, st.just("") | LABEL, min_size=1, max_size=3))
    spec = msgspec.structs.replace(
        draw(specs()), restart_policy=RestartPolicy.ALWAYS, active_deadline_seconds=None
    )
    ports = any(container.ports for container in spec.all_containers())
    most = 1 if spec.host_network and ports else 2**31 - 1
    return ReplicaSet(
        metadata=draw(METADATA),
        spec=ReplicaSetSpec(
            selector=draw(selectors(labels)),
            template=PodTemplate(
                metadata=Metadata(labels=labels, annotations=draw(ANNOTATIONS)),
                spec=spec,
            ),
            replicas=draw(st.integers(0, most)),
            min_ready_seconds=draw(st.integers(0, 2**31 - 1)),
        ),
    )
