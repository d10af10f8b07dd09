"""The commands about objects, with the real store and real Pods; with a supervisor where it takes one."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import SLOW, Cli, eventually
from tests.e2e.observe import box, manifest, run_pod, wait_for_end
from tests.e2e.running import left_running
from tests.e2e.supervision import QUICK, pods_of, supervising
from tests.e2e.supervision import replica_set as any_set

pytestmark = pytest.mark.requires("pods", "busybox")

SLEEP = "exec sleep 100000"


def apply(cli: Cli, text: str, *arguments: str) -> str:
    return cli.ok("apply", "-f", "-", "--no-supervise", *arguments, stdin=text)


def replica_set(cli: Cli, replicas: int) -> str:
    value = json.loads(any_set(cli, replicas))
    value["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    return json.dumps(value)


def labelled(text: str, **labels: str) -> str:
    value = json.loads(text)
    value["metadata"]["labels"] = labels
    return json.dumps(value)


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_get_prints_the_columns_of_kubectl(cli: Cli) -> None:
    uid = cli.create(labelled(manifest(cli, box(SLEEP), box("exit 3", "c1"), name="one"), app="web"))
    cli.create(labelled(manifest(cli, box("true"), name="two"), app="api"))
    wait_for_end(cli, uid, "c1")
    eventually(lambda: "Completed" in cli.ok("get", "pods"))
    table = lines(cli.ok("get", "pods"))
    assert table[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert table[1][:4] == ["one", "1/2", "Error", "0"]
    assert table[2][:4] == ["two", "0/1", "Completed", "0"]
    assert cli.ok("get", "po", "-l", "app in (web)", "-o", "name") == "pod/one\n"
    assert cli.ok("pod", "get", "-o", "name") == "pod/one\npod/two\n"
    [[name, *_, ip, short, names, images]] = lines(cli.ok("get", "pods", "one", "-o", "wide", "--no-headers"))
    assert (name, short, names, images) == ("one", uid[:8], "c0,c1", "busybox,busybox")
    assert ip.startswith("10.")
    assert json.loads(cli.ok("get", "pod", uid[:6], "-o", "json"))["metadata"]["uid"] == uid
    missing = cli.run("get", "pods", "three")
    assert (missing.returncode, missing.stdout) == (1, "") and '"three"' in missing.stderr
    nothing = cli.run("get", "pods", "-n", "other")
    assert (nothing.returncode, nothing.stdout) == (0, "") and "No resources found" in nothing.stderr


def test_what_get_prints_apply_accepts(cli: Cli) -> None:
    apply(cli, replica_set(cli, 3))
    # The text that is applied names every field now, what it says is the same.
    assert apply(cli, cli.ok("get", "rs", "web", "-o", "yaml")) == "replicaset.apps/web configured\n"
    for output in ("yaml", "json"):
        text = cli.ok("get", "rs", "web", "-o", output)
        assert yaml.safe_load(text)["metadata"]["generation"] == 1
        assert apply(cli, text) == "replicaset.apps/web unchanged\n"
        assert apply(cli, cli.ok("get", "rs", "-o", output)) == "replicaset.apps/web unchanged\n"
    uid = run_pod(cli, box(SLEEP), name="bare")
    text = cli.ok("get", "pod", "bare", "-o", "yaml")
    refused = cli.run("apply", "-f", "-", "--no-supervise", stdin=text)
    assert refused.returncode == 1 and uid in refused.stderr and "was not applied" in refused.stderr
    cli.ok("pod", "rm", "-f", "bare")
    assert apply(cli, text) == "pod/bare created\n"
    assert lines(cli.ok("get", "pods"))[1][:3] == ["bare", "0/1", "Pending"]
    assert "has not been made yet; no supervisor runs" in cli.ok("pod", "why", "bare")
    both = cli.ok("get", "rs,po", "-o", "yaml")
    assert apply(cli, both).splitlines() == ["replicaset.apps/web unchanged", "pod/bare unchanged"]


def test_kubectl_reads_what_get_prints(cli: Cli) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    run_pod(cli, box(SLEEP), name="bare")
    text = cli.ok("get", "pod", "bare", "-o", "yaml")
    read = subprocess.run(
        ["kubectl", "label", "--local", "-f", "-", "x=y", "-o", "json"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    value = json.loads(read.stdout)
    assert value["status"]["podIP"] and value["status"]["phase"] == "Running"


def test_apply_says_what_it_did(cli: Cli) -> None:
    text = replica_set(cli, 2)
    assert apply(cli, text) == "replicaset.apps/web created\n"
    assert apply(cli, text) == "replicaset.apps/web unchanged\n"
    assert apply(cli, text.replace('"replicas": 2', '"replicas": 5')) == "replicaset.apps/web configured\n"
    assert lines(cli.ok("get", "rs"))[1][:4] == ["web", "5", "0", "0"]
    changed = cli.run(
        "apply", "-f", "-", "--no-supervise", stdin=text.replace('"app": "web"', '"app": "other"')
    )
    assert changed.returncode == 2 and "spec.selector" in changed.stderr
    unnamed = json.loads(manifest(cli, box("true")))
    unnamed["metadata"] |= {"generateName": "a-"}
    del unnamed["metadata"]["name"]
    assert cli.run("apply", "-f", "-", stdin=json.dumps(unnamed)).returncode == 2


def test_scale_and_label(cli: Cli) -> None:
    apply(cli, replica_set(cli, 2))
    assert cli.ok("scale", "rs", "web", "--replicas=4", "--no-supervise") == "replicaset.apps/web scaled\n"
    wrong = cli.run("scale", "rs/web", "--replicas=1", "--current-replicas=2", "--no-supervise")
    assert wrong.returncode == 1 and "shall have 4" in wrong.stderr
    assert lines(cli.ok("get", "rs"))[1][1] == "4"
    assert cli.run("scale", "rs", "none", "--replicas=1").returncode == 1
    assert cli.ok("label", "rs", "web", "tier=a") == "replicaset.apps/web labeled\n"
    uid = run_pod(cli, box(SLEEP), name="bare")
    assert cli.ok("label", "pod", "bare", "tier=a", "x=y") == "pod/bare labeled\n"
    assert cli.ok("label", "pod", "bare", "tier=a") == "pod/bare not labeled\n"
    assert cli.run("label", "pod", "bare", "tier=b").returncode == 1
    assert cli.ok("label", "pod", uid[:8], "tier=b", "x-", "--overwrite") == "pod/bare labeled\n"
    assert cli.inspect("bare")["metadata"]["labels"] == {"tier": "b"}
    assert cli.ok("get", "rs,po", "-l", "tier", "-o", "name") == "replicaset.apps/web\npod/bare\n"


def test_describe_and_why_of_a_pod(cli: Cli) -> None:
    uid = run_pod(cli, box("exit 3"), box(SLEEP, "c1"), shareProcessNamespace=True)
    wait_for_end(cli, uid)
    text = cli.ok("describe", "pod", "test")
    for part in ("Exit Code:        3", "PID 1 is pause", "Started container c1", f"UID:              {uid}"):
        assert part in text, part
    told = cli.ok("pod", "why", "test").splitlines()
    assert any("ended with exit code 3" in line and " ! c0" in line for line in told)
    assert told[-2:] == ['Container "c0" ended with exit code 3.', "Next: pyrun logs test -c c0"]
    cli.ok(*told[-1].removeprefix("Next: pyrun ").split())
    value = json.loads(cli.ok("pod", "why", "test", "-o", "json"))
    assert value["cause"] == told[-2] and value["moments"][0]["what"] == "the Pod was made"


def test_a_pod_that_is_gone_can_be_explained(cli: Cli) -> None:
    uid = run_pod(cli, box("exit 3"), box(SLEEP, "c1"))
    wait_for_end(cli, uid)
    cli.ok("pod", "kill", "-s", "TERM", "-c", "c1", "test")
    cli.ok("pod", "rm", "-f", "test")
    told = cli.ok("pod", "why", "test").splitlines()
    assert told[-2] == "Pod test is gone (Removed: Pod was removed by hand)."
    assert any("Container c0 (attempt 0) ended with exit code 3" in line for line in told)
    assert any("Signal TERM was sent by hand" in line for line in told)
    reasons = [line[2] for line in lines(cli.ok("events", "--for", "test"))[1:]]
    assert reasons[-1] == "Removed" and reasons.count("Started") == 2
    assert cli.run("pod", "why", "never").returncode == 1


def test_events_are_followed(cli: Cli) -> None:
    with left_running(cli, "events", "-f", "--for", "pod/test") as out:
        run_pod(cli, box(SLEEP), name="other")
        run_pod(cli, box(SLEEP))
        cli.ok("pod", "stop", "-t", "0", "test")
        eventually(lambda: "Killing" in out.read_text())
        assert "other" not in out.read_text()


def test_a_watch_prints_what_changes(cli: Cli) -> None:
    with left_running(cli, "get", "pods", "-w", "-l", "!skip") as out:
        cli.create(labelled(manifest(cli, box(SLEEP), name="skipped"), skip="yes"))
        uid = run_pod(cli, box(SLEEP))
        eventually(lambda: "Running" in out.read_text())
        cli.ok("pod", "kill", "test")
        wait_for_end(cli, uid)
        eventually(lambda: "Error" in out.read_text())
        cli.ok("pod", "rm", "test")
        eventually(lambda: "Deleted" in out.read_text())
        assert out.read_text().count("NAME") == 1 and "skipped" not in out.read_text()


def test_waiting(cli: Cli) -> None:
    run_pod(cli, box(SLEEP))
    assert cli.ok("wait", "pod/test", "--for=condition=Ready") == "pod/test condition met\n"
    assert (
        cli.ok("wait", "pods", "--all", "--for=jsonpath={.status.phase}=Running")
        == "pod/test condition met\n"
    )
    late = cli.run("wait", "pod", "test", "--for=condition=Ready=false", "--timeout=0")
    assert late.returncode == 1 and "timed out waiting for the condition on pod/test" in late.stderr
    assert cli.run("wait", "pod/none", "--for=condition=Ready", "--timeout=0").returncode == 1
    assert cli.ok("wait", "pod/none", "--for=delete") == "pod/none deleted\n"
    waiting = subprocess.Popen(
        [*cli.command, "wait", "pod/test", "--for=delete", "--timeout=60s"], env=cli.environment
    )
    try:
        time.sleep(0.3)  # it makes no difference for the outcome: it may wait, or come too late
        cli.ok("pod", "rm", "-f", "test")
        assert waiting.wait(30 * SLOW) == 0
    finally:
        waiting.kill()
        waiting.wait()
    assert cli.run("wait", "pod/later", "--for=create", "--timeout=0").returncode == 1


def test_deleting_without_a_supervisor(cli: Cli) -> None:
    stubborn = "trap '' TERM; while :; do sleep 0.1; done"
    run_pod(cli, box(stubborn), name="a", terminationGracePeriodSeconds=1000)
    run_pod(cli, box(SLEEP), name="b", terminationGracePeriodSeconds=0)
    apply(cli, manifest(cli, box(SLEEP), name="c"))
    assert cli.ok("delete", "pod", "a", "--grace-period=1") == 'pod "a" deleted\n'
    assert cli.ok("get", "pods", "-o", "name") == "pod/b\npod/c\n"
    assert cli.ok("delete", "pods", "--all") == 'pod "b" deleted\npod "c" deleted\n'
    assert cli.ok("get", "pods", "-o", "name") == ""
    apply(cli, replica_set(cli, 2))
    assert cli.ok("delete", "-f", "-", stdin=replica_set(cli, 2)) == 'replicaset.apps "web" deleted\n'
    assert cli.run("get", "rs", "web").returncode == 1
    assert cli.run("delete", "rs", "web").returncode == 1
    assert cli.ok("delete", "rs", "web", "--ignore-not-found") == ""


def test_removing_an_applied_pod_by_hand_is_for_good(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, manifest(cli, box(SLEEP), annotations=QUICK))
        cli.ok("wait", "pod/test", "--for=condition=Ready", "--timeout=20s")
        assert cli.run("pod", "rm", "test").returncode == 1
        assert cli.ok("get", "pods", "-o", "name") == "pod/test\n"
        cli.ok("pod", "rm", "-f", "test")
        apply(cli, manifest(cli, box(SLEEP), name="after"))
        cli.ok("wait", "pod/after", "--for=condition=Ready", "--timeout=20s")
        assert cli.ok("get", "pods", "-o", "name") == "pod/after\n"
        assert cli.ok("delete", "pod", "after", "--grace-period=0") == 'pod "after" deleted\n'
        assert pods_of(cli) == []


def test_the_deletion_by_its_set_is_the_cause_of_an_end(cli: Cli) -> None:
    with supervising(cli):
        apply(cli, replica_set(cli, 1))
        cli.ok("wait", "rs/web", "--for=jsonpath={.status.readyReplicas}=1", "--timeout=20s")
        name = pods_of(cli)[0]["metadata"]["name"]
        cli.ok("scale", "rs/web", "--replicas=0")
        cli.ok("wait", f"pod/{name}", "--for=delete", "--timeout=20s")
        assert f"Deleted Pod: {name}" in cli.ok("pod", "why", name).splitlines()[-2]
        text = cli.ok("describe", "rs", "web")
        assert "SuccessfulCreate" in text and "SuccessfulDelete" in text


def test_a_broken_store_hides_no_pod(cli: Cli) -> None:
    apply(cli, replica_set(cli, 1))
    run_pod(cli, box(SLEEP))
    path = Path(cli.layout.store)
    for leftover in path.parent.glob("objects.db-*"):
        leftover.unlink()
    path.write_bytes(b"")
    result = cli.run("get", "pods", "-o", "name")
    assert (result.returncode, result.stdout) == (0, "pod/test\n")
    assert result.stderr.count("damaged") == 1
    assert cli.run("get", "rs").returncode == 1


def test_names_of_objects_are_completed(cli: Cli) -> None:
    run_pod(cli, box(SLEEP), name="web-1")
    apply(cli, replica_set(cli, 1))

    def completed(words: str) -> list[str]:
        environment: dict[str, Any] = {
            **cli.environment,
            "_PYRUN_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        found = subprocess.run(cli.command, env=environment, capture_output=True, text=True, check=True)
        return [line.removeprefix("plain,") for line in found.stdout.splitlines()]

    assert completed("pyrun get p") == ["pods"]
    assert completed("pyrun get pods w") == ["web-1"]
    assert completed("pyrun describe rs w") == ["web"]
    assert completed("pyrun delete rs/w") == ["rs/web"]
    assert completed("pyrun wait pod/w") == ["pod/web-1"]
    assert completed("pyrun pod why w") == ["web-1"]
