"""`pyrun pod map` of live Pods: what it says is what /proc and the cgroup files say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from pyrun.cgroups import files
from pyrun.kernel.proc import ProcessIdentity
from pyrun.runtime.map import KINDS
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, init_of, monitor_of, namespace, pause_of, run_pod

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 1000"
SHAREABLE = ("uts", "ipc", "net", "time", "pid")


class Map(NamedTuple):
    """What the text of a map says."""

    rows: dict[str, dict[str, str]]
    held: dict[tuple[str, int], tuple[str, str]]
    groups: dict[str, list[str]]
    text: str


def read_map(cli: Cli, pod: str) -> Map:
    """Return the map of a Pod: marks by process and kind; mark and holders by kind and inode; cells by group."""
    text = cli.ok("pod", "map", pod)
    head, matrix, legend, held, tree, *_ = text.split("\n\n")
    assert head.startswith("Pod ")
    assert legend.startswith("a letter")
    kinds = matrix.splitlines()[0].split()[1:]
    rows = {}
    for line in matrix.splitlines()[1:]:
        name, *words = re.split(r"  +", line)
        pid, marks = (words[0], words[1:]) if len(words) == len(kinds) + 1 else ("", words)
        rows[name] = {"PID": pid, **dict(zip(kinds, marks, strict=True))}
    holders = {}
    for line in held.splitlines()[1:]:
        kind, mark, inode, who = line.split(None, 3)
        holders[kind, int(inode)] = (mark, who)
    lines = [re.sub(r"^[├└│─ ]+", "", line).split() for line in tree.splitlines()[2:]]
    groups = {words[0]: words for words in lines}
    return Map(rows, holders, groups, text)


def holders_in_proc(members: dict[str, ProcessIdentity | str]) -> dict[tuple[str, int], str]:
    """Return who holds which namespace, by kind and inode, as /proc has it."""
    found: dict[tuple[str, int], list[str]] = {}
    for name, process in members.items():
        for kind in KINDS:
            found.setdefault((kind.value, namespace(process, kind.value)), []).append(name)
    return {key: ", ".join(names) for key, names in found.items()}


class Two(NamedTuple):
    """A Pod of two containers with a shared PID namespace."""

    cli: Cli
    uid: str


@pytest.fixture(scope="module")
def two(module_cli: Cli) -> Iterator[Two]:
    """The Pod that the tests only look at."""
    uid = run_pod(module_cli, box(SLEEP), box(SLEEP, name="c1"), name="two", shareProcessNamespace=True)
    yield Two(module_cli, uid)
    module_cli.ok("pod", "rm", "-f", "two")


def members_of(cli: Cli, uid: str, *containers: str) -> dict[str, ProcessIdentity | str]:
    """Return the processes of a Pod, as a map names them."""
    return {
        "pause": pause_of(cli, uid),
        **{name: init_of(cli, uid, name) for name in containers},
        **{f"monitor of {name}": monitor_of(cli, uid, name) for name in containers},
        "host": "self",
    }


def test_every_namespace_is_that_of_proc_with_all_its_holders(two: Two) -> None:
    members = members_of(two.cli, two.uid, "c0", "c1")
    found = read_map(two.cli, "two")
    assert {key: who for key, (_, who) in found.held.items()} == holders_in_proc(members)
    for name, process in members.items():
        assert found.rows[name]["PID"] == ("" if isinstance(process, str) else str(process.pid))


def test_what_is_shared_has_one_letter(two: Two) -> None:
    rows = read_map(two.cli, "two").rows
    letters = [rows["pause"][kind] for kind in SHAREABLE]
    assert letters == ["A", "B", "C", "D", "E"]
    for name in ("c0", "c1"):
        assert [rows[name][kind] for kind in SHAREABLE] == letters
        assert (rows[name]["mnt"], rows[name]["cgroup"], rows[name]["user"]) == ("own", "own", "host")
        assert {rows[f"monitor of {name}"][kind.value] for kind in KINDS} == {"host"}


def test_a_pid_namespace_of_its_own(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP), box(SLEEP, name="c1"))
    found = read_map(cli, uid)
    assert [found.rows[name]["pid"] for name in ("pause", "c0", "c1")] == ["own"] * 3
    assert {key: who for key, (_, who) in found.held.items()} == holders_in_proc(
        members_of(cli, uid, "c0", "c1")
    )
    own = [who for (kind, _), (mark, who) in found.held.items() if kind == "pid" and mark == "own"]
    assert own == ["pause", "c0", "c1"]


def test_the_networks_of_the_host(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP), hostNetwork=True)
    found = read_map(cli, uid)
    assert [found.rows[name]["net"] for name in ("pause", "c0")] == ["host", "host"]
    assert found.rows["c0"]["ipc"] == found.rows["pause"]["ipc"] == "A"
    assert found.held["net", namespace("self", "net")] == ("host", "pause, c0, monitor of c0, host")


def test_groups_are_those_of_the_kernel(two: Two) -> None:
    found = read_map(two.cli, "two")
    top = two.cli.inspect("two")["cgroup"]
    assert f"\n{top}\n" in found.text
    assert set(found.groups) == {two.uid[:8], "pause", "ctr-c0", "ctr-c1", "monitors"}
    for leaf in ("pause", "ctr-c0", "ctr-c1", "monitors"):
        assert "populated" in found.groups[leaf]
        assert str(len(files.processes(f"{top}/{leaf}"))) in found.groups[leaf]


def test_what_has_no_controller_is_said_once(two: Two) -> None:
    top = two.cli.inspect("two")["cgroup"]
    missing = [name for name in ("cpu", "memory", "pids") if name not in files.controllers(top)]
    said = [line for line in read_map(two.cli, "two").text.splitlines() if "no controller" in line]
    assert len(said) == bool(missing)
    for line in said:
        assert f"no controller for {', '.join(missing)}:" in line


def test_a_pod_by_the_beginning_of_its_id(two: Two) -> None:
    assert read_map(two.cli, two.uid[:8]).rows == read_map(two.cli, "two").rows


def test_a_frozen_container(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    cli.ok("pod", "pause", uid)
    groups = read_map(cli, uid).groups
    assert "frozen" in groups["ctr-c0"]
    assert "populated" in groups["pause"]
    cli.ok("pod", "unpause", uid)
    assert "populated" in read_map(cli, uid).groups["ctr-c0"]


def test_a_stopped_pod(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    cli.ok("pod", "stop", "-t", "0", uid)
    found = read_map(cli, uid)
    assert set(found.rows) == {"pause", "c0", "host"}
    assert (found.rows["pause"]["PID"], found.rows["c0"]["PID"]) == ("none", "none")
    assert {who for _, who in found.held.values()} == {"host"}
    assert not any("populated" in words for words in found.groups.values())
    assert cli.ok("pod", "map", uid, "-o", "svg").count("does not run") == 2


def test_a_container_that_has_ended_among_others(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP), box(SLEEP, name="c1"))
    os.kill(init_of(cli, uid, "c1").pid, signal.SIGKILL)
    eventually(lambda: not monitor_of(cli, uid, "c1").alive())
    rows = read_map(cli, uid).rows
    assert rows["c1"]["PID"] == "none"
    assert "monitor of c1" not in rows
    assert rows["c0"]["uts"] == rows["pause"]["uts"] == "A"


def test_a_cgroup_that_somebody_removed_is_gone_not_an_error(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    top = cli.inspect(uid)["cgroup"]
    cli.ok("pod", "stop", "-t", "0", uid)
    for path, _, _ in list(os.walk(top, topdown=False)):
        os.rmdir(path)
    assert "gone" in read_map(cli, uid).groups[uid[:8]]


def test_a_group_that_a_program_has_made_below_its_own(cli: Cli) -> None:
    uid = run_pod(cli, box(SLEEP))
    leaf = Path(cli.inspect(uid)["cgroup"]) / "ctr-c0"
    (leaf / "below" / "deeper").mkdir(parents=True)
    assert "below" in read_map(cli, uid).groups
    assert "(+1 below)" in read_map(cli, uid).text


def test_the_picture_says_what_the_text_says(two: Two) -> None:
    root = ElementTree.fromstring(two.cli.ok("pod", "map", "two", "-o", "svg"))
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    found = read_map(two.cli, "two")
    for _, inode in found.held:
        assert any(str(inode) in (word or "") for word in words)
    assert {"c0", "c1", "pause", "monitor of c0", "ctr-c1", f"process {found.rows['c0']['PID']}"} <= words


def test_the_graph_has_an_edge_from_each_holder(two: Two) -> None:
    graph = two.cli.ok("pod", "map", "two", "-o", "dot")
    inode = namespace(pause_of(two.cli, two.uid), "pid")
    for holder in ("pause/pause", "container/c0", "container/c1"):
        assert f'"{holder}" -> pid_{inode};' in graph


@pytest.mark.parametrize("given", ["nobody", "0000000"])
def test_no_such_pod(cli: Cli, given: str) -> None:
    result = cli.run("pod", "map", given)
    assert result.returncode == 1
    assert f'no Pod is named "{given}"' in result.stderr


def test_a_reader_that_goes_away(two: Two) -> None:
    line = f"{' '.join(two.cli.command)} pod map two | true"
    result = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, env=two.cli.environment, check=False
    )
    assert result.stderr == ""


@pytest.mark.requires("cgroup_controllers")
def test_limits_and_use_with_controllers(cli: Cli) -> None:
    limits = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    uid = run_pod(cli, box(SLEEP, resources=limits), annotations={"pids-limit.pyrun.io/c0": "32"})
    found = read_map(cli, uid)
    words = found.groups["ctr-c0"]
    assert "50000/100000" in words
    assert any(re.fullmatch(r"[\d.]+[KM]i/64Mi", word) for word in words)
    assert words[-1] == "1/32"
    assert "no controller" not in found.text
    weight = files.read(f"{cli.inspect(uid)['cgroup']}/ctr-c0", "cpu.weight").strip()
    assert weight in words
