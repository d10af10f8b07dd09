"""What the options of `pyrun run` and `pyrun exec` mean."""

from __future__ import annotations

import click
import pytest

from pyrun.cli.engine import (
    EngineCommand,
    as_engine_error,
    cpu_limit,
    memory_limit,
    reader_may_leave,
    variables,
)
from pyrun.cli.exec import split_command
from pyrun.errors import Conflict, InputError, Interrupted, ProgramError, ProgramNotFound, PyrunError
from pyrun.runtime.one import CONTAINER, RunRequest, pod_of
from pyrun.spec.annotations import ROOTFS_PREFIX, takes_best_effort
from pyrun.spec.linux import container_resources
from pyrun.spec.pod import EmptyDir, EnvVar, HostPath, PullPolicy, RestartPolicy, VolumeMount
from pyrun.spec.qos import QosClass, qos_class
from pyrun.spec.resources import Capacity, ResourceList, ResourceRequirements


def test_the_pod_of_the_shortest_command() -> None:
    pod = pod_of(RunRequest(image="busybox"))
    [container] = pod.spec.containers
    assert (pod.metadata.name, pod.metadata.generate_name) == ("", "run-")
    assert pod.metadata.annotations == {}
    assert pod.spec.restart_policy is RestartPolicy.NEVER
    assert not pod.spec.host_network
    assert (container.name, container.image) == (CONTAINER, "busybox")
    assert container.image_pull_policy is PullPolicy.IF_NOT_PRESENT
    assert (container.command, container.args) == (None, None)
    assert (container.stdin, container.tty) == (False, False)
    assert not container.security_context.privileged
    assert not container.security_context.read_only_root_filesystem


def test_limits_are_requests_too() -> None:
    limits = ResourceList(cpu_millis=500, memory=1 << 26)
    request = RunRequest(image="i", memory=1 << 26, cpu_millis=500, pids=10, best_effort=True)
    pod = pod_of(request)
    assert pod.spec.containers[0].resources == ResourceRequirements(requests=limits, limits=limits)
    assert qos_class(pod.spec) is QosClass.GUARANTEED
    assert takes_best_effort(pod)
    assert container_resources(pod, pod.spec.containers[0], Capacity(cpu_millis=1, memory=1)).pids_max == 10
    assert qos_class(pod_of(RunRequest(image="i")).spec) is QosClass.BEST_EFFORT


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("64m", 64 << 20),
        ("1g", 1 << 30),
        ("4k", 4096),
        ("4096b", 4096),
        ("4096", 4096),
        ("64Mi", 64 << 20),
        ("64M", 64_000_000),
        ("1.5Gi", 3 << 29),
    ],
)
def test_memory_is_read_as_engines_and_as_kubernetes_do(text: str, amount: int) -> None:
    assert memory_limit(text) == amount


@pytest.mark.parametrize("text", ["", "m", "0", "0m", "-1", "1mb", "64 m", "1e400", "9" * 30 + "g", "x"])
def test_what_is_no_memory_limit(text: str) -> None:
    with pytest.raises(InputError, match="--memory"):
        memory_limit(text)


@pytest.mark.parametrize(("text", "millis"), [("2", 2000), ("0.5", 500), ("250m", 250), ("0.0001", 1)])
def test_cpus(text: str, millis: int) -> None:
    assert cpu_limit(text) == millis


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1e400"])
def test_what_is_no_limit_of_cpus(text: str) -> None:
    with pytest.raises(InputError, match="--cpus"):
        cpu_limit(text)


def test_the_pod_of_all_options() -> None:
    pod = pod_of(
        RunRequest(
            image="/srv/root",
            args=("sh", "-c", "echo $HOME"),
            name="mine",
            env=("A=1", "B=x=y", "C=$(A)$"),
            volumes=("/a:/b:ro", "/c"),
            workdir="/w",
            terminal=True,
            stdin=True,
            rootfs=True,
            host_network=True,
            privileged=True,
            read_only=True,
        )
    )
    [container] = pod.spec.containers
    assert (pod.metadata.name, pod.metadata.generate_name) == ("mine", "")
    assert pod.metadata.annotations == {ROOTFS_PREFIX + CONTAINER: "/srv/root"}
    assert container.args == ("sh", "-c", "echo $$HOME")
    assert container.env == (
        EnvVar(name="A", value="1"),
        EnvVar(name="B", value="x=y"),
        EnvVar(name="C", value="$$(A)$$"),
    )
    assert container.working_dir == "/w"
    assert (container.stdin, container.tty) == (True, True)
    assert container.security_context.privileged
    assert container.security_context.read_only_root_filesystem
    assert pod.spec.host_network
    assert len(pod.spec.volumes) == len(container.volume_mounts) == 2


