"""`pyrun plan` on the command line: without root, without a trace, and what is then really done."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from pyrun.cgroups.delegation import Owner, find_place
from pyrun.cgroups.setting import SetCgroup
from pyrun.state.journal import AnyOperation
from tests.e2e.conftest import Cli
from tests.unprivileged import run_as_nobody

MANIFEST = Path(__file__).parents[1] / "unit/golden/one.yaml"


def test_it_needs_no_root_and_leaves_nothing(cli: Cli) -> None:
    result = run_as_nobody([*cli.command, "plan", "-f", "-"], cli.environment, MANIFEST.read_text())
    assert result.returncode == 0
    assert all(line.startswith("on this host: no controller ") for line in result.stderr.splitlines())
    assert result.stdout.startswith("Pod default/one\n  1  link ")
    assert not cli.root.exists() and not cli.state.exists()


def test_json_is_what_the_journal_takes(cli: Cli) -> None:
    output = cli.ok("plan", "-f", str(MANIFEST), "-o", "json")
    operations = msgspec.json.decode(output, type=tuple[AnyOperation, ...])
    assert len(operations) == len(json.loads(output)) > 10
    assert cli.ok("plan", "-f", str(MANIFEST), "-o", "json") == output


def test_the_instance_is_seen_in_paths_and_names(cli: Cli) -> None:
    output = cli.ok("plan", "-f", str(MANIFEST))
    assert f"mkdir -m 0755 {cli.root}/pods/<uid>" in output
    assert f"link {cli.state}/names/default/one" in output
    assert "<unified cgroup mount>/pyrun-" in output
    assert "10.99.0.0/24" in cli.ok("--subnet", "10.99.0.0/24", "plan", "-f", str(MANIFEST))


def test_bad_manifests_end_with_2(cli: Cli) -> None:
    result = cli.run("plan", "-f", "-", stdin="kind: Pod\napiVersion: v1\nspec: {containerz: []}\n")
    assert result.returncode == 2
    assert "spec.containerz" in result.stderr and "containers" in result.stderr
    assert cli.run("plan", "-f", "/nonexistent").returncode == 2
    assert cli.run("plan").returncode == 2


@pytest.mark.requires("pods", "busybox")
def test_the_plan_is_what_is_done(cli: Cli) -> None:
    manifest = cli.pod("sleep 1000", "sleep 1000", spec="shareProcessNamespace: true")
    planned = msgspec.json.decode(
        cli.ok("plan", "-f", "-", "-o", "json", stdin=manifest), type=tuple[AnyOperation, ...]
    )
    uid = cli.create(manifest).strip()
    directory = cli.state / "pods" / uid
    done = []
    for path in (
        directory / "pod.journal",
        directory / "journal",
        directory / "containers/c0/0/journal",
        directory / "containers/c1/0/journal",
    ):
        done += [json.loads(line) for line in path.read_text().splitlines()]
    kinds = [line["operation"]["op"] for line in done if "operation" in line]
    wanted = [type(operation).__name__ for operation in planned if not _is_for_others(operation)]
    assert sorted(kinds) == sorted([*wanted, *DELEGATION[find_place().owner]])


DELEGATION = {Owner.NOBODY: (), Owner.CONTAINER: ("VacateCgroup",), Owner.SYSTEMD: ("EnsureScope",)}


def _is_for_others(operation: AnyOperation) -> bool:
    """Whether it writes to a file of a controller that this machine does not have."""
    return isinstance(operation, SetCgroup) and operation.file.split(".")[0] not in find_place().controllers


def test_what_this_host_lacks_is_told_beside_the_plan(cli: Cli) -> None:
    result = cli.run("plan", "-f", "-", stdin=LIMITED)
    assert result.returncode == 0
    assert 'write "67108864" to <unified cgroup mount>/' in result.stdout
    lacking = {line.split(":")[1].split()[2] for line in result.stderr.splitlines()}
    assert lacking == {name for name in ("cpu", "memory") if name not in find_place().controllers}


LIMITED = """
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  containers:
  - {name: a, image: i, command: [x], resources: {limits: {memory: 64Mi}, requests: {cpu: 10m}}}
"""
