"""From a Pod and its images to containers by Kubernetes' rules: tables of what gives what."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.cgroups.delegation import Place
from pyrun.errors import InputError
from pyrun.plan.container import pid_mode_of, rights
from pyrun.plan.convert import (
    command_line,
    container_of,
    environment,
    expand,
    hostname_of,
    image_from_directory,
    sandbox_of,
)
from pyrun.plan.downward import PodFacts, PodFields, planned_facts
from pyrun.plan.host import HostFacts
from pyrun.plan.sandbox import sandbox_facts
from pyrun.security.capabilities import DropBoundingSet
from pyrun.security.limits import Rlimit, SetLimits
from pyrun.spec.capability import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from pyrun.spec.container import ContainerConfig, Mount, MountSource, PidMode, User
from pyrun.spec.downward import FIELD_PATHS, MAP_PATHS, ResourceReference
from pyrun.spec.image import Image, ImageConfig
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.pod import (
    Capabilities,
    Container,
    EmptyDir,
    EnvVar,
    HostPath,
    HostPathType,
    Metadata,
    Pod,
    PodSpec,
    PullPolicy,
    SecurityContext,
    Volume,
    VolumeMount,
)
from pyrun.spec.resources import Capacity, ResourceList, ResourceRequirements

CAPACITY = Capacity(cpu_millis=4000, memory=1 << 34)
LAYOUT = Layout()


def container(**fields: object) -> Container:
    return Container(**{"name": "app", "image": "i", "image_pull_policy": PullPolicy.NEVER, **fields})  # type: ignore[arg-type]


def pod(one: Container, name: str = "web", **spec: object) -> Pod:
    return Pod(metadata=Metadata(name=name), spec=PodSpec(containers=(one,), **spec))  # type: ignore[arg-type]


def converted(image: ImageConfig | None = None, **fields: object) -> ContainerConfig:
    one = container(**fields)
    config = image or ImageConfig(entrypoint=("/app",))
    return container_of(pod(one), one, Image(id="id", config=config), "uid", LAYOUT)


# Kubernetes API reference, Container.command and args, as the documentation's own table has it.
@pytest.mark.parametrize(
    ("entrypoint", "cmd", "command", "args", "wanted"),
    [
        (("/ep",), ("a", "b"), None, None, ("/ep", "a", "b")),
        (("/ep",), ("a", "b"), ("/c",), None, ("/c",)),
        (("/ep",), ("a", "b"), None, ("x",), ("/ep", "x")),
        (("/ep",), ("a", "b"), ("/c",), ("x",), ("/c", "x")),
        ((), ("sh", "-c"), None, None, ("sh", "-c")),
        ((), ("sh",), None, ("x", "y"), ("x", "y")),
        (("/ep",), (), None, None, ("/ep",)),
        ((), (), ("/c", "d"), ("x",), ("/c", "d", "x")),
        ((), (), None, ("x",), ("x",)),
        (("/ep",), ("a",), (), (), ("/ep", "a")),
        (("/ep",), ("a",), (), ("x",), ("/ep", "x")),
    ],
)
def test_command_and_args_against_entrypoint_and_cmd(
    entrypoint: tuple[str, ...],
    cmd: tuple[str, ...],
    command: tuple[str, ...] | None,
    args: tuple[str, ...] | None,
    wanted: tuple[str, ...],
) -> None:
    image = ImageConfig(entrypoint=entrypoint, cmd=cmd)
    assert command_line(container(command=command, args=args), image, {}) == wanted


def test_no_program_anywhere_is_an_input_error() -> None:
    with pytest.raises(InputError, match='neither the manifest nor image "i" names a program'):
        command_line(container(), ImageConfig(), {})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1y2z"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$(A", "$(A"),
        ("$A ${A}", "$A ${A}"),
        ("$", "$"),
        ("$$", "$"),
        ("a$", "a$"),
        ("$()", "$()"),
        ("$(A$(B))", "$(A$(B))"),
        ("$(EMPTY)|", "|"),
        ("$(REFERENCE)", "$(A)"),
        ("", ""),
    ],
)
def test_expansion(text: str, wanted: str) -> None:
    assert expand(text, {"A": "1", "B": "2", "EMPTY": "", "REFERENCE": "$(A)"}) == wanted


def test_a_variable_sees_those_before_it() -> None:
    env = (
        EnvVar(name="LATE", value="$(FIRST)"),
        EnvVar(name="FIRST", value="1"),
        EnvVar(name="SECOND", value="$(FIRST)2"),
        EnvVar(name="FIRST", value="$(FIRST)+"),
        EnvVar(name="THIRD", value="$(FIRST)"),
    )
    found = environment(container(env=env), ImageConfig(), host_network=False, hostname="h")
    assert (found["LATE"], found["SECOND"], found["FIRST"], found["THIRD"]) == ("$(FIRST)", "12", "1+", "1+")


def test_a_variable_does_not_see_those_of_the_image() -> None:
    one = container(env=(EnvVar(name="X", value="$(PATH):/more"),))
    assert (
        environment(one, ImageConfig(env=("PATH=/x",)), host_network=True, hostname="h")["X"]
        == "$(PATH):/more"
    )


def test_command_and_args_see_the_variables_of_the_manifest_only() -> None:
    config = converted(
        ImageConfig(env=("OF_IMAGE=1",)),
        command=("run", "$(MINE)", "$(OF_IMAGE)", "$(PATH)"),
        args=("$$(MINE)",),
        env=(EnvVar(name="MINE", value="yes"),),
    )
    assert config.process.args == ("run", "yes", "$(OF_IMAGE)", "$(PATH)", "$(MINE)")


def test_no_program_is_run_by_a_shell() -> None:
    config = converted(command=("echo $HOME; ls",), args=("*", "a b"))
    assert config.process.args == ("echo $HOME; ls", "*", "a b")


def test_a_variable_that_is_expanded_is_expanded_once() -> None:
    env = (
        EnvVar(name="A", value="$$(B)"),
        EnvVar(name="B", value="1"),
        EnvVar(name="C", value="$(A)"),
        EnvVar(name="D", value="$(D)"),
    )
    found = environment(container(env=env), ImageConfig(), host_network=True, hostname="h")
    assert (found["A"], found["C"], found["D"]) == ("$(B)", "$(B)", "$(D)")
    assert command_line(container(command=("$(A)", "$(C)$(B)"), env=env), ImageConfig(), found) == (
        "$(B)",
        "$(B)1",
    )


TEXTS = st.text("$()AB ", max_size=12)


@given(TEXTS)
def test_a_doubled_dollar_is_always_literal(text: str) -> None:
    assert expand(text.replace("$", "$$"), {"A": "1", "B": "2"}) == text


@given(st.text("$)AB ", max_size=12))
def test_an_expansion_without_references_only_halves_dollars(text: str) -> None:
    assert expand(text, {"A": "1"}) == text.replace("$$", "$")


def test_an_unknown_name_stays_as_written_whatever_it_is() -> None:
    assert expand("$($$)", {}) == "$($$)"


FIELDS = PodFields(
    metadata=Metadata(
        name="web",
        namespace="shop",
        labels={"app.kubernetes.io/name": "nginx"},
        annotations={"Example.com/note": "it's $(A)"},
    ),
    facts=PodFacts(uid="u-1", address="10.137.0.9", node_name="node", host_address="10.137.0.1"),
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app.kubernetes.io/name']", "nginx"),
        ("metadata.labels['other']", ""),
        ("metadata.annotations['Example.com/note']", "it's $(A)"),
        ("metadata.annotations['other']", ""),
        ("spec.nodeName", "node"),
        ("spec.serviceAccountName", "default"),
        ("status.hostIP", "10.137.0.1"),
        ("status.hostIPs", "10.137.0.1"),
        ("status.podIP", "10.137.0.9"),
        ("status.podIPs", "10.137.0.9"),
    ],
)
def test_fields_of_the_pod(path: str, value: str) -> None:
    env = (EnvVar(name="A", value="1"), EnvVar(name="F", field_path=path), EnvVar(name="G", value="<$(F)>"))
    found = environment(container(env=env), ImageConfig(), True, "h", FIELDS)
    # What the Pod says is not expanded itself, and those after it see it.
    assert (found["F"], found["G"]) == (value, f"<{value}>")


def test_every_field_path_that_a_manifest_may_give_has_a_value() -> None:
    fields = msgspec.structs.replace(FIELDS, spec=PodSpec(containers=(), service_account_name="builder"))
    assert fields.value("spec.serviceAccountName") == "builder"
    assert all(fields.value(path) for path in FIELD_PATHS)
    assert all(fields.value(f"{name}['other']") == "" for name in MAP_PATHS)


def test_on_the_hosts_network_a_pod_has_the_hosts_address() -> None:
    fields = PodFields(facts=PodFacts(host_address="192.0.2.1"))
    assert fields.value("status.podIP") == fields.value("status.hostIP") == "192.0.2.1"


def test_a_container_is_told_of_its_pod() -> None:
    env = (
        EnvVar(name="NAME", field_path="metadata.name"),
        EnvVar(name="UID", field_path="metadata.uid"),
        EnvVar(name="IP", field_path="status.podIP"),
    )
    one = container(env=env, command=("run", "$(IP)"))
    image = Image(id="id", config=ImageConfig())
    told = container_of(pod(one), one, image, "u-1", LAYOUT, PodFacts(uid="u-1", address="10.137.0.9"))
    assert told.process.args == ("run", "10.137.0.9")
    assert {"NAME=web", "UID=u-1", "IP=10.137.0.9"} <= set(told.process.env)
    assert "UID=u-1" in container_of(pod(one), one, image, "u-1", LAYOUT).process.env


def test_the_address_of_a_pod_that_is_not_made_is_a_reference() -> None:
    planned = planned_facts(pod(container()), "<uid>", facts())
    assert planned == PodFacts(
        uid="<uid>",
        address="<address from 10.137.0.0/16>",
        node_name="node",
        host_address="10.137.0.1",
        capacity=CAPACITY,
    )
    shared = planned_facts(pod(container(), host_network=True), "<uid>", facts())
    assert (shared.address, shared.host_address) == ("", "<address of the host>")
    assert shared.capacity == CAPACITY


MI, GI = 2**20, 2**30
LIMITED = ResourceRequirements(
    requests=ResourceList(cpu_millis=250, memory=64 * MI),
    limits=ResourceList(cpu_millis=1500, memory=100 * MI + 1, ephemeral_storage=GI),
)
NODE = Capacity(cpu_millis=8000, memory=32 * GI, ephemeral_storage=100 * GI)


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        (ResourceReference(resource="requests.cpu", divisor=1), "250"),
        (ResourceReference(resource="requests.cpu", divisor=1000), "1"),
        (ResourceReference(resource="limits.cpu", divisor=1000), "2"),
        (ResourceReference(resource="limits.memory", divisor=MI), "101"),
        (ResourceReference(resource="limits.memory", divisor=1), str(100 * MI + 1)),
        (ResourceReference(resource="requests.memory", divisor=MI), "64"),
        (ResourceReference(resource="requests.ephemeral-storage", divisor=1), "0"),
        (ResourceReference(resource="limits.ephemeral-storage", divisor=GI), "1"),
        # What another container does not say is the host's, and no request is none.
        (ResourceReference(resource="limits.cpu", divisor=1000, container="other"), "8"),
        (ResourceReference(resource="limits.memory", divisor=GI, container="other"), "32"),
        (ResourceReference(resource="limits.ephemeral-storage", divisor=GI, container="other"), "100"),
        (ResourceReference(resource="requests.cpu", divisor=1, container="other"), "0"),
    ],
)
def test_resources_of_the_pods_containers(reference: ResourceReference, value: str) -> None:
    env = (EnvVar(name="R", resource=reference), EnvVar(name="S", value="<$(R)>"))
    one, other = container(env=env, resources=LIMITED), container(name="other")
    fields = PodFields(spec=PodSpec(containers=(one, other)), facts=PodFacts(capacity=NODE))
    found = environment(one, ImageConfig(), True, "h", fields)
    assert (found["R"], found["S"]) == (value, f"<{value}>")


def test_a_limit_that_is_not_given_is_the_pods_before_the_hosts() -> None:
    env = (
        EnvVar(name="CPU", resource=ResourceReference(resource="limits.cpu", divisor=1000)),
        EnvVar(name="MEMORY", resource=ResourceReference(resource="limits.memory", divisor=GI)),
    )
    whole = ResourceRequirements(limits=ResourceList(cpu_millis=2000))
    fields = PodFields(spec=PodSpec(containers=(), resources=whole), facts=PodFacts(capacity=NODE))
    found = environment(container(env=env), ImageConfig(), True, "h", fields)
    assert (found["CPU"], found["MEMORY"]) == ("2", "32")


@pytest.mark.parametrize(
    ("image_env", "env", "tty", "host_network", "wanted"),
    [
        (
            (),
            {},
            False,
            False,
            {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": "h"},
        ),
        (("PATH=/x", "A=b=c"), {}, False, False, {"PATH": "/x", "A": "b=c", "HOSTNAME": "h"}),
        (("PATH=/x",), {"PATH": "/y", "HOSTNAME": "mine"}, False, False, {"PATH": "/y", "HOSTNAME": "mine"}),
        (("PATH=/x",), {}, True, True, {"PATH": "/x", "TERM": "xterm"}),
        (("PATH=/x", "TERM=vt100"), {}, True, True, {"PATH": "/x", "TERM": "vt100"}),
        (("PATH=/x", "EMPTY="), {"EMPTY": ""}, False, True, {"PATH": "/x", "EMPTY": ""}),
    ],
)
def test_path_hostname_and_term(
    image_env: tuple[str, ...], env: dict[str, str], tty: bool, host_network: bool, wanted: dict[str, str]
) -> None:
    declared = tuple(EnvVar(name=name, value=value) for name, value in env.items())
    one = container(env=declared, tty=tty)
    assert environment(one, ImageConfig(env=image_env), host_network, "h") == wanted


@pytest.mark.parametrize(
    ("image_user", "run_as_user", "run_as_group", "wanted"),
    [
        ("", None, None, User()),
        ("www:extra", None, None, User(name="www:extra")),
        ("www", 0, None, User(name="0")),
        ("www", 33, 44, User(name="33", group=44)),
        ("www", None, 44, User(name="www", group=44)),
        ("", 1000, 0, User(name="1000", group=0)),
    ],
)
def test_user(image_user: str, run_as_user: int | None, run_as_group: int | None, wanted: User) -> None:
    context = SecurityContext(run_as_user=run_as_user, run_as_group=run_as_group)
    image = ImageConfig(entrypoint=("/app",), user=image_user)
    assert converted(image, security_context=context).process.user == wanted


@pytest.mark.parametrize(
    ("add", "drop", "wanted"),
    [
        ((), (), set(DEFAULT_CAPABILITIES)),
        (("SYS_TIME",), (), {*DEFAULT_CAPABILITIES, "SYS_TIME"}),
        (("CAP_SYS_TIME",), ("cap_chown",), {*DEFAULT_CAPABILITIES, "SYS_TIME"} - {"CHOWN"}),
        ((), ("ALL",), set()),
        (("NET_BIND_SERVICE",), ("ALL",), {"NET_BIND_SERVICE"}),
        (("ALL",), (), set(ALL_CAPABILITIES)),
        (("ALL",), ("SYS_ADMIN",), set(ALL_CAPABILITIES) - {"SYS_ADMIN"}),
        (("ALL",), ("ALL",), set(ALL_CAPABILITIES)),
        (("CHOWN",), ("CHOWN",), set(DEFAULT_CAPABILITIES)),
    ],
)
def test_capabilities(add: tuple[str, ...], drop: tuple[str, ...], wanted: set[str]) -> None:
    context = SecurityContext(capabilities=Capabilities(add=add, drop=drop))
    found = converted(security_context=context).process.capabilities
    assert set(found) == wanted
    assert found == tuple(name for name in ALL_CAPABILITIES if name in wanted)


def test_privileged_has_all_capabilities() -> None:
    context = SecurityContext(privileged=True, capabilities=Capabilities(drop=("ALL",)))
    assert converted(security_context=context).process.capabilities == ALL_CAPABILITIES


def test_a_privileged_container_gets_what_the_host_has() -> None:
    host = facts(capabilities=tuple(c for c in ALL_CAPABILITIES if c != "SYS_TIME"))
    everything = converted(security_context=SecurityContext(privileged=True))
    (dropped,) = (step for step in rights(everything, host) if isinstance(step, DropBoundingSet))
    assert dropped.keep == host.capabilities


def facts(**fields: object) -> HostFacts:
    given: dict[str, object] = {
        "layout": LAYOUT,
        "place": Place(parent="/cg"),
        "capacity": CAPACITY,
        "capabilities": ALL_CAPABILITIES,
        "limits": (),
        "network": NetworkConfig.of(LAYOUT.name, LAYOUT.state),
        "hostname": "node",
        **fields,
    }
    return HostFacts(**given)  # type: ignore[arg-type]


def test_limits_stay_below_those_of_the_host() -> None:
    host = facts(limits=(Rlimit("NOFILE", 1024, 4096), Rlimit("CORE", 0, -1), Rlimit("NPROC", 10, 100)))
    (limits,) = (step for step in rights(converted(), host) if isinstance(step, SetLimits))
    assert limits.limits == (Rlimit("CORE", 0, -1), Rlimit("NOFILE", 4096, 4096), Rlimit("NPROC", 100, 100))


@pytest.mark.parametrize(
    ("declared", "of_image", "wanted"),
    [("", "", "/"), ("", "/srv", "/srv"), ("/w", "/srv", "/w"), ("/w", "", "/w")],
)
def test_working_directory(declared: str, of_image: str, wanted: str) -> None:
    image = ImageConfig(entrypoint=("/app",), working_dir=of_image)
    assert converted(image, working_dir=declared).process.cwd == wanted


@pytest.mark.parametrize(
    ("declared", "of_image", "wanted"),
    [
        ("", "", "SIGTERM"),
        ("", "SIGQUIT", "SIGQUIT"),
        ("SIGUSR1", "SIGQUIT", "SIGUSR1"),
        ("SIGUSR1", "", "SIGUSR1"),
    ],
)
def test_stop_signal(declared: str, of_image: str, wanted: str) -> None:
    image = ImageConfig(entrypoint=("/app",), stop_signal=of_image)
    assert converted(image, stop_signal=declared).stop_signal == wanted


@pytest.mark.parametrize(("allowed", "wanted"), [(None, False), (True, False), (False, True)])
def test_no_new_privileges(allowed: bool | None, wanted: bool) -> None:
    context = SecurityContext(allow_privilege_escalation=allowed)
    assert converted(security_context=context).process.no_new_privileges is wanted


@pytest.mark.parametrize(
    ("host_pid", "share", "wanted"),
    [(False, False, PidMode.PRIVATE), (False, True, PidMode.POD), (True, False, PidMode.HOST)],
)
def test_pid_mode(host_pid: bool, share: bool, wanted: PidMode) -> None:
    assert pid_mode_of(host_pid, share) is wanted


@pytest.mark.parametrize(
    ("name", "hostname", "wanted"),
    [
        ("web", "", "web"),
        ("web", "front", "front"),
        ("a" * 80, "", "a" * 63),
        ("a" * 62 + "-b", "", "a" * 62),
        ("a" * 61 + ".-bc", "", "a" * 61),
    ],
)
def test_hostname(name: str, hostname: str, wanted: str) -> None:
    assert hostname_of(pod(container(), name, hostname=hostname)) == wanted


def test_on_the_hosts_network_the_hostname_is_the_hosts() -> None:
    shared = sandbox_of(pod(container(), host_network=True), "uid", CAPACITY)
    assert sandbox_facts(shared, facts()).hostname == "node"
    own = sandbox_of(pod(container()), "uid", CAPACITY)
    assert sandbox_facts(own, facts()).hostname == "web"


@pytest.mark.parametrize(
    ("source", "read_only", "privileged", "wanted"),
    [
        (EmptyDir(), False, False, (MountSource.HOST, "/var/lib/pyrun/pods/uid/volumes/v", ("nodev",))),
        (EmptyDir(), True, False, (MountSource.HOST, "/var/lib/pyrun/pods/uid/volumes/v", ("nodev", "ro"))),
        (EmptyDir(memory=True), False, False, (MountSource.SANDBOX, "/volumes/v", ("nodev",))),
        (HostPath(path="/srv"), True, False, (MountSource.HOST, "/srv", ("nodev", "ro"))),
        (HostPath(path="/srv"), False, True, (MountSource.HOST, "/srv", ())),
        (
            HostPath(path="/dev/kvm", type=HostPathType.CHAR_DEVICE),
            False,
            False,
            (MountSource.HOST, "/dev/kvm", ()),
        ),
    ],
)
def test_volume_mounts(
    source: EmptyDir | HostPath,
    read_only: bool,
    privileged: bool,
    wanted: tuple[MountSource, str, tuple[str, ...]],
) -> None:
    mount = VolumeMount(name="v", mount_path="/m", read_only=read_only, sub_path="s")
    one = container(volume_mounts=(mount,), security_context=SecurityContext(privileged=privileged))
    given_pod = pod(one, volumes=(Volume(name="v", source=source),))
    config = container_of(given_pod, one, Image(id="i", config=ImageConfig(cmd=("x",))), "uid", LAYOUT)
    kind, path, options = wanted
    assert config.mounts == (Mount(kind=kind, source=path, target="/m", options=options, sub_path="s"),)


@pytest.mark.parametrize(
    ("path", "directory", "layer"), [("/srv/root", "/srv", "root"), ("/root/", "/", "root"), ("/", "/", ".")]
)
def test_a_plain_directory_is_an_image_of_one_layer(path: str, directory: str, layer: str) -> None:
    image = image_from_directory(path)
    assert (image.layers_dir, image.layers) == (directory, (layer,))
