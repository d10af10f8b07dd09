"""Bad input and faults: what is said, with which exit code, and that nothing was created."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cli
from tests.e2e.observe import box, manifest, pods, run_pod, status_of
from tests.leaks import snapshot
from tests.probes import AS_NOBODY

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 1000"


def nothing_was_created(cli: Cli) -> bool:
    """Whether the instance has made no file at all: what is wrong is found before the first effect."""
    return not cli.root.exists() and not cli.state.exists()


def refused(cli: Cli, text: str) -> list[str]:
    """Give a manifest that must be refused as input; return the lines of the error."""
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert nothing_was_created(cli)
    return result.stderr.splitlines()


# Manifests


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no Kubernetes object"),
        ("a: [1, 2", "expected ',' or ']'"),
        ("a: &x [*x]", ""),
        ("just text", ""),
        ("apiVersion: v1\nkind: Pod\nkind: Pod\n", "kind"),
        ("- 1\n- 2\n", ""),
        ("apiVersion: v1\nkind: Deployment\nmetadata: {name: x}\n", "Deployment"),
        ("\x00", ""),
    ],
)
def test_what_is_no_manifest(cli: Cli, text: str, reason: str) -> None:
    lines = refused(cli, text)
    assert lines[0].startswith("pyrun: stdin: ")
    assert reason in "\n".join(lines)


def test_text_that_is_not_utf_8(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_bytes(b"apiVersion: v1\nkind: P\xffd\n")
    result = cli.run("pod", "create", "-f", str(file))
    assert result.returncode == 2
    assert f"{file}: 1 problem" in result.stderr
    assert "not UTF-8 text: byte 22" in result.stderr


def test_a_file_that_cannot_be_read(cli: Cli) -> None:
    result = cli.run("pod", "create", "-f", "/no/such/file.yaml")
    assert result.returncode == 2
    assert result.stderr == (
        "pyrun: cannot read /no/such/file.yaml: No such file or directory; give a manifest file, or - for stdin\n"
    )


def test_every_problem_is_told_at_once_with_its_path(cli: Cli) -> None:
    text = """
    apiVersion: v1
    kind: Pod
    metadata: {name: Not_A_Name}
    spec:
      restartPolicy: Sometimes
      shareProcessNamespaces: true
      terminationGracePeriodSeconds: -1
      volumes:
      - {name: v}
      - {name: v}
      containers:
      - {name: a, image: x, comand: [sh]}
      - {name: a, image: x, tty: "yes", volumeMounts: [{name: w, mountPath: relative}]}
      - {name: b, image: x, livenessProbe: {}, securityContext: {runAsUser: root}}
    """
    lines = refused(cli, text)
    paths = [line.strip().partition(": ")[0] for line in lines[1:]]
    assert sorted(paths) == sorted(
        [
            "metadata.name",
            "spec.restartPolicy",
            "spec.shareProcessNamespaces",
            "spec.terminationGracePeriodSeconds",
            "spec.volumes[1].name",
            "spec.containers[0].comand",
            "spec.containers[1].name",
            "spec.containers[1].tty",
            "spec.containers[1].volumeMounts[0].name",
            "spec.containers[1].volumeMounts[0].mountPath",
            "spec.containers[2].livenessProbe",
            "spec.containers[2].securityContext.runAsUser",
        ]
    )
    assert lines[0] == f"pyrun: stdin: {len(paths)} problems"


def test_an_unknown_field_is_refused_with_the_nearest_known_one(cli: Cli) -> None:
    container = {"name": "a", "image": "x", "comand": ["sh"]}
    lines = refused(cli, manifest(cli, container))
    assert "spec.containers[0].comand" in lines[1]
    assert '"command"' in lines[1]


def test_a_field_of_kubernetes_that_is_not_supported_is_refused_by_name(cli: Cli) -> None:
    lines = refused(cli, manifest(cli, box(SLEEP, volumeDevices=[])))
    assert "spec.containers[0].volumeDevices: " in lines[1]
    assert "not supported" in lines[1]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"shareProcessNamespace": True, "hostPID": True}, "spec.shareProcessNamespace"),
        ({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}, "spec.volumes[0].hostPath"),
    ],
)
def test_impossible_combinations(cli: Cli, fields: dict[str, Any], path: str) -> None:
    assert path in refused(cli, manifest(cli, box(SLEEP), **fields))[1]


def test_privileged_without_escalation(cli: Cli) -> None:
    context = {"privileged": True, "allowPrivilegeEscalation": False}
    lines = refused(cli, manifest(cli, box(SLEEP, securityContext=context)))
    assert "spec.containers[0].securityContext.allowPrivilegeEscalation" in lines[1]


def test_one_bad_document_spoils_all(cli: Cli) -> None:
    good = manifest(cli, box(SLEEP), name="good")
    bad = manifest(cli, box(SLEEP), name="bad", restartPolicy="Sometimes")
    assert "restartPolicy" in refused(cli, f"{good}\n---\n{bad}")[1]


def test_two_documents_with_one_name(cli: Cli) -> None:
    text = manifest(cli, box(SLEEP))
    lines = refused(cli, f"{text}\n---\n{text}")
    assert '"default/test" is given twice' in lines[1]


def test_nothing_names_a_program(cli: Cli) -> None:
    """A plain directory as root has no ENTRYPOINT; found before any effect."""
    result = cli.run("pod", "create", "-f", "-", stdin=manifest(cli, {"name": "c0", "image": "x"}))
    assert result.returncode == 2
    assert 'container "c0": neither the manifest nor image "x" names a program' in result.stderr
    assert not os.path.exists(cli.layout.pods) or not os.listdir(cli.layout.pods)


# What manifests may look like


FORMS = {
    "block": """
        # a comment
        apiVersion: v1
        kind: Pod
        metadata:
          name: test
          annotations:
            rootfs.pyrun.io/c0: @ROOTFS
        spec:
          containers:
          - name: c0   # at the same indentation
            image: busybox
            command: ["sleep", "1000"]
        """,
    "flow": "{apiVersion: v1, kind: Pod, metadata: {name: test, annotations: {rootfs.pyrun.io/c0: @ROOTFS}},"
    " spec: {containers: [{name: c0, image: busybox, command: [sleep, '1000']}]}}",
    "empty documents around": """
        ---
        # nothing here
        ---
        {apiVersion: v1, kind: Pod, metadata: {name: test, annotations: {rootfs.pyrun.io/c0: @ROOTFS}},
         spec: {containers: [{name: c0, image: busybox, command: [sleep, '1000']}]}}
        ---
        ...
        """,
    "list": """
        apiVersion: v1
        kind: List
        items:
        - {apiVersion: v1, kind: Pod, metadata: {name: test, annotations: {rootfs.pyrun.io/c0: @ROOTFS}},
           spec: {containers: [{name: c0, image: busybox, command: [sleep, '1000']}]}}
        """,
}


@pytest.mark.parametrize("form", FORMS)
def test_yaml_in_every_form(cli: Cli, form: str) -> None:
    cli.create(FORMS[form])
    assert status_of(cli)["phase"] == "Running"


def test_json_from_a_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(json.loads(manifest(cli, box(SLEEP))), indent=2))
    cli.ok("pod", "create", "-f", str(file))
    assert status_of(cli)["phase"] == "Running"


def test_what_is_listed_can_be_created_again(cli: Cli) -> None:
    """`pod ls -o json` prints a List that create takes: status and what a server sets are passed over."""
    run_pod(cli, box(SLEEP), hostname="chosen")
    listed = cli.ok("pod", "ls", "-o", "json")
    cli.ok("pod", "rm", "-f", "test")
    cli.ok("pod", "create", "-f", "-", stdin=listed)
    assert pods(cli)[0]["spec"] == json.loads(listed)["items"][0]["spec"]


# Faults of the host


def test_a_missing_image(cli: Cli) -> None:
    container = {"name": "c0", "image": "no-such-image", "imagePullPolicy": "Never", "command": ["true"]}
    text = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "test"},
            "spec": {"containers": [container]},
        }
    )
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 1
    assert 'container "c0"' in result.stderr
    assert "no-such-image" in result.stderr
    assert "Never" in result.stderr


def test_a_missing_root_file_system(cli: Cli) -> None:
    text = manifest(cli, box(SLEEP)).replace(str(cli.rootfs), "/no/such/root")
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 1
    assert 'container "c0": root file system /no/such/root is not a directory' in result.stderr


def test_an_exhausted_subnet(cli: Cli) -> None:
    cli.environment["PYRUN_SUBNET"] = "10.137.0.0/30"
    run_pod(cli, box(SLEEP), name="only")
    result = cli.run("pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP), name="more"))
    assert result.returncode == 1
    assert "10.137.0.0/30" in result.stderr
    assert [pod["metadata"]["name"] for pod in pods(cli)] == ["only"]
    cli.ok("pod", "rm", "-f", "only")
    run_pod(cli, box(SLEEP), name="more")


@pytest.fixture
def neighbour(cli: Cli, module_cli: Cli) -> Iterator[str]:
    """The subnet of another instance, which has a Pod; it is the subnet of `cli` too."""
    run_pod(module_cli, box(SLEEP))
    cli.environment["PYRUN_SUBNET"] = module_cli.environment["PYRUN_SUBNET"]
    yield cli.environment["PYRUN_SUBNET"]
    module_cli.ok("pod", "rm", "-f", "test")


def test_a_subnet_that_clashes(cli: Cli, neighbour: str) -> None:
    result = cli.run("pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP)))
    assert result.returncode == 1
    assert f"the Pod subnet {neighbour} clashes with" in result.stderr
    assert "choose another with --subnet or PYRUN_SUBNET, for example 10." in result.stderr
    assert os.listdir(cli.layout.pods) == []


def test_a_subnet_that_clashes_stays_as_it_was(cli: Cli, neighbour: str) -> None:
    before = snapshot(cli.layout)
    cli.run("pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP)))
    assert snapshot(cli.layout) == before


@pytest.mark.parametrize("subnet", ["nonsense", "10.0.0.0/33", "10.0.0.1/16", "127.0.0.0/8", "10.0.0.0/31"])
def test_a_subnet_that_is_none(cli: Cli, subnet: str) -> None:
    result = cli.run("--subnet", subnet, "pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP)))
    assert result.returncode == 2
    assert subnet in result.stderr
    assert nothing_was_created(cli)


def test_a_state_directory_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cli.environment["PYRUN_STATE"] = str(tmp_path / "file/state")
    result = cli.run("pod", "create", "-f", "-", stdin=manifest(cli, box(SLEEP)))
    assert result.returncode == 1
    assert str(tmp_path / "file") in result.stderr
    assert "Traceback" not in result.stderr


def test_a_full_disk_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    """The root of the instance is a tmpfs of a few pages, in a mount namespace of the command's own."""
    cli.root.mkdir()
    script = (
        'mount --make-rprivate / && mount -t tmpfs -o size=16k,nr_inodes=12 tmpfs "$1" && shift && "$@"; '
        'code=$?; find "$PYRUN_ROOT" -mindepth 2; exit $code'
    )
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(cli.root), *cli.command, "pod", "create", "-f", "-"],
        input=manifest(cli, box(SLEEP)),
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result
    assert "No space left on device" in result.stderr
    assert result.stdout == ""


