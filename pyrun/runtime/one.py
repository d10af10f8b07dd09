"""A Pod of one container from the options of `pyrun run`: another door to the same spec."""

from __future__ import annotations

import msgspec

from pyrun.errors import InputError
from pyrun.spec.annotations import BEST_EFFORT, DOMAIN, ROOTFS_PREFIX
from pyrun.spec.pod import (
    Container,
    EmptyDir,
    EnvVar,
    HostPath,
    Metadata,
    Pod,
    PodSpec,
    PullPolicy,
    RestartPolicy,
    SecurityContext,
    Volume,
    VolumeMount,
)
from pyrun.spec.resources import ResourceList, ResourceRequirements

CONTAINER = "main"


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `run`. `rootfs`: the image is a plain directory. Volumes are `SOURCE:TARGET[:ro]`.

    `memory` is bytes, `cpu_millis` thousandths of a CPU, `pids` processes and threads; each a limit, None for none.
    """

    image: str
    args: tuple[str, ...] = ()
    name: str = ""
    env: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    workdir: str = ""
    terminal: bool = False
    stdin: bool = False
    rootfs: bool = False
    host_network: bool = False
    privileged: bool = False
    read_only: bool = False
    memory: int | None = None
    cpu_millis: int | None = None
    pids: int | None = None
    best_effort: bool = False


def pod_of(request: RunRequest) -> Pod:
    """Return the Pod that a request means: one container, never restarted. Raises InputError."""
    volumes = [_volume(index, text) for index, text in enumerate(request.volumes)]
    return Pod(
        metadata=Metadata(
            name=request.name,
            generate_name="" if request.name else "run-",
            annotations=_annotations(request),
        ),
        spec=PodSpec(
            containers=(
                Container(
                    name=CONTAINER,
                    image=request.image,
                    image_pull_policy=PullPolicy.IF_NOT_PRESENT,
                    args=tuple(_literal(text) for text in request.args) or None,
                    env=tuple(_variable(text) for text in request.env),
                    working_dir=request.workdir,
                    volume_mounts=tuple(mount for _, mount in volumes),
                    resources=_resources(request),
                    stdin=request.stdin,
                    tty=request.terminal,
                    security_context=SecurityContext(
                        privileged=request.privileged, read_only_root_filesystem=request.read_only
                    ),
                ),
            ),
            volumes=tuple(volume for volume, _ in volumes),
            host_network=request.host_network,
            restart_policy=RestartPolicy.NEVER,
        ),
    )


def _annotations(request: RunRequest) -> dict[str, str]:
    given = {
        ROOTFS_PREFIX + CONTAINER: request.image if request.rootfs else None,
        f"pids-limit.{DOMAIN}/{CONTAINER}": None if request.pids is None else str(request.pids),
        BEST_EFFORT: "true" if request.best_effort else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _resources(request: RunRequest) -> ResourceRequirements:
    """Return the limits, which are requests too, as where a manifest gives only limits."""
    limits = ResourceList(cpu_millis=request.cpu_millis, memory=request.memory)
    return ResourceRequirements(requests=limits, limits=limits)


def _variable(text: str) -> EnvVar:
    name, _, value = text.partition("=")
    return EnvVar(name=name, value=_literal(value))


def _literal(text: str) -> str:
    """Return text of the command line so that nothing in it is expanded as `$(NAME)`."""
    return text.replace("$", "$$")


def _volume(index: int, text: str) -> tuple[Volume, VolumeMount]:
    parts = text.split(":")
    hint = "write -v /host/path:/container/path[:ro], or -v /container/path for an empty one"
    name = f"v{index}"
    if len(parts) == 1:
        source: EmptyDir | HostPath = EmptyDir()
        target, options = parts[0], ""
    else:
        source = HostPath(path=parts[0])
        target, options = parts[1], ":".join(parts[2:])
        if not parts[0].startswith("/"):
            raise InputError(f'volume "{text}": {parts[0]} is not an absolute path', hint=hint)
    if not target.startswith("/") or target == "/" or options not in ("", "ro", "rw"):
        raise InputError(f'"-v {text}" cannot be understood', hint=hint)
    mount = VolumeMount(name=name, mount_path=target, read_only=options == "ro")
    return Volume(name=name, source=source), mount
