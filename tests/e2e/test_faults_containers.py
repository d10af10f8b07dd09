"""What containers do wrong, in Pods that are supervised: it costs them something, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyrun.state.events import EventLog
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, in_root, init_of, processes_below
from tests.e2e.supervision import (
    QUICK,
    condition,
    container_of,
    manifest,
    pod_of,
    restarts,
    supervising,
    until_container,
    until_pod,
)
from tests.privileged.probing_kit import Handler, answer, serving, target_in
from tests.privileged.test_probe_grpc import NOT_SERVING, SERVING, grpc_server, replying
from tests.privileged.test_probe_https import over_tls

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

SLEEP = "exec sleep 100000"
STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"
AT_ONCE = {"pyrun.io/backoff-initial": "0", "pyrun.io/backoff-max": "0"}
"""Annotations of a Pod that is started again without any delay."""


class Happened(NamedTuple):
    """An event, as far as the order of events is concerned."""

    reason: str
    pod: str
    container: str
    message: str


def events(cli: Cli) -> list[Happened]:
    """Return what has happened, oldest first."""
    found = EventLog(str(cli.root)).read()
    return [Happened(e.reason, e.about.name, e.about.container, e.message) for e in found]


def at(found: list[Happened], reason: str, pod: str = "test", container: str = "", after: int = -1) -> int:
    """Return the place of the first event of a kind behind another one's place; -1 when there is none."""
    for place, event in enumerate(found):
        same = (event.reason, event.pod) == (reason, pod) and container in ("", event.container)
        if place > after and same:
            return place
    return -1


def hook(*command: str) -> dict[str, Any]:
    return {"exec": {"command": command}}


def check(path: str, **timing: Any) -> dict[str, Any]:
    return {**hook("test", "-e", path), "periodSeconds": 1, "failureThreshold": 1, **timing}


# Exits


