"""The containers of a Pod: Kubernetes text -> `Container`."""

from __future__ import annotations

from pyrun.manifest import names
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.reader import Object, one_of
from pyrun.manifest.scalars import quoted
from pyrun.spec.capability import ALL_CAPABILITIES
from pyrun.spec.pod import (
    Capabilities,
    Container,
    ContainerPort,
    EnvVar,
    PullPolicy,
    SecurityContext,
    VolumeMount,
)

MAX_ID = 2**31 - 1
"""Largest user and group id that Kubernetes takes."""

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
        env=tuple(_env_var(item) for item in source.children("env")),
        working_dir=source.text("workingDir", check=names.absolute_path),
        ports=_ports(source),
        volume_mounts=tuple(_volume_mount(item) for item in source.children("volumeMounts")),
        stdin=source.flag("stdin") or False,
        tty=source.flag("tty") or False,
        stop_signal=lifecycle.text("stopSignal", check=_signal),
        security_context=_security_context(source.child("securityContext")),
    )


def default_pull_policy(image: str) -> PullPolicy:
    """Return Kubernetes' default: Always for the tag `latest`, said or meant, else IfNotPresent."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if tag == "latest" or not (tag or digest):
        return PullPolicy.ALWAYS
    return PullPolicy.IF_NOT_PRESENT


def _env_var(source: Object) -> EnvVar:
    return EnvVar(
        name=source.text("name", required=True, check=names.env_name),
        value=source.text("value"),
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
