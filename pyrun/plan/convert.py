"""From a Pod and its images to the sandbox and the containers, by the rules of Kubernetes.

Source: Kubernetes API reference, Container.command, args, env; OCI image specification, config.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pyrun.cgroups.controllers import CONTROLLERS
from pyrun.errors import InputError
from pyrun.plan.container import pid_mode_of
from pyrun.plan.downward import PodFacts, PodFields, fields_of
from pyrun.plan.resources import limits
from pyrun.plan.sandbox import sandbox_volume_path
from pyrun.process.execute import DEFAULT_PATH
from pyrun.spec.annotations import rootfs_of, time_offsets
from pyrun.spec.capability import ALL_CAPABILITIES, effective_set
from pyrun.spec.container import ContainerConfig, Mount, MountSource, Process, Root, User
from pyrun.spec.effective import effective_request
from pyrun.spec.image import Image, ImageConfig
from pyrun.spec.layout import Layout
from pyrun.spec.linux import container_resources, pod_resources
from pyrun.spec.pod import Container, EmptyDir, HostPath, HostPathType, Pod, VolumeMount
from pyrun.spec.qos import qos_class
from pyrun.spec.resources import Capacity
from pyrun.spec.sandbox import HostVolume, SandboxConfig, SandboxVolume

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))?")


def sandbox_of(pod: Pod, uid: str, capacity: Capacity) -> SandboxConfig:
    """Return the sandbox a Pod asks for on a host of this size."""
    spec = pod.spec
    resources = pod_resources(pod)
    wanted = (resources, *(container_resources(pod, c, capacity) for c in spec.all_containers()))
    offsets = time_offsets(pod)
    return SandboxConfig(
        uid=uid,
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        hostname=hostname_of(pod),
        host_network=spec.host_network,
        host_pid=spec.host_pid,
        host_ipc=spec.host_ipc,
        share_pid=spec.share_process_namespace,
        volumes=tuple(
            SandboxVolume(name=v.name, memory=v.source.memory, size_limit=v.source.size_limit)
            for v in spec.volumes
            if isinstance(v.source, EmptyDir)
        ),
        host_volumes=tuple(
            HostVolume(name=v.name, source=v.source) for v in spec.volumes if isinstance(v.source, HostPath)
        ),
        monotonic_offset=offsets.monotonic_ns,
        boottime_offset=offsets.boottime_ns,
        qos=qos_class(spec),
        resources=resources,
        cpu_millis=effective_request(spec).cpu_millis or 0,
        controllers=tuple(
            name for name in CONTROLLERS if any(s.controller == name for one in wanted for s in limits(one))
        ),
    )


def hostname_of(pod: Pod) -> str:
    """Return the hostname of a Pod: what it asks for, else its name, cut to 63 characters."""
    return (pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")


def image_from_directory(path: str) -> Image:
    """Return the image a plain directory stands for: one layer, no configuration."""
    parent, _, name = path.rstrip("/").rpartition("/")
    return Image(id=path, names=(path,), layers_dir=parent or "/", layers=(name or ".",))


def container_of(
    pod: Pod, container: Container, image: Image, uid: str, layout: Layout, facts: PodFacts | None = None
) -> ContainerConfig:
    """Return the configuration of one container. InputError when neither manifest nor image names a program.

    `facts` is what field references of the environment are resolved from; only the uid is known without.
    """
    context = container.security_context
    fields = fields_of(pod, facts or PodFacts(uid=uid))
    env = environment(container, image.config, pod.spec.host_network, hostname_of(pod), fields)
    args = command_line(container, image.config, env)
    user = User(name=image.config.user)
    if context.run_as_user is not None:
        user = User(name=str(context.run_as_user), group=context.run_as_group)
    elif context.run_as_group is not None:
        user = User(name=image.config.user, group=context.run_as_group)
    capabilities = effective_set(context.capabilities.add, context.capabilities.drop)
    return ContainerConfig(
        name=container.name,
        image=container.image,
        image_id=image.id,
        root=Root(
            layers_dir=image.layers_dir, layers=image.layers, readonly=context.read_only_root_filesystem
        ),
        process=Process(
            args=args,
            env=tuple(f"{name}={value}" for name, value in env.items()),
            cwd=container.working_dir or image.config.working_dir or "/",
            user=user,
            capabilities=ALL_CAPABILITIES if context.privileged else capabilities,
            no_new_privileges=context.allow_privilege_escalation is False,
            terminal=container.tty,
            stdin=container.stdin,
        ),
        mounts=tuple(
            _mount(pod, mount, uid, layout, privileged=context.privileged)
            for mount in container.volume_mounts
        ),
        pid_mode=pid_mode_of(pod.spec.host_pid, pod.spec.share_process_namespace),
        privileged=context.privileged,
        message_path=container.termination_message_path,
        stop_signal=container.stop_signal or image.config.stop_signal or "SIGTERM",
    )


def root_directory(pod: Pod, container: Container) -> str | None:
    """Return the plain directory that serves a container as root file system, if the Pod names one."""
    return rootfs_of(pod, container.name)


def environment(
    container: Container,
    image: ImageConfig,
    host_network: bool,
    hostname: str,
    fields: PodFields | None = None,
) -> dict[str, str]:
    """Return the variables of a container: the image's, then the manifest's with `$(NAME)` expanded.

    An expansion sees what stands before it in the list; the last value of a name wins. What refers to the Pod is taken
    as it is, `fields` resolves it.
    """
    env = {"PATH": DEFAULT_PATH}
    if not host_network:
        env["HOSTNAME"] = hostname
    if container.tty:
        env["TERM"] = "xterm"
    for text in image.env:
        name, _, value = text.partition("=")
        env[name] = value
    declared: dict[str, str] = {}
    known = fields or PodFields()
    for variable in container.env:
        if variable.field_path:
            declared[variable.name] = known.value(variable.field_path)
        elif variable.resource is not None:
            declared[variable.name] = known.resource(container, variable.resource)
        else:
            declared[variable.name] = expand(variable.value, declared)
    return env | declared


def command_line(container: Container, image: ImageConfig, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the program and its arguments.

    `command` replaces the image's ENTRYPOINT and drops its CMD; `args` alone replaces CMD.
    """
    declared = {v.name: env[v.name] for v in container.env}
    command = None if container.command is None else tuple(expand(c, declared) for c in container.command)
    args = None if container.args is None else tuple(expand(a, declared) for a in container.args)
    line = (*command, *(args or ())) if command else (*image.entrypoint, *(args or image.cmd))
    if not line:
        raise InputError(
            f'container "{container.name}": neither the manifest nor image "{container.image}" names a program',
            hint="give command or args",
        )
    return line