def test_a_container_that_ends_in_its_first_millisecond(cli: Cli) -> None:
    """Every end is seen once, whether the record or the end of the monitor is noticed first."""
    with supervising(cli):
        cli.create(manifest(cli, box("", command=["true"]), annotations=AT_ONCE))
        status = until_container(cli, lambda s: s if s["restartCount"] >= 20 else None, timeout=60)
        ended = status["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
        assert ended["startedAt"] <= ended["finishedAt"]
        cli.ok("pod", "stop", "-t", "0", "test")
    told = [e.message for e in events(cli) if e.reason == "Exited"]
    assert len(told) >= 20
    assert told == list(dict.fromkeys(told)), "an end was told twice"
    assert [m.split("(attempt ")[1].split(")")[0] for m in told] == [str(n) for n in range(len(told))]


def test_many_exits_hold_up_no_other_pod(cli: Cli) -> None:
    """Four containers end all the time; meanwhile the failed liveness of another Pod is noticed and acted on."""
    with supervising(cli):
        storm = [box("", f"c{i}", command=["false"]) for i in range(2)]
        for name in ("storm0", "storm1"):
            cli.create(manifest(cli, *storm, name=name, annotations=AT_ONCE))
        watched = box("touch /tmp/alive; " + SLEEP, livenessProbe=check("/tmp/alive"))
        uid = cli.create(manifest(cli, watched, terminationGracePeriodSeconds=0))
        until_container(cli, restarts(0))
        eventually(lambda: in_root(init_of(cli, uid), "/tmp/alive").exists())
        in_root(init_of(cli, uid), "/tmp/alive").unlink()
        until_container(cli, restarts(1), timeout=60)
        for name in ("storm0", "storm1"):
            until_container(cli, lambda s: s["restartCount"] >= 15, name=name, timeout=60)
    found = events(cli)
    unhealthy = at(found, "Unhealthy")
    killing = at(found, "Killing", after=unhealthy)
    again = at(found, "Started", after=killing)
    assert 0 <= unhealthy < killing < again
    meanwhile = [e for e in found[unhealthy:again] if e.reason == "Started"]
    assert len(meanwhile) <= 20, "the storm was served first"
    assert any(e.pod.startswith("storm") for e in found[again:]), "the storm was over"


def test_a_log_flood_holds_up_nobody(cli: Cli) -> None:
    """200 MB as fast as they can be written; the log is rotated, and another Pod comes back meanwhile."""
    with supervising(cli):
        flood = "yes $(head -c 1000 /dev/zero | tr '\\0' x) | head -c 200000000"
        uid = cli.create(manifest(cli, box(flood), restartPolicy="OnFailure"))
        cli.create(manifest(cli, box("", command=["true"]), name="other", annotations=AT_ONCE))
        until_pod(cli, lambda pod: pod["status"]["phase"] == "Succeeded", timeout=120)
        count = container_of(cli, name="other")["restartCount"]
        until_container(cli, lambda s: s["restartCount"] > count, name="other")
        cli.ok("pod", "rm", "-f", "other")
        logs = list(Path(cli.layout.logs(uid, "c0")).iterdir())
        assert len(logs) > 1, "it was not rotated"
        assert sum(path.stat().st_size for path in logs) < 100_000_000
    found = events(cli)
    end = at(found, "Exited", "test")
    assert any(
        e.pod == "other" and e.reason == "Started" for e in found[at(found, "Started", "other") + 1 : end]
    )


# Hooks


def test_a_pre_stop_that_never_ends_holds_up_nobody_and_ends_at_the_deadline(cli: Cli) -> None:
    with supervising(cli):
        stuck = box(
            "touch /tmp/alive; " + STUBBORN,
            lifecycle={"preStop": hook("sleep", "100000")},
            livenessProbe=check("/tmp/alive"),
        )
        uid = cli.create(
            manifest(
                cli,
                stuck,
                box("", "c1", command=["true"]),
                annotations=QUICK,
                terminationGracePeriodSeconds=3,
            )
        )
        cli.create(manifest(cli, box("", command=["true"]), name="other", annotations=QUICK))
        alive = in_root(init_of(cli, uid), "/tmp/alive")
        eventually(alive.exists)
        alive.unlink()
        status = until_container(cli, restarts(1), timeout=40)
        assert status["lastState"]["terminated"]["signal"] == 9
    found = events(cli)
    killing = at(found, "Killing", container="c0")
    ended = at(found, "Exited", container="c0", after=killing)
    failed = at(found, "FailedPreStopHook", container="c0", after=killing)
    assert 0 <= killing < ended and failed > killing
    for pod, container in (("test", "c1"), ("other", "c0")):
        assert killing < at(found, "Started", pod, container, killing) < ended


def test_a_post_start_that_fails_kills_its_container(cli: Cli) -> None:
    with supervising(cli):
        broken = box(SLEEP, lifecycle={"postStart": hook("sh", "-c", "echo because; exit 3")})
        cli.create(
            manifest(cli, broken, box(SLEEP, "c1"), annotations=QUICK, terminationGracePeriodSeconds=0)
        )
        until_container(cli, lambda s: s["restartCount"] >= 2)
        assert container_of(cli, "c1")["restartCount"] == 0
        assert not condition(pod_of(cli), "Ready")
    found = events(cli)
    place = at(found, "FailedPostStartHook", container="c0")
    assert "because" in found[place].message
    killing = at(found, "Killing", container="c0", after=place)
    ended = at(found, "Exited", container="c0", after=killing)
    assert place < killing < ended < at(found, "Started", container="c0", after=ended)


def test_a_post_start_that_fails_is_the_end_under_never(cli: Cli) -> None:
    with supervising(cli):
        broken = box(SLEEP, lifecycle={"postStart": hook("false")})
        cli.create(manifest(cli, broken, restartPolicy="Never", terminationGracePeriodSeconds=0))
        until_pod(cli, lambda pod: pod["status"]["phase"] == "Failed")
        assert container_of(cli)["restartCount"] == 0


def test_a_post_start_that_never_ends_keeps_only_its_container_from_being_ready(cli: Cli) -> None:
    with supervising(cli):
        slow = box(SLEEP, lifecycle={"postStart": hook("sleep", "100000")})
        uid = cli.create(manifest(cli, slow, box(SLEEP, "c1"), terminationGracePeriodSeconds=1))
        until_container(cli, lambda s: s["ready"], "c1")
        assert not container_of(cli)["ready"]
        leaf = Path(cli.inspect(uid)["cgroup"]) / "ctr-c0"
        eventually(lambda: len(processes_below(str(leaf))) == 2)
        cli.ok("delete", "pod", "test", "--wait")
        assert pod_of(cli) is None


# Deadlines, rules, words


def test_a_pod_has_no_longer_than_its_active_deadline(cli: Cli) -> None:
    with supervising(cli):
        cli.create(
            manifest(
                cli,
                box(SLEEP),
                box("", "c1", command=["false"]),
                annotations=QUICK,
                activeDeadlineSeconds=2,
                terminationGracePeriodSeconds=0,
            )
        )
        status = until_pod(cli, lambda pod: pod["status"]["phase"] == "Failed" and pod["status"])
        assert status["reason"] == "DeadlineExceeded"
        assert "terminated" in container_of(cli)["state"]
        count = container_of(cli, "c1")["restartCount"]
        cli.create(manifest(cli, box("", command=["false"]), name="clock", annotations=QUICK))
        until_container(cli, lambda s: s["restartCount"] >= 3, name="clock")
        assert container_of(cli, "c1")["restartCount"] == count
    assert at(events(cli), "DeadlineExceeded") >= 0


def test_one_exit_code_restarts_all_containers(cli: Cli) -> None:
    """The init container runs again too, in the same sandbox; other codes go by the container's policy."""
    volume = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    rules = [
        {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}},
    ]
    script = "test -e /v/once && exec sleep 100000; touch /v/once; exit 42"
    with supervising(cli):
        init = box("echo x >> /v/inits", "i0", **volume)
        cli.create(
            manifest(
                cli,
                box(script, restartPolicy="Never", restartPolicyRules=rules, **volume),
                box(SLEEP, "c1"),
                initContainers=[init],
                annotations=QUICK | {"rootfs.pyrun.io/i0": str(cli.rootfs)},
                restartPolicy="Never",
                volumes=[{"name": "v", "emptyDir": {}}],
            )
        )
        until_container(cli, restarts(1))
        other = until_container(cli, restarts(1), "c1")
        assert other["lastState"]["terminated"]["signal"] == 9
        pod = until_pod(cli, lambda p: p if condition(p, "Ready") else None)
        assert pod["status"]["initContainerStatuses"][0]["restartCount"] == 1
        assert container_of(cli)["lastState"]["terminated"]["exitCode"] == 42
    found = events(cli)
    assert [e.reason for e in found].count("RestartAllContainers") == 1
    assert at(found, "SandboxChanged") == -1


