"""The containers of a Pod: Kubernetes text -> `Container`."""

from __future__ import annotations

from pyrun.manifest import names
from pyrun.manifest.environment import read_env_var
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.probes import PROBE_FIELDS, read_lifecycle, read_probe
from pyrun.manifest.reader import Object, one_of
from pyrun.manifest.resources import read_resize_policy, read_resources
from pyrun.spec.capability import ALL_CAPABILITIES
from pyrun.spec.pod import (
    DEFAULT_MESSAGE_PATH,
    Capabilities,
    Container,
    ContainerPort,
    PullPolicy,
    RestartPolicy,
    RestartRule,
    RestartRuleAction,
    SecurityContext,
    TerminationMessagePolicy,
    VolumeMount,
)
from pyrun.spec.probe import ProbeKind
from pyrun.spec.quoting import quoted

MAX_ID = 2**31 - 1
"""Largest user and group id that Kubernetes takes."""

MAX_RULES = 20
"""Most restart rules of a container."""
MAX_EXIT_CODES = 255
"""Most exit codes of a restart rule."""

_SIGNALS = """
    SIGABRT SIGALRM SIGBUS SIGCHLD SIGCLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGIOT SIGKILL
    SIGPIPE SIGPOLL SIGPROF SIGPWR SIGQUIT SIGSEGV SIGSTKFLT SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP
    SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIGRTMIN
"""
SIGNAL_NAMES = (
    *_SIGNALS.split(),
    *(f"SIGRTMIN+{n}" for n in range(1, 16)),
    *(f"SIGRTMAX-{n}" for n in range(14, 0, -1)),
    "SIGRTMAX",
)
"""The stop signals of Kubernetes (core/v1 Signal)."""


def read_container(source: Object) -> Container:
    """Convert one container; what is wrong goes to the problems of `source`."""
    image = source.text("image", required=True, check=names.image_name)
    lifecycle = source.child("lifecycle")
    return Container(
        name=source.text("name", required=True, check=names.dns_label),
        image=image,
        image_pull_policy=source.choice("imagePullPolicy", default_pull_policy(image)),
        # An empty list is the same as none: the image decides.
        command=source.texts("command") or None,
        args=source.texts("args") or None,
        env=tuple(read_env_var(item) for item in source.children("env")),
        working_dir=source.text("workingDir", check=names.absolute_path),
        ports=_ports(source),
        volume_mounts=tuple(_volume_mount(item) for item in source.children("volumeMounts")),
        stdin=source.flag("stdin") or False,
        tty=source.flag("tty") or False,
        stop_signal=lifecycle.text("stopSignal", check=_signal),
        security_context=_security_context(source.child("securityContext")),
        resources=read_resources(source.child("resources")),
        resize_policy=read_resize_policy(source),
        restart_policy=source.member("restartPolicy", RestartPolicy),
        restart_policy_rules=_restart_rules(source),
        startup_probe=read_probe(source, ProbeKind.STARTUP),
        readiness_probe=read_probe(source, ProbeKind.READINESS),
        liveness_probe=read_probe(source, ProbeKind.LIVENESS),
        lifecycle=read_lifecycle(lifecycle),
        termination_message_path=source.text("terminationMessagePath", check=names.absolute_path)
        or DEFAULT_MESSAGE_PATH,
        termination_message_policy=source.choice("terminationMessagePolicy", TerminationMessagePolicy.FILE),
    )


def read_init_container(source: Object) -> Container:
    """Convert an init container; only one that is a sidecar is probed, has hooks and can be resized."""
    container = read_container(source)
    if container.restart_policy is RestartPolicy.ALWAYS:
        return container
    if container.restart_policy is None and source.has("restartPolicy"):
        return container  # it may have been meant as a sidecar, and is refused for its policy
    for field in (*PROBE_FIELDS.values(), "lifecycle", "resizePolicy"):
        if source.has(field):
            source.complain(
                field, "not allowed in an init container, unless it is a sidecar (restartPolicy: Always)"
            )
    return container