# Not root, command line


def as_other_user(cli: Cli, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AS_NOBODY, *cli.command, *arguments],
        input=stdin,
        env={**cli.environment, "HOME": "/"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.requires("other_user")
@pytest.mark.parametrize(
    "arguments",
    [
        ("pod", "create", "-f", "-"),
        ("pod", "ls"),
        ("pod", "rm", "--all"),
        ("pod", "stop", "x"),
        ("pod", "kill", "x"),
        ("pod", "pause", "x"),
        ("pod", "inspect", "x"),
    ],
)
def test_not_root(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = as_other_user(cli, *arguments, stdin=manifest(cli, box(SLEEP)))
    assert result.returncode == 1
    assert result.stderr == (
        "pyrun: pyrun makes namespaces, mounts and cgroups, which needs root; "
        "run it with sudo (pyrun plan, --help and version work without)\n"
    )
    assert nothing_was_created(cli)


@pytest.mark.requires("other_user")
@pytest.mark.parametrize(
    "arguments", [("--help",), ("pod", "create", "--help"), ("plan", "-f", "-"), ("version",), ("--version",)]
)
def test_what_works_without_root(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = as_other_user(cli, *arguments, stdin=manifest(cli, box(SLEEP)))
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert nothing_was_created(cli)


@pytest.mark.requires("other_user")
def test_a_bad_manifest_is_explained_without_root(cli: Cli) -> None:
    result = as_other_user(cli, "plan", "-f", "-", stdin=manifest(cli, box(SLEEP), restartPolicy="x"))
    assert result.returncode == 2
    assert "spec.restartPolicy" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nosuch",), "No such command 'nosuch'"),
        (("pod", "nosuch"), "No such command 'nosuch'"),
        (("pod", "create"), "Missing option '-f'"),
        (("pod", "ls", "-o", "xml"), "Invalid value for '-o'"),
        (("pod", "stop"), "Missing argument 'POD...'"),
        (("pod", "stop", "-t", "-1", "x"), "Invalid value for '-t'"),
        (("pod", "create", "-f", "-", "--wait=never"), "Invalid value for '--wait'"),
    ],
)
def test_a_wrong_command_line(cli: Cli, arguments: tuple[str, ...], reason: str) -> None:
    result = cli.run(*arguments)
    assert result.returncode == 2
    assert reason in result.stderr
    assert nothing_was_created(cli)


def test_a_damaged_record_is_named(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    record = Path(cli.layout.pod_state(uid)) / "sandbox.json"
    whole = record.read_bytes()
    record.write_bytes(whole[:100])
    result = cli.run("pod", "ls")
    record.write_bytes(whole)
    assert result.returncode == 0
    assert "Unreadable" in result.stdout
    assert str(record) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_pod_with_a_damaged_record_can_be_removed(cli: Cli) -> None:
    """Removing is undoing the journal, which needs no other record."""
    uid = run_pod(cli, box(SLEEP))
    (Path(cli.layout.pod_state(uid)) / "sandbox.json").write_bytes(b"{")
    cli.ok("pod", "rm", "-f", uid)
    assert os.listdir(cli.layout.pods) == []