def test_a_containers_own_policy_comes_before_the_pods(cli: Cli) -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [7]}}]
    with supervising(cli):
        cli.create(
            manifest(
                cli,
                box("exit 1", "never", restartPolicy="Never"),
                box("exit 7", "rule", restartPolicy="Never", restartPolicyRules=rules),
                box("exit 0", "failure", restartPolicy="OnFailure"),
                box("exit 0", "always", restartPolicy="Always"),
                annotations=QUICK,
                restartPolicy="Never",
            )
        )
        for name in ("rule", "always"):
            until_container(cli, lambda s: s["restartCount"] >= 2, name)
        for name, code in (("never", 1), ("failure", 0)):
            status = container_of(cli, name)
            assert status["restartCount"] == 0
            assert status["state"]["terminated"]["exitCode"] == code


def test_last_words_are_in_the_status(cli: Cli) -> None:
    with supervising(cli):
        cli.create(
            manifest(
                cli,
                box("echo bad luck > /dev/termination-log; exit 3"),
                box(
                    "echo to the log; exit 4",
                    "c1",
                    terminationMessagePolicy="FallbackToLogsOnError",
                ),
                annotations=QUICK,
            )
        )
        for name, code, message in (("c0", 3, "bad luck\n"), ("c1", 4, "to the log\n")):
            status = until_container(cli, lambda s: s if s["restartCount"] >= 2 else None, name)
            ended = status["lastState"]["terminated"]
            assert (ended["exitCode"], ended["message"]) == (code, message)
            assert ended["startedAt"] <= ended["finishedAt"]
            assert ended["reason"] == "Error"
        waiting = until_container(cli, lambda s: s["state"].get("waiting"))
        assert waiting["reason"] == "CrashLoopBackOff"


def test_in_a_shared_pid_namespace_nothing_is_left_when_the_end_is_told(cli: Cli) -> None:
    """What a container has left behind is gone before it is Terminated, and so before it runs again."""
    with supervising(cli):
        script = "for i in 1 2 3 4 5; do setsid sleep 31416 & done; exit 5"
        uid = cli.create(
            manifest(
                cli,
                box(script),
                box(SLEEP, "c1"),
                shareProcessNamespace=True,
                annotations={"pyrun.io/backoff-initial": "1h", "pyrun.io/backoff-max": "1h"},
            )
        )
        leaf = Path(cli.inspect(uid)["cgroup"]) / "ctr-c0"
        # The second end is followed by an hour of waiting, in which the container stays Terminated (waiting).
        until_container(cli, lambda s: s["restartCount"] == 1 and "waiting" in s["state"])
        assert processes_below(str(leaf)) == []
        assert container_of(cli)["lastState"]["terminated"]["exitCode"] == 5
        assert container_of(cli, "c1")["restartCount"] == 0


# Probes that need a server


@pytest.mark.parametrize("kind", ["grpc", "https"])
def test_a_server_in_the_pod_is_probed(cli: Cli, kind: str) -> None:
    """Ready while the server says so, not ready when it says otherwise; only then."""
    import ssl

    def tls(head: str) -> Handler:
        data = f"HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\nok".encode()
        return over_tls(answer(data), ssl.TLSVersion.TLSv1_3)

    servers: dict[str, tuple[Handler, Handler]] = {
        "grpc": (grpc_server(replying(SERVING)), grpc_server(replying(NOT_SERVING))),
        "https": (tls("200 OK"), tls("503 Service Unavailable")),
    }
    actions = {"grpc": {"grpc": {"port": 7777}}, "https": {"httpGet": {"port": 7777, "scheme": "HTTPS"}}}
    good, bad = servers[kind]
    with supervising(cli):
        probe = {**actions[kind], "periodSeconds": 1, "failureThreshold": 1}
        uid = cli.create(manifest(cli, box(SLEEP, readinessProbe=probe)))
        target = target_in(cli, uid)
        with serving(target, good, 7777):
            until_pod(cli, lambda pod: condition(pod, "Ready"))
        with serving(target, bad, 7777):
            until_pod(cli, lambda pod: not condition(pod, "Ready"))
        with serving(target, good, 7777):
            until_pod(cli, lambda pod: condition(pod, "Ready"))
        assert container_of(cli)["restartCount"] == 0
    assert at(events(cli), "Unhealthy") >= 0
