"""The part of the tree that is pyrun's: in a container, and where systemd looks after the rest."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyrun.cgroups import files, group
from pyrun.cgroups.delegation import CONTROLLERS, SCOPE, find_place
from pyrun.cgroups.setting import EnableControllers
from pyrun.kernel.operation import Results
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, cgroup_of, init_of, manifest, run_pod

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 1000"

CONTAINER = """
echo $$ > "$1/cgroup.procs"
exec unshare --cgroup --mount sh -ec '
umount "$2"
mount -t cgroup2 none "$2"
shift 2
sleep 1000 &
"$@" pod create -f - > uid
"$@" pod inspect test > inspected
"$@" check -o json > checked || true
cat /proc/self/cgroup > own
kill $!
"$@" pod rm -f test
' sh "$@"
"""


@pytest.fixture
def around() -> Iterator[str]:
    """A group such as a container engine makes for a container, with the controllers there are."""
    mount = files.unified_mount()
    EnableControllers(mount, (), CONTROLLERS).apply(Results())
    path = f"{mount}/pyrun-test-{os.getpid()}-around"
    os.mkdir(path)
    yield path
    group.remove(path)


def test_in_a_container_its_own_processes_make_room(cli: Cli, around: str) -> None:
    """They go to a leaf, and the groups of Pods come beside it; nothing above is touched."""
    if not files.controllers(around):
        pytest.skip("the unified hierarchy has no controller at all")
    result = subprocess.run(
        ["sh", "-ec", CONTAINER, "sh", around, files.unified_mount(), *cli.command],
        input=manifest(cli, box(SLEEP)),
        capture_output=True,
        text=True,
        timeout=120 * SLOW,
        cwd=cli.directory,
        env={
            **cli.environment,
            "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]),
        },
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads((cli.directory / "inspected").read_text())
    uid = (cli.directory / "uid").read_text().split()[1]
    assert seen["cgroup"] == f"{files.unified_mount()}/{cli.layout.name}/besteffort/{uid}"
    assert (cli.directory / "own").read_text().splitlines()[-1] == "0::/init"
    assert set(files.enabled(around)) == set(files.controllers(around)) & set(CONTROLLERS)
    assert not os.path.exists(f"{around}/{cli.layout.name}"), "the prefix goes with the last Pod"
    assert not os.path.exists(f"{files.unified_mount()}/{cli.layout.name}"), "nothing is made outside"
    findings = json.loads((cli.directory / "checked").read_text())["findings"]
    lacking = [f for f in findings if f["subject"].startswith("controller ") and f["verdict"] != "ok"]
    assert len(lacking) == len(set(CONTROLLERS) - set(files.controllers(around)))
    assert all(f["remedy"] for f in lacking)


@pytest.mark.requires("systemd", "cgroup_controllers")
def test_systemd_delegates_a_scope_for_as_long_as_there_are_pods(cli: Cli) -> None:
    place = find_place()
    assert place.parent.endswith(SCOPE)
    uid = run_pod(cli, box(SLEEP, resources={"limits": {"memory": "64Mi"}}))
    pod = Path(cli.inspect(uid)["cgroup"])
    assert pod == Path(place.parent) / cli.layout.name / "burstable" / uid
    assert f"/{SCOPE}/" in cgroup_of(init_of(cli, uid))
    assert (pod / "ctr-c0/memory.max").read_text() == f"{64 << 20}\n"
    (holder,) = files.processes(f"{place.parent}/init")
    assert Path(f"/proc/{holder}/comm").read_text() == "pause\n"
    show = subprocess.run(
        ["systemctl", "show", "-p", "Delegate,ActiveState", os.path.basename(SCOPE)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"Delegate=yes", "ActiveState=active"} <= set(show.stdout.split())
    # What it does not look after it leaves alone, even when it looks at all it has.
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert (pod / "ctr-c0/memory.max").read_text() == f"{64 << 20}\n"
    cli.ok("pod", "rm", "-f", uid)
    assert not (Path(place.parent) / cli.layout.name).exists()


@pytest.mark.requires("systemd", "cgroup_controllers", "disposable")
def test_some_that_ask_for_the_scope_at_once_get_the_same_and_the_last_ends_it(cli: Cli) -> None:
    names = [f"p{number}" for number in range(5)]
    texts = [manifest(cli, box(SLEEP), name=name) for name in names]
    with ThreadPoolExecutor(len(texts)) as all_at_once:
        uids = list(all_at_once.map(cli.create, texts))
    parent = find_place().parent
    assert len(files.processes(f"{parent}/init")) == 1
    assert {f"lease-{uid}" for uid in uids} <= set(os.listdir(parent))
    assert all(f"/{SCOPE}/" in cgroup_of(init_of(cli, uid)) for uid in uids)
    listed = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=scope", "pyrun*"]
    shown = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in shown] == [os.path.basename(SCOPE)]
    cli.ok("pod", "rm", "-f", *names)
    eventually(lambda: not os.path.exists(parent) or any("lease-" in n for n in os.listdir(parent)))