@pytest.mark.parametrize(
    ("text", "source", "mount"),
    [
        ("/a:/b", HostPath(path="/a"), VolumeMount(name="v0", mount_path="/b")),
        ("/a:/b:rw", HostPath(path="/a"), VolumeMount(name="v0", mount_path="/b")),
        ("/a:/b:ro", HostPath(path="/a"), VolumeMount(name="v0", mount_path="/b", read_only=True)),
        ("/b", EmptyDir(), VolumeMount(name="v0", mount_path="/b")),
    ],
)
def test_volumes(text: str, source: EmptyDir | HostPath, mount: VolumeMount) -> None:
    pod = pod_of(RunRequest(image="i", volumes=(text,)))
    assert [v.source for v in pod.spec.volumes] == [source]
    assert pod.spec.containers[0].volume_mounts == (mount,)


@pytest.mark.parametrize(
    "text", ["", "name", "name:/b", "./a:/b", "/a:b", "/a:", ":/b", "/a:/", "/", "/a:/b:rx", "/a:/b:ro:z"]
)
def test_volumes_that_cannot_be_understood(text: str) -> None:
    with pytest.raises(InputError) as failed:
        pod_of(RunRequest(image="i", volumes=(text,)))
    assert text in str(failed.value)
    assert "-v /host/path:/container/path[:ro]" in (failed.value.hint or "")


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "$x=y")
    monkeypatch.delenv("NOT_THERE", raising=False)
    assert variables(("A=1", "FROM_HERE", "NOT_THERE", "B=", "C==")) == ("A=1", "FROM_HERE=$x=y", "B=", "C==")


@pytest.mark.parametrize("text", ["", "=", "=x"])
def test_a_variable_needs_a_name(text: str) -> None:
    with pytest.raises(InputError, match="has no name"):
        variables((text,))


@pytest.mark.parametrize(
    ("before", "arguments", "container", "command"),
    [
        (None, ("ls",), None, ("ls",)),
        (None, ("--", "ls", "-l"), None, ("ls", "-l")),
        (None, ("ls", "--", "-l"), None, ("ls", "--", "-l")),
        (None, ("-c", "web", "--", "ls"), "web", ("ls",)),
        (None, ("-c", "web", "ls"), "web", ("ls",)),
        (None, ("--container", "web", "--", "ls"), "web", ("ls",)),
        (None, ("--container=web", "--", "ls"), "web", ("ls",)),
        ("web", ("sh", "-c", "ls"), "web", ("sh", "-c", "ls")),
        ("web", ("--", "-c", "x"), "web", ("-c", "x")),
        (None, ("--", "--", "ls"), None, ("--", "ls")),
    ],
)
def test_split_command(
    before: str | None, arguments: tuple[str, ...], container: str | None, command: tuple[str, ...]
) -> None:
    assert split_command(before, arguments) == (container, command)


@pytest.mark.parametrize("arguments", [(), ("--",), ("-c", "web"), ("-c", "web", "--")])
def test_a_command_is_needed(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError, match="no command"):
        split_command(None, arguments)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PyrunError("x"), 125),
        (InputError("x"), 125),
        (Conflict("x"), 125),
        (OSError(28, "No space left on device", "/x"), 125),
        (ProgramError("x"), 126),
        (ProgramNotFound("x"), 127),
        (Interrupted("x"), 130),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    with pytest.raises(PyrunError) as raised, as_engine_error():
        raise error
    assert raised.value.exit_code == code


def test_an_error_of_the_system_keeps_its_path() -> None:
    with pytest.raises(PyrunError, match="/x: No space left on device"), as_engine_error():
        raise OSError(28, "No space left on device", "/x")


def test_a_reader_that_left_is_sigpipe() -> None:
    for context in (as_engine_error, reader_may_leave):
        with pytest.raises(click.exceptions.Exit) as ended, context():
            raise BrokenPipeError
        assert ended.value.exit_code == 141


def test_a_wrong_command_line_has_code_125(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command(cls=EngineCommand)
    @click.argument("image")
    def command(image: str) -> None:
        raise click.UsageError(f"not {image}")

    for arguments, said in (([], "IMAGE"), (["--wrong"], "--wrong"), (["x"], "not x")):
        assert command.main(arguments, standalone_mode=False) == 125
        assert said in capsys.readouterr().err
