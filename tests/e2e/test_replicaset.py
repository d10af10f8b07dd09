"""ReplicaSets: desired state wins, whatever is killed."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, monitor_of, pause_of
from tests.e2e.supervision import condition, kill, manifest, pods_of, replica_set, supervising

pytestmark = pytest.mark.requires("pods")


def ready(cli: Cli, count: int, timeout: float = 40) -> list[Any]:
    """Wait until there are exactly `count` Pods of the set and all are ready; return them."""

    def look() -> list[Any] | None:
        found = pods_of(cli, "-l", "app=web")
        whole = len(found) == count and all(condition(pod, "Ready") for pod in found)
        return found if whole else None

    return (
        eventually(look, timeout)
        if count
        else eventually(lambda: not pods_of(cli, "-l", "app=web"), timeout) and []
    )


def the_set(cli: Cli) -> Any:
    return json.loads(cli.ok("get", "rs", "web", "-o", "json"))


def apply(cli: Cli, text: str, *arguments: str) -> str:
    return cli.ok("apply", "-f", "-", *arguments, stdin=text)


def uids(pods: list[Any]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def test_it_makes_and_takes_what_is_wished_for(cli: Cli) -> None:
    with supervising(cli):
        assert "replicaset.apps/web created" in apply(cli, replica_set(cli, 3))
        first = ready(cli, 3)
        owner = first[0]["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", "web", True)
        eventually(lambda: the_set(cli)["status"]["readyReplicas"] == 3)
        assert "unchanged" in apply(cli, replica_set(cli, 3))
        cli.ok("scale", "rs", "web", "--replicas", "1")
        ready(cli, 1)
        cli.ok("scale", "rs/web", "--replicas", "2")
        assert uids(ready(cli, 2)) & uids(first)
        cli.ok("delete", "rs", "web", "--wait")
        ready(cli, 0)
        assert cli.run("get", "rs", "web").returncode == 1


def test_whatever_dies_is_replaced(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, replica_set(cli, 3))
        pods = ready(cli, 3)
        by_hand, by_pause, by_monitor = (pod["metadata"]["uid"] for pod in pods)
        cli.ok("pod", "rm", "-f", by_hand)
        kill(pause_of(cli, by_pause).pid)
        kill(monitor_of(cli, by_monitor).pid)
        eventually(
            lambda: (
                by_hand not in uids(found := pods_of(cli, "-l", "app=web"))
                and len(found) == 3
                and all(condition(pod, "Ready") for pod in found)
            ),
            40,
        )


def test_an_extra_one_is_adopted_and_taken_away(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, replica_set(cli, 2))
        first = uids(ready(cli, 2))
        text = json.loads(
            manifest(cli, box("exec sleep 100000"), name="extra", terminationGracePeriodSeconds=0)
        )
        text["metadata"]["labels"] = {"app": "web"}
        cli.create(json.dumps(text))
        eventually(lambda: uids(pods_of(cli)) == first, 30)


def test_released_by_its_label_it_is_replaced_and_lives_on(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, replica_set(cli, 2))
        pod = ready(cli, 2)[0]["metadata"]
        cli.ok("label", "pod", pod["name"], "app=other", "--overwrite")
        assert pod["uid"] not in uids(ready(cli, 2))
        found = pods_of(cli, "-l", "app=other")
        assert uids(found) == {pod["uid"]}
        eventually(lambda: not pods_of(cli, "-l", "app=other")[0]["metadata"].get("ownerReferences"))


def test_orphans_stay_and_are_adopted_by_the_next_set(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, replica_set(cli, 2))
        before = uids(ready(cli, 2))
        cli.ok("delete", "rs", "web", "--cascade=orphan")
        eventually(
            lambda: all("ownerReferences" not in pod["metadata"] for pod in pods_of(cli, "-l", "app=web"))
        )
        assert uids(pods_of(cli)) == before
        apply(cli, replica_set(cli, 2))
        eventually(lambda: the_set(cli)["status"].get("readyReplicas") == 2)
        assert uids(ready(cli, 2)) == before


def test_it_survives_a_reboot(cli: Cli) -> None:
    """What a reboot leaves: the root, and nothing of the state, of processes and of the network."""
    with supervising(cli):
        apply(cli, replica_set(cli, 2))
        bare = json.loads(manifest(cli, box("exec sleep 100000"), name="bare"))
        apply(cli, json.dumps(bare))
        ready(cli, 2)
        eventually(lambda: len(pods_of(cli)) == 3)
    cli.ok("pod", "stop", "-t", "0", *(pod["metadata"]["uid"] for pod in pods_of(cli)))
    for pod in pods_of(cli):
        record = pause_of(cli, pod["metadata"]["uid"])
        assert not record.alive()
    records = list((cli.state / "pods").glob("*/sandbox.json"))
    for path in records:
        path.write_text(path.read_text().replace(_boot_id(), "00000000-0000-0000-0000-000000000000"))
    with supervising(cli):
        assert len(ready(cli, 2)) == 2
        eventually(
            lambda: any(p["metadata"]["name"] == "bare" and condition(p, "Ready") for p in pods_of(cli)), 30
        )
        assert shutil.which("true")


def _boot_id() -> str:
    from pyrun.kernel.proc import boot_id

    return boot_id()


def test_what_cannot_be_made_is_the_sets_failure(cli: Cli) -> None:
    with supervising(cli):
        container = {"name": "c0", "image": "localhost/no-such-image:1", "imagePullPolicy": "Never"}
        text = json.loads(replica_set(cli, 2))
        text["spec"]["template"]["spec"]["containers"] = [container]
        text["spec"]["template"]["metadata"]["annotations"] = {}
        apply(cli, json.dumps(text))
        found = eventually(
            lambda: next(
                (c for c in the_set(cli)["status"].get("conditions", ()) if c["type"] == "ReplicaFailure"),
                None,
            )
        )
        assert found["reason"] == "FailedCreate"
        assert "no-such-image" in found["message"]


def test_a_supervisor_is_started_by_apply(cli: Cli) -> None:
    result = cli.run("apply", "-f", "-", stdin=replica_set(cli, 2))
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).count("supervisor") == 1
    ready(cli, 2)
