"""Out of memory, in the kernel: who was killed, how much it had, and at whose limit; also while the container lives."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from typing import Any

import pytest

from pyrun.cgroups import memory
from pyrun.runtime.pods import PodDirectory
from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, init_of, manifest, run_pod, state_of, wait_for_end, wait_for_output
from tests.e2e.supervision import QUICK, container_of, restarts, supervising, until_container

pytestmark = pytest.mark.requires("pods", "busybox", "nftables", "cgroup_controllers")

SLEEP = "exec sleep 1000"
EAT = "x=x; while :; do x=$x$x; done"
"""Doubles a string in its own memory without end."""
SMALL = {"resources": {"limits": {"memory": "32Mi"}}}
FREE = box(SLEEP, "free")
"""Without a limit, so that its Pod has none: that of a Pod is the sum, which pause and monitors have a part of."""
SINGLE = {"single-process-oom-kill.pyrun.io/c0": "true"}
KILLED = re.compile(
    r"Container (?P<container>\w+) \(attempt (?P<attempt>\d)\): the kernel killed (?P<count>\d+) process(es)? "
    r"for want of memory: (?P<who>.*); the limit of the (?P<whose>\w+) was reached, (?P<limit>\w+)"
)
WHO = re.compile(r"(\w+) \(pid (\d+)(, the main process)?\) with ([\d.]+)([KM]i)( \([^)]*\))?")


def told(cli: Cli) -> list[re.Match[str]]:
    """Return what the events of kills say, oldest first; each must say who it was."""
    events = json.loads(cli.ok("get", "events", "-o", "json"))["items"]
    texts = [event["message"] for event in events if event["reason"] == "OOMKilling"]
    found = [KILLED.fullmatch(text) for text in texts]
    assert None not in found, texts
    return [match for match in found if match is not None]


def victims(text: str) -> list[tuple[str, int, bool]]:
    """Return name, pid, and whether it was the main process, of all that a text names; each had some memory."""
    found = WHO.findall(text)
    assert all(float(amount) > 0 for _, _, _, amount, _, _ in found)
    return [(name, int(pid), bool(main)) for name, pid, main, *_ in found]


def kills(cli: Cli, uid: str, leaf: str = "ctr-c0") -> int:
    found = memory.events(f"{cli.inspect(uid)['cgroup']}/{leaf}")
    assert found is not None
    return found.oom_kill


def usage(cli: Cli, container: str = "c0") -> Any:
    (pod,) = json.loads(cli.ok("stats", "-o", "json", "--interval", "0.1", "test"))["items"]
    return next(one["usage"] for one in pod["containers"] if one["name"] == container)


def test_a_container_killed_for_memory_is_started_again_and_it_is_told_who_it_was(cli: Cli) -> None:
    once = f"[ ! -e /mark/done ] || {SLEEP}; touch /mark/done; {EAT}"
    mark = {"volumeMounts": [{"name": "mark", "mountPath": "/mark"}]}
    volumes = [{"name": "mark", "emptyDir": {}}]
    with supervising(cli):
        text = manifest(
            cli,
            box(once, **SMALL, **mark),
            FREE,
            restartPolicy="Always",
            annotations=QUICK,
            volumes=volumes,
        )
        uid = cli.create(text)
        pid = init_of(cli, uid).pid
        last = until_container(cli, restarts(1), timeout=90)["lastState"]["terminated"]
        assert (last["reason"], last["exitCode"], last["signal"]) == ("OOMKilled", 137, 9)
        (event,) = told(cli)
        assert (event["container"], event["attempt"], event["count"]) == ("c0", "0", "1")
        assert (event["whose"], event["limit"]) == ("container", "32Mi")
        assert victims(event["who"]) == [("sh", pid, True)]
        why = cli.ok("pod", "why", "test")
        assert (
            f"sh (pid {pid}, the main process)" in why
            and "the limit of the container was reached, 32Mi" in why
        )
        assert f"OOM Kills:        {_recorded(cli, uid)} in attempt 0: the kernel killed" in cli.ok(
            "describe", "pod", "test"
        )


def _recorded(cli: Cli, uid: str) -> int:
    report = PodDirectory(cli.layout, uid).oom(("c0", 0))
    assert report is not None and report.limit == 32 << 20 and report.unread == ""
    assert report.peak is None or report.peak > 16 << 20
    return report.kills


def test_all_of_a_container_killed_together_are_named_once_each(cli: Cli) -> None:
    """The kernel counts and tells the first one twice."""
    uid = run_pod(cli, box(f"sleep 1000 & sleep 1001 & {EAT}", **SMALL))
    wait_for_end(cli, uid, timeout=90)
    why = cli.ok("pod", "why", "test")
    assert "the kernel killed 3 processes for want of memory" in why
    found = set(victims(why))
    assert sorted(name for name, _, _ in found) == ["sh", "sleep", "sleep"]
    assert kills(cli, uid) >= 3


def test_a_killed_child_is_told_while_the_container_lives_and_once(cli: Cli) -> None:
    text = manifest(cli, box(SLEEP, **SMALL), FREE, annotations=SINGLE, restartPolicy="Always")
    with supervising(cli) as supervisor:
        uid = cli.create(text)
        assert cli.run("exec", "test", "-c", "c0", "--", "sh", "-c", EAT).returncode == 137
        (event,) = eventually(lambda: told(cli), 30)
        assert (event["count"], event["whose"]) == ("1", "container")
        ((name, pid, main),) = victims(event["who"])
        assert (name, main) == ("sh", False)
        assert container_of(cli)["state"].keys() == {"running"} and container_of(cli)["restartCount"] == 0
        assert usage(cli)["oomKills"] == kills(cli, uid) == 1
        assert (
            f'runs and is ready; in container "c0" the kernel killed 1 process for want of memory: sh (pid {pid})'
            in (cli.ok("pod", "why", "test"))
        )
        assert "OOM Kills:        1 in attempt 0" in cli.ok("describe", "pod", "test")
        supervisor.kill()
        supervisor.wait()
    assert cli.run("exec", "test", "-c", "c0", "--", "sh", "-c", EAT).returncode == 137
    with supervising(cli):
        events = eventually(lambda: found if len(found := told(cli)) == 2 else None, 30)
        pids = [victims(event["who"])[0][1] for event in events]
        assert pids[0] == pid != pids[1]
    with supervising(cli):
        # It has looked at the Pod when it tells of the third.
        assert cli.run("exec", "test", "-c", "c0", "--", "sh", "-c", EAT).returncode == 137
        eventually(lambda: len(told(cli)) == 3, 30)
        assert init_of(cli, uid).alive()


def test_a_container_that_ends_well_after_a_kill_shows_it(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box(f"({EAT}); exit 0", **SMALL), annotations=SINGLE))
    wait_for_end(cli, uid, timeout=90)
    ended = state_of(cli)["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (0, "OOMKilled")
    assert cli.inspect(uid)["status"]["phase"] == "Succeeded"
    why = cli.ok("pod", "why", "test")
    assert 'every container ended with exit code 0; but in container "c0" the kernel killed 1 process' in why
    assert next(main for _, _, main in victims(why)) is False
    cli.ok("pod", "rm", "-f", "test")
    (event,) = [
        e for e in json.loads(cli.ok("get", "events", "-o", "json"))["items"] if e["reason"] == "OOMKilling"
    ]
    assert (
        "ended with exit code 0; the kernel killed 1 process for want of memory: sh (pid" in event["message"]
    )


def test_whose_limit_it_was_when_two_fill_the_pod(cli: Cli) -> None:
    hold = "x=$(head -c 12000000 /dev/zero | tr '\\0' x); echo held; exec sleep 1000"
    text = manifest(
        cli,
        box(hold),
        box(f"while [ ! -e /go ]; do sleep 0.1; done; {EAT}", "c1"),
        resources={"limits": {"cpu": "1", "memory": "64Mi"}},
        restartPolicy="OnFailure",
        annotations={"pyrun.io/backoff-initial": "10m", "pyrun.io/backoff-max": "10m"},
    )
    with supervising(cli):
        uid = cli.create(text)
        wait_for_output(cli, uid, "held", timeout=60)
        cli.ok("exec", "test", "-c", "c1", "--", "touch", "/go")
        (event,) = eventually(lambda: told(cli), 90)
        assert (event["container"], event["whose"], event["limit"]) == ("c1", "Pod", "64Mi")
        assert [(name, main) for name, _, main in victims(event["who"])] == [("sh", True)]
        assert init_of(cli, uid).alive(), "who stayed within bounds lives"
        assert kills(cli, uid) == 0 and kills(cli, uid, "") >= 1


def test_where_the_log_may_not_be_read_it_is_said_what_is_known_instead(cli: Cli) -> None:
    uid = run_pod(cli, box(EAT, **SMALL))
    wait_for_end(cli, uid, timeout=90)
    path = cli.directory / "s"
    hidden = ("unshare", "-m", "sh", "-ec", 'mount --bind "$0" /dev/kmsg; exec "$@"')
    with socket.socket(socket.AF_UNIX) as unreadable:
        unreadable.bind(str(path))
        result = subprocess.run(
            [*hidden, str(path), *cli.command, "pod", "why", "test"],
            capture_output=True,
            text=True,
            timeout=60 * SLOW,
            env=cli.environment,
            check=True,
        )
    said = result.stdout
    assert "memory.events counts" in said and "/dev/kmsg cannot be read: No such device or address" in said
    assert "limit 32Mi" in said and "(pid" not in said
