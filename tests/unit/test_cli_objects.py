"""What the commands about objects understand and print."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.cli.describe import action_text, describe_pod, probe_text
from pyrun.cli.durations import FOREVER, human, parse_duration
from pyrun.cli.events import about
from pyrun.cli.get import Output, Style, Table
from pyrun.cli.jsonpath import parse_path, value_at
from pyrun.cli.kinds import Kind, Target, one_target, parse_targets
from pyrun.cli.label import refuse_overwriting, split_words
from pyrun.cli.listing import Scope, named
from pyrun.cli.main import pyrun
from pyrun.cli.rows import Row, event_row, pod_row, set_row
from pyrun.cli.supervise import backoff_settings, unit_text
from pyrun.cli.usage import Measured
from pyrun.cli.wait import parse_wanted
from pyrun.cli.why import moment_line
from pyrun.controllers.deletion import grace_of
from pyrun.errors import Conflict, InputError, NotFound
from pyrun.manifest.selectors import parse_selector
from pyrun.runtime.clock import parse_rfc3339
from pyrun.runtime.history import Moment
from pyrun.runtime.view import OwnerView, PodView, ViewMetadata
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.event import Event, ObjectReference
from pyrun.spec.layout import Layout
from pyrun.spec.object import Json, StoredObject
from pyrun.spec.status import (
    Condition,
    ContainerState,
    ContainerStatus,
    Phase,
    PodStatus,
    Running,
    Terminated,
    Waiting,
)
from pyrun.state.events import Repeated

BORN = "2026-01-01T00:00:00.000000000Z"
NOW = parse_rfc3339(BORN) + 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (599, "9m59s"),
        (601, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11000, "3h3m"),
        (8 * 3600, "8h"),
        (47 * 3600 + 5, "47h"),
        (48 * 3600, "2d"),
        (52 * 3600, "2d4h"),
        (8 * 86400, "8d"),
        (400 * 86400, "400d"),
    ],
)
def test_ages_are_those_of_kubectl(seconds: float, text: str) -> None:
    assert human(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("0", 0), ("7", 7), ("-1s", FOREVER), ("-1", FOREVER)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.text(max_size=20))
def test_no_text_is_half_a_duration(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except InputError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        (("pods",), (Target(Kind.POD),)),
        (("po", "a", "b", "a"), (Target(Kind.POD, ("a", "b")),)),
        (("rs/web", "pod/x"), (Target(Kind.REPLICA_SET, ("web",)), Target(Kind.POD, ("x",)))),
        (("replicasets.apps", "web"), (Target(Kind.REPLICA_SET, ("web",)),)),
        (("rs,po,replicaset",), (Target(Kind.REPLICA_SET), Target(Kind.POD))),
        (("Events",), (Target(Kind.EVENT),)),
    ],
)
def test_targets(words: tuple[str, ...], targets: tuple[Target, ...]) -> None:
    assert parse_targets(words) == targets


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say what"),
        (("deployment", "web"), "not a kind"),
        (("pds",), 'did you mean "'),
        (("pod/",), "not KIND/NAME"),
        (("pod/a", "b"), "not KIND/NAME"),
        (("pod/a/b",), "not KIND/NAME"),
        (("rs,po", "web"), "several kinds"),
    ],
)
def test_what_is_no_target(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_targets(words)


def test_one_target() -> None:
    assert one_target(("rs", "web")) == one_target(("rs/web",)) == (Kind.REPLICA_SET, "web")
    for words in (("rs",), ("rs", "a", "b"), ("rs/a", "rs/b")):
        with pytest.raises(InputError, match="one object"):
            one_target(words)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("{.status.phase}", "Running"),
        (".status.phase", "Running"),
        ("{.status.list[1].ready}", "true"),
        ("{.status.list[-1].n}", "7"),
        ("{.status.list[5].n}", None),
        ("{.status.nothing.more}", None),
        ("{.labels['a.b/c']}", "x"),
        (r"{.labels.a\.b}", "y"),
        ("{.status.null}", None),
    ],
)
def test_paths(path: str, value: str | None) -> None:
    status = {"phase": "Running", "list": [{"ready": False}, {"ready": True, "n": 7}], "null": None}
    whole = {"status": status, "labels": {"a.b/c": "x", "a.b": "y"}}
    assert value_at(whole, parse_path(path)) == value


@pytest.mark.parametrize("path", ["", "{}", "status", "{.a[*]}", "{.a[?(@.b)]}", "{range .a}", "{.a"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(InputError, match="not a path"):
        parse_path(path)


READY = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.mark.parametrize(
    ("wanted", "value", "met"),
    [
        ("condition=Ready", READY, True),
        ("condition=ready=true", READY, True),
        ("condition=Ready=false", READY, False),
        ("condition=Initialized", READY, False),
        ("condition=Ready", None, False),
        ("delete", None, True),
        ("delete", READY, False),
        ("create", READY, True),
        ("create", None, False),
        ("jsonpath={.status.phase}=Running", READY, True),
        ("jsonpath={.status.phase}=Failed", READY, False),
        ("jsonpath={.status.phase}", READY, True),
        ("jsonpath={.status.other}", READY, False),
        ("jsonpath={.status.phase}=Running", None, False),
    ],
)
def test_what_can_be_waited_for(wanted: str, value: Any, met: bool) -> None:
    assert parse_wanted(wanted)(value) is met


@pytest.mark.parametrize(
    "wanted", ["", "condition", "condition=", "jsonpath=", "ready", "jsonpath={.a[*]}=x"]
)
def test_what_cannot_be_waited_for(wanted: str) -> None:
    with pytest.raises(InputError):
        parse_wanted(wanted)


def test_labels_of_the_command_line() -> None:
    assert split_words(("pod", "web", "a=1", "b-", "x.y/c=")) == (
        ("pod", "web"),
        {"a": "1", "b": None, "x.y/c": ""},
    )
    assert split_words(("rs/web", "a=b")) == (("rs/web",), {"a": "b"})


@pytest.mark.parametrize(
    "words",
    [
        ("pod", "web"),
        ("pod", "web", "a=1", "b"),
        ("pod", "web", "a=1", "a=2"),
        ("pod", "web", "=1"),
        ("pod", "web", "a=/"),
        ("pod", "web", "-"),
    ],
)
def test_what_is_no_label(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        split_words(words)


def test_a_label_is_overwritten_only_if_that_is_wanted() -> None:
    present = {"a": "1", "b": "2"}
    refuse_overwriting("pod/web", present, {"a": "1", "b": None, "c": "3"}, False)
    refuse_overwriting("pod/web", present, {"a": "5"}, True)
    with pytest.raises(Conflict, match='a="1" already'):
        refuse_overwriting("pod/web", present, {"a": "5"}, False)


def status_of(name: str, state: ContainerState, restarts: int = 0, ended: str = "") -> ContainerStatus:
    last = ContainerState(terminated=Terminated(exit_code=1, reason="Error", finished_at=ended))
    return ContainerStatus(
        name=name,
        image=f"{name}:1",
        state=state,
        last_state=last if restarts else ContainerState(),
        ready=state.running is not None,
        started=True,
        restart_count=restarts,
    )


def view(*statuses: ContainerStatus, **metadata: Any) -> PodView:
    containers = [
        {
            "name": s.name,
            "image": s.image,
            "command": ["sh", "-c", "a b"],
            "livenessProbe": {"exec": {"command": ["x"]}, "periodSeconds": 3},
            "lifecycle": {"preStop": {"sleep": {"seconds": 2}}, "stopSignal": "SIGINT"},
            "env": [{"name": "A", "value": "1"}],
            "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True}],
        }
        for s in statuses
    ]
    return PodView(
        metadata=ViewMetadata(
            **{"name": "web", "namespace": "default", "uid": "12345678-9", "creation_timestamp": BORN}
            | metadata
        ),
        spec={
            "containers": containers,
            "volumes": [{"name": "v", "hostPath": {"path": "/srv"}}],
            "shareProcessNamespace": True,
            "activeDeadlineSeconds": 9,
        },
        status=PodStatus(
            phase=Phase.RUNNING,
            conditions=(Condition(type="Ready", status="False", reason="ContainersNotReady"),),
            pod_ip="10.0.0.9",
            container_statuses=statuses,
        ),
    )


RUNS = ContainerState(running=Running(started_at=BORN))
WAITS = ContainerState(waiting=Waiting(reason="CrashLoopBackOff", message="back-off"))


def test_the_line_of_a_pod() -> None:
    row = pod_row(
        view(status_of("a", RUNS), status_of("b", WAITS, 3, "2026-01-01T00:01:00.5Z"), labels={"x": "y"}), NOW
    )
    assert row.cells == ("web", "1/2", "CrashLoopBackOff", "3 (39s ago)", "100s")
    assert row.wide == ("10.0.0.9", "12345678", "a,b", "a:1,b:1")
    assert (row.kind, row.namespace, row.name, row.labels) == (Kind.POD, "default", "web", {"x": "y"})
    assert pod_row(view(status_of("a", RUNS), deletion_timestamp=BORN), NOW).cells[2] == "Terminating"


def stored_set(status: bytes = b"{}") -> StoredObject:
    spec = {
        "replicas": 3,
        "selector": {
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "t", "operator": "In", "values": ["a", "b"]}],
        },
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}},
    }
    import msgspec

    return StoredObject(
        key=Kind.REPLICA_SET.key("default", "web"),
        version="v1",
        uid="u",
        resource_version=1,
        generation=1,
        created_at=BORN,
        applied=Json(b"{}"),
        spec=Json(msgspec.json.encode(spec)),
        status=Json(status),
    )


def test_the_line_of_a_replica_set() -> None:
    assert str(Kind.REPLICA_SET.key("default", "web")) == 'ReplicaSet "default/web"'
    assert Kind.REPLICA_SET.key("default", "web").group == "apps"
    row = set_row(stored_set(b'{"replicas":2,"readyReplicas":1}'), NOW)
    assert row.cells == ("web", "3", "2", "1", "100s")
    assert row.wide == ("c,d", "i,j", "app=web,t in (a,b)")
    assert set_row(stored_set(), NOW).cells == ("web", "3", "0", "0", "100s")
    assert row.value["apiVersion"] == "apps/v1"


def test_the_grace_period_of_what_is_stored() -> None:
    from msgspec.structs import replace

    pod = replace(stored_set(), key=Kind.POD.key("default", "web"))
    assert grace_of(replace(pod, spec=Json(b'{"terminationGracePeriodSeconds":7}'))) == 7
    assert grace_of(stored_set()) == 0


def test_the_line_of_an_event() -> None:
    about_web = ObjectReference(kind="Pod", namespace="n", name="web", uid="u", container="c")
    event = Event(time=BORN, reason="BackOff", message="two\nlines", about=about_web, source="supervisor")
    row = event_row(Repeated(event, 1, BORN), NOW)
    assert row.cells == ("100s", "Normal", "BackOff", "pod/web", "two lines")
    assert row.wide == ("supervisor, c", "100s", "1")
    repeated = event_row(Repeated(event, 3, "2025-12-31T23:59:00.000000000Z"), NOW)
    assert repeated.cells[0] == "100s (x3 over 2m40s)"
    value = repeated.value
    assert value["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "n",
        "name": "web",
        "uid": "u",
        "fieldPath": "spec.containers{c}",
    }
    assert (value["reason"], value["count"], value["lastTimestamp"]) == ("BackOff", 3, BORN)


def test_events_of_one_object() -> None:
    def event(**fields: str) -> Event:
        reference = {"kind": "Pod", "namespace": "default", "name": "web", "uid": "12345"} | fields
        return Event(time=BORN, reason="x", message="x", about=ObjectReference(**reference))

    assert about("", "default")(event()) and not about("", "other")(event()) and about("", None)(event())
    assert about("web", "default")(event()) and about("pod/web", "default")(event())
    assert about("1234", "other")(event()) and not about("123", "other")(event())
    assert not about("web", "other")(event()) and not about("api", "default")(event())
    assert not about("rs/web", "default")(event())
    assert about("rs/web", "default")(event(kind="ReplicaSet"))


def row(name: str, uid: str = "", namespace: str = "default", **labels: str) -> Row:
    return Row(Kind.POD, namespace, name, uid, labels, (name, "1/1"), ("wide",), {"name": name})


def test_objects_are_found_by_name_and_pods_by_id() -> None:
    rows = [row("a", "1111-a"), row("a", "2222-b", "space"), row("b", "1112-c")]
    assert named(rows, Kind.POD, "a", "default").uid == "1111-a"
    assert (
        named(rows, Kind.POD, "a", "space").uid == named(rows, Kind.POD, "space/a", "default").uid == "2222-b"
    )
    assert named(rows, Kind.POD, "1112", "default").name == "b"
    for kind, name in ((Kind.POD, "111"), (Kind.POD, "c"), (Kind.REPLICA_SET, "1112")):
        with pytest.raises(NotFound, match=f'"{name}"'):
            named(rows, kind, name, "default")


def test_a_scope_is_a_namespace_and_labels() -> None:
    web = Scope("default", parse_selector("app=web"))
    assert web.holds(row("a", app="web")) and not web.holds(row("a", app="api"))
    assert not web.holds(row("a", namespace="space", app="web"))
    assert Scope(None).holds(row("a", namespace="space"))


def test_a_table_has_one_header_and_keeps_its_widths(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(Kind.POD, Style(Output.TABLE))
    long = row("long-name")._replace(cells=("long-name", "1/1", "Running", "0", "1s"))
    short = long._replace(cells=("a", "1/1", "Running", "0", "1s"))
    table.print([])
    table.print([long])
    table.print([])
    table.print([short])
    assert capsys.readouterr().out.splitlines() == [
        "NAME        READY   STATUS    RESTARTS   AGE",
        "long-name   1/1     Running   0          1s",
        "a           1/1     Running   0          1s",
    ]
    Table(Kind.POD, Style(Output.WIDE, spaces=True, prefixed=True)).print(
        [short._replace(wide=("ip", "id", "c", "i"))]
    )
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "NAMESPACE NAME READY STATUS RESTARTS AGE IP ID CONTAINERS IMAGES",
        "default pod/a 1/1 Running 0 1s ip id c i",
    ]
    Table(Kind.POD, Style(Output.TABLE, headers=False)).print([short])
    Table(Kind.REPLICA_SET, Style(Output.NAME)).print([short._replace(kind=Kind.REPLICA_SET)])
    assert capsys.readouterr().out.splitlines() == ["a   1/1   Running   0   1s", "replicaset.apps/long-name"]


def test_describe_says_what_a_person_asks() -> None:
    owner = OwnerView(api_version="apps/v1", kind="ReplicaSet", name="set", uid="s", controller=True)
    found = view(
        status_of("a", WAITS, 2, "2026-01-01T00:01:00Z"),
        labels={"x": "1", "y": "2"},
        owner_references=(owner,),
    )
    name = found.spec["containers"][0]["name"]
    measured = Measured(usage="cpu 5m", containers={name: "cpu 3m"}, kills={name: "1 in attempt 0: dd"})
    text = "\n".join(describe_pod(pod_row(found, NOW), measured))
    for line in (
        "Name:             web",
        "Controlled By:    ReplicaSet/set",
        "Labels:           x=1\n                  y=2",
        "Annotations:      <none>",
        "Active Deadline:  9s",
        "    Command:          sh -c 'a b'",
        "    State:            Waiting\n      Reason:           CrashLoopBackOff\n      Message:          back-off",
        "    Last State:       Terminated\n      Reason:           Error",
        "      Exit Code:        1",
        "    Restart Count:    2",
        "Usage:            cpu 5m",
        "    Usage:            cpu 3m",
        "    OOM Kills:        1 in attempt 0: dd",
        "    Liveness:         exec [x] delay=0s timeout=1s period=3s #success=1 #failure=3",
        "    PreStop:          sleep 2s",
        "    StopSignal:       SIGINT",
        "    Environment:      A=1",
        "    Mounts:           /v from v (ro)",
        "  v:                hostPath path=/srv",
        "  Ready   False    ContainersNotReady",
    ):
        assert line in text, line
    assert "PID 1 is pause" in text and "/proc/PID/environ" in text


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ({"exec": {"command": ["cat", "/a b"]}}, "exec [cat '/a b']"),
        ({"httpGet": {"port": "web"}}, "http-get http://:web/"),
        ({"httpGet": {"port": 8, "path": "/x", "scheme": "HTTPS", "host": "h"}}, "http-get https://h:8/x"),
        ({"tcpSocket": {"port": 80}}, "tcp-socket :80"),
        ({"grpc": {"port": 9}}, "grpc <pod>:9"),
        ({"sleep": {"seconds": 3}}, "sleep 3s"),
    ],
)
def test_actions_in_one_line(action: dict[str, Any], text: str) -> None:
    assert action_text(action) == text
    assert probe_text(action | {"failureThreshold": 9}).endswith("#failure=9")


def test_a_moment_in_one_line() -> None:
    moment = Moment(at=parse_rfc3339("2026-01-01T00:00:01.25Z"), what="a\nb", container="c", warning=True)
    assert moment_line(moment, NOW, 3) == "   98s ago  2026-01-01 00:00:01.250  ! c    a b"
    several = Moment(at=NOW, what="a", count=3, first=NOW - 20)
    assert moment_line(several, NOW, 0).endswith("a (3 times in 20s)")


def test_delays_of_restarts() -> None:
    assert backoff_settings({}) == BackoffSettings()
    given = {"backoff_initial": "50ms", "backoff_max": "2s", "backoff_reset": None}
    assert backoff_settings(given) == BackoffSettings(initial_ns=50_000_000, maximum_ns=2_000_000_000)
    with pytest.raises(InputError, match="longer than the longest"):
        backoff_settings({"backoff_initial": "10m"})
    with pytest.raises(InputError, match="not a duration"):
        backoff_settings({"backoff_reset": "soon"})


def test_the_unit_of_systemd(tmp_path: Path) -> None:
    layout = Layout.of("/var/lib/a b", "/run/100%$x")
    text = unit_text(layout, "10.9.0.0/16", {"backoff_max": "30s", "backoff_initial": None})
    assert '--root "/var/lib/a b" --state "/run/100%%$$x"' in text
    assert "supervise --backoff-max 30s\n" in text
    assert "KillMode=process" in text and "Restart=always" in text
    program = shutil.which("systemd-analyze")
    unit = tmp_path / "pyrun.service"
    unit.write_text(text)
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    result = subprocess.run(
        [program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    if "Failed to initialize manager" in result.stderr:
        pytest.skip(f"systemd-analyze does not work here: {result.stderr.strip()}")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("scale", "pod", "web", "--replicas", "2"),
        ("delete",),
        ("delete", "pods"),
        ("delete", "events", "--all"),
        ("delete", "pod", "x", "-f", "y"),
        ("describe", "events"),
        ("wait", "pods", "--for=delete"),
        ("wait", "pod/x", "--for=soon"),
        ("label", "pods", "a=b"),
        ("supervise", "--stop", "--detach"),
        ("get",),
        ("apply", "-f", "/nonexistent"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    command = ["--root", str(tmp_path / "root"), "--state", str(tmp_path / "state"), *arguments]
    with pytest.raises(InputError):
        pyrun.main(command, standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_every_command_has_help() -> None:
    for name in ("apply", "get", "describe", "scale", "label", "delete", "wait", "events", "supervise"):
        command = pyrun.get_command(click.Context(pyrun), name)
        assert command is not None and command.get_short_help_str()