def expand(text: str, values: Mapping[str, str]) -> str:
    """Expand `$(NAME)`; an unknown name stays as written, and `$$` is a literal `$`."""

    def one(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        if match[2] is not None and match[2] in values:
            return values[match[2]]
        return match[0]

    return _REFERENCE.sub(one, text)


def _mount(pod: Pod, mount: VolumeMount, uid: str, layout: Layout, *, privileged: bool) -> Mount:
    source = next(v.source for v in pod.spec.volumes if v.name == mount.name)
    read_only = ("ro",) if mount.read_only else ()
    if isinstance(source, HostPath):
        # A device that is asked for by name may be opened; nothing else on the host's side may be one.
        devices = source.type in (HostPathType.CHAR_DEVICE, HostPathType.BLOCK_DEVICE)
        options = () if devices or privileged else ("nodev",)
        return Mount(
            kind=MountSource.HOST,
            source=source.path,
            target=mount.mount_path,
            options=(*options, *read_only),
            sub_path=mount.sub_path,
        )
    return Mount(
        kind=MountSource.SANDBOX if source.memory else MountSource.HOST,
        source=sandbox_volume_path(mount.name) if source.memory else layout.volume(uid, mount.name),
        target=mount.mount_path,
        options=("nodev", *read_only),
        sub_path=mount.sub_path,
    )