def default_pull_policy(image: str) -> PullPolicy:
    """Return Kubernetes' default: Always for the tag `latest`, said or meant, else IfNotPresent."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if tag == "latest" or not (tag or digest):
        return PullPolicy.ALWAYS
    return PullPolicy.IF_NOT_PRESENT


def _restart_rules(source: Object) -> tuple[RestartRule, ...]:
    rules = source.children("restartPolicyRules")
    if rules and not source.has("restartPolicy"):
        source.complain("restartPolicy", "required beside restartPolicyRules")
    if len(rules) > MAX_RULES:
        source.complain("restartPolicyRules", f"at most {MAX_RULES} rules, got {len(rules)}")
    return tuple(_restart_rule(rule) for rule in rules)


def _restart_rule(source: Object) -> RestartRule:
    action = source.member("action", RestartRuleAction, required=True)
    if not source.has("exitCodes"):
        source.complain("exitCodes", "required")
        return RestartRule(action=action or RestartRuleAction.RESTART, exit_codes=())
    codes = source.child("exitCodes")
    operator = codes.text("operator", required=True, check=one_of("In", "NotIn"))
    values = codes.numbers("values", 0, 255)
    if len(values) > MAX_EXIT_CODES:
        codes.complain("values", f"at most {MAX_EXIT_CODES} exit codes, got {len(values)}")
    return RestartRule(
        action=action or RestartRuleAction.RESTART, exit_codes=values, negated=operator == "NotIn"
    )


def _ports(source: Object) -> tuple[ContainerPort, ...]:
    ports = []
    for item in source.children("ports"):
        if not item.has("containerPort"):
            item.complain("containerPort", "required")
        ports.append(
            ContainerPort(
                container_port=item.number("containerPort", 1, 65535) or 0,
                name=item.text("name", check=names.port_name),
                protocol=item.text("protocol", check=one_of("TCP", "UDP", "SCTP")) or "TCP",
            )
        )
    return tuple(ports)


def _volume_mount(source: Object) -> VolumeMount:
    return VolumeMount(
        name=source.text("name", required=True),
        mount_path=source.text("mountPath", required=True, check=names.mount_path),
        read_only=source.flag("readOnly") or False,
        sub_path=source.text("subPath", check=names.sub_path),
    )


def _security_context(source: Object) -> SecurityContext:
    capabilities = source.child("capabilities")
    context = SecurityContext(
        run_as_user=source.number("runAsUser", 0, MAX_ID),
        run_as_group=source.number("runAsGroup", 0, MAX_ID),
        privileged=source.flag("privileged") or False,
        capabilities=Capabilities(add=_names(capabilities, "add"), drop=_names(capabilities, "drop")),
        read_only_root_filesystem=source.flag("readOnlyRootFilesystem") or False,
        allow_privilege_escalation=source.flag("allowPrivilegeEscalation"),
    )
    if context.allow_privilege_escalation is False:
        if context.privileged:
            source.complain("allowPrivilegeEscalation", "cannot be false when privileged is true")
        if "SYS_ADMIN" in context.capabilities.add:
            source.complain("allowPrivilegeEscalation", "cannot be false when CAP_SYS_ADMIN is added")
    return context


def _names(source: Object, field: str) -> tuple[str, ...]:
    """Return capabilities without CAP_, in upper case (as container runtimes read them), each once."""
    found: dict[str, None] = {}
    for i, text in enumerate(source.texts(field)):
        name = text.upper().removeprefix("CAP_")
        if name == "ALL" or name in ALL_CAPABILITIES:
            found[name] = None
        else:
            hint = did_you_mean(name, ALL_CAPABILITIES)
            source.complain(f"{field}[{i}]", f"unknown capability {quoted(text)}{hint}")
    return tuple(found)


def _signal(text: str) -> str | None:
    if text in SIGNAL_NAMES:
        return None
    wanted = text if text.upper().startswith("SIG") else f"SIG{text}"
    return f"unknown signal {quoted(text)}{did_you_mean(wanted, SIGNAL_NAMES)}"
