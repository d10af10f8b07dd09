"""What `pod why` says of made-up histories."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pyrun.errors import NotFound
from pyrun.lifecycle.observation import (
    Attempt,
    AttemptState,
    ContainerObservation,
    Ended,
    HookState,
    PodObservation,
    StartFailure,
    Stop,
)
from pyrun.runtime.clock import rfc3339
from pyrun.runtime.history import History, time_line
from pyrun.runtime.why import events_of_pod, explain
from pyrun.spec.event import Event, EventType, ObjectReference
from pyrun.spec.pod import Container, ContainerPort, Metadata, Pod, PodSpec, PullPolicy, RestartPolicy
from pyrun.spec.probe import ExecAction, GrpcAction, HttpGetAction, Probe, TcpSocketAction
from pyrun.spec.status import Condition, ContainerState, ContainerStatus, Phase, PodStatus, Running, Waiting
from pyrun.state.events import WARNINGS, EventLog

EPOCH = 1_750_000_000
SECOND = 10**9


def at(second: float) -> str:
    return rfc3339(int((EPOCH + second) * SECOND))


def container(name: str = "c", **fields: Any) -> Container:
    return Container(
        name=name, image=f"{name}-image:1", image_pull_policy=PullPolicy.IF_NOT_PRESENT, **fields
    )


def attempt(number: int = 0, *, began: float = 1, end: Ended | None = None, **fields: Any) -> Attempt:
    state = AttemptState.RUNNING if end is None else AttemptState.STOPPED
    given = {"started": True, "ready": end is None} | fields
    return Attempt(
        attempt=number,
        state=state,
        started_at=at(began),
        started_ns=int(began * SECOND),
        ended=end,
        **given,
    )


def ended(code: int, second: float = 2, **fields: Any) -> Ended:
    return Ended(exit_code=code, finished_at=at(second), finished_ns=int(second * SECOND), **fields)


def event(reason: str, message: str, second: float, container: str = "") -> Event:
    about = ObjectReference(kind="Pod", namespace="default", name="web", uid="uid-1", container=container)
    kind = EventType.WARNING if reason in WARNINGS else EventType.NORMAL
    return Event(time=at(second), type=kind, reason=reason, message=message, about=about)


def history(
    *seen: ContainerObservation,
    containers: tuple[Container, ...] = (),
    init: tuple[Container, ...] = (),
    waiting: dict[str, str] | None = None,
    events: tuple[Event, ...] = (),
    phase: Phase = Phase.RUNNING,
    status_reason: str = "",
    supervised: bool = True,
    **observed: Any,
) -> History:
    spec = PodSpec(
        containers=containers or (container(),),
        init_containers=init,
        restart_policy=RestartPolicy.ALWAYS,
        active_deadline_seconds=60,
    )
    waits = waiting or {}

    def state(name: str) -> ContainerState:
        if name in waits:
            return ContainerState(waiting=Waiting(reason=waits[name]))
        return ContainerState(running=Running(started_at=at(1)))

    statuses = tuple(
        ContainerStatus(
            name=c.name, state=state(c.name), image=c.image, ready=True, started=True, restart_count=0
        )
        for c in spec.all_containers()
    )
    return History(
        name="web",
        pod=Pod(metadata=Metadata(name="web"), spec=spec),
        status=PodStatus(
            phase=phase,
            reason=status_reason,
            conditions=(),
            pod_ip="10.0.0.9",
            init_container_statuses=statuses[: len(init)],
            container_statuses=statuses[len(init) :],
        ),
        observed=PodObservation(uid="uid-1", created_at=at(0), containers=seen, **observed),
        events=events,
        supervised=supervised,
        now=EPOCH + 100,
        now_ns=100 * SECOND,
    )


def one(latest: Attempt | None, previous: Attempt | None = None, **fields: Any) -> ContainerObservation:
    return ContainerObservation(name="c", latest=latest, previous=previous, **fields)


HTTP = Probe(action=HttpGetAction(port="web", path="/healthz"))
PORTS = (ContainerPort(container_port=8080, name="web"),)
GONE = (
    event("Started", 'container "c" was started', 1, "c"),
    event("Exited", 'container "c" ended with exit code 3', 2, "c"),
    event("BackOff", "restarting failed container in 10 s", 2, "c"),
    event("Removed", "removed by hand", 5),
)

CASES = {
    "crash loop": (
        history(
            one(attempt(4, end=ended(1, message="no database\n"), crashes=3), attempt(3, end=ended(1))),
            waiting={"c": "CrashLoopBackOff"},
        ),
        'Container "c" ended with exit code 1 and left the message "no database"; '
        "it has ended 4 times in a row and waits to be started again.",
        "pyrun logs web -c c",
    ),
    "crash loop of a program that ends well": (
        history(one(attempt(1, end=ended(0))), waiting={"c": "CrashLoopBackOff"}),
        'Container "c" ended with exit code 0; it waits to be started again.',
        "pyrun logs web -c c",
    ),
    "crash loop and nobody who restarts": (
        history(one(attempt(1, end=ended(1))), waiting={"c": "CrashLoopBackOff"}, supervised=False),
        'Container "c" ended with exit code 1; it waits to be started again; no supervisor runs.',
        "pyrun supervise --detach",
    ),
    "ended and to be restarted by nobody": (
        history(one(attempt(0, end=ended(1))), supervised=False),
        'Container "c" ended with exit code 1; it is to be started again; no supervisor runs.',
        "pyrun supervise --detach",
    ),
    "restarted and not ready yet": (
        history(one(attempt(5, ready=False), attempt(4, end=ended(137, signal=9)))),
        'Container "c" was ended by signal SIGKILL; it runs again (attempt 5) and is not ready.',
        "pyrun logs web -c c -p",
    ),
    "out of memory": (
        history(one(attempt(0, end=ended(137, signal=9, oom_kills=2))), phase=Phase.FAILED),
        'Container "c" ran out of memory: ended with exit code 137, the kernel having killed 2 processes of it '
        "for want of memory.",
        "dmesg | grep -i 'killed process'",
    ),
    "out of memory of a child": (
        history(one(attempt(1, end=ended(0, oom_kills=1))), waiting={"c": "CrashLoopBackOff"}),
        'Container "c" ran out of memory: ended with exit code 0, the kernel having killed 1 process of it '
        "for want of memory; it waits to be started again.",
        "dmesg | grep -i 'killed process'",
    ),
    "failed liveness": (
        history(
            one(
                attempt(
                    1, end=ended(137, signal=9), unhealthy="liveness", unhealthy_message="HTTP status 500"
                )
            ),
            containers=(container(liveness_probe=HTTP, ports=PORTS),),
            waiting={"c": "CrashLoopBackOff"},
        ),
        'Container "c" was ended because its liveness probe failed (HTTP status 500); '
        "it waits to be started again.",
        "pyrun logs web -c c",
    ),
    "failed startup": (
        history(
            one(attempt(1, end=ended(143, signal=15), unhealthy="startup")),
            containers=(container(startup_probe=Probe(action=ExecAction(command=("cat", "/a b")))),),
            waiting={"c": "CrashLoopBackOff"},
        ),
        'Container "c" was ended because its startup probe failed; it waits to be started again.',
        "pyrun logs web -c c",
    ),
    "failed liveness, known by the stop": (
        history(
            ContainerObservation(
                name="c",
                latest=attempt(1, ready=False),
                previous=attempt(
                    0,
                    end=ended(143, signal=15),
                    stop=Stop(
                        asked_ns=1,
                        deadline_ns=2,
                        grace_seconds=1,
                        reason="Unhealthy",
                        message="Container c failed liveness probe: HTTP status 500",
                    ),
                ),
            ),
            containers=(container(liveness_probe=HTTP, readiness_probe=HTTP, ports=PORTS),),
        ),
        'Container "c" was ended because its liveness probe failed (HTTP status 500); it runs again (attempt 1) '
        "and is not ready.",
        "curl -i http://10.0.0.9:8080/healthz",
    ),
    "image cannot be pulled": (
        history(
            one(None, failure=StartFailure(reason="ErrImagePull", message="no such host.", at_ns=1)),
            waiting={"c": "ImagePullBackOff"},
            phase=Phase.PENDING,
        ),
        'Container "c" waits for its image c-image:1 (ImagePullBackOff: no such host).',
        "pyrun image pull c-image:1",
    ),
    "image must be there": (
        history(
            one(None, failure=StartFailure(reason="ErrImageNeverPull", message="", at_ns=1)),
            waiting={"c": "ErrImageNeverPull"},
        ),
        'Container "c" waits for its image c-image:1 (ErrImageNeverPull).',
        "pyrun image ls",
    ),
    "cannot be created": (
        history(
            one(None, failure=StartFailure(reason="CreateContainerError", message="no /a", at_ns=1)),
            waiting={"c": "CreateContainerError"},
        ),
        'Container "c" cannot be started (CreateContainerError: no /a).',
        "pyrun describe pod web",
    ),
    "failed postStart": (
        history(
            one(
                attempt(
                    0,
                    end=ended(137, signal=9),
                    post_start=HookState.FAILED,
                    post_start_message="exit code 1",
                )
            ),
            waiting={"c": "CrashLoopBackOff"},
        ),
        'Container "c" was ended because its postStart hook failed (exit code 1); '
        "it waits to be started again.",
        "pyrun logs web -c c",
    ),
    "killed monitor": (
        history(one(attempt(0, end=ended(255, lost=True))), phase=Phase.FAILED),
        'Container "c" was ended by the end of its monitor, which somebody killed.',
        "dmesg | tail",
    ),
    "stopped": (
        history(
            one(
                attempt(
                    0,
                    end=ended(143, signal=15),
                    stop=Stop(
                        asked_ns=0, deadline_ns=1, grace_seconds=3, reason="Killing", message="sandbox gone"
                    ),
                )
            ),
            phase=Phase.FAILED,
        ),
        'Container "c" was stopped (Killing: sandbox gone) and was ended by signal SIGTERM.',
        "pyrun logs web -c c",
    ),
    "deadline exceeded": (
        history(
            one(attempt(0, end=ended(143, signal=15))), phase=Phase.FAILED, status_reason="DeadlineExceeded"
        ),
        "Pod web was ended because it was active for longer than its activeDeadlineSeconds, 60 s.",
        "pyrun logs web",
    ),
    "evicted": (
        history(
            one(attempt(0, end=ended(137, signal=9))),
            phase=Phase.FAILED,
            status_reason="Evicted",
            stop=Stop(
                asked_ns=0, deadline_ns=1, grace_seconds=1, reason="Evicted", message="It wrote too much. "
            ),
        ),
        "Pod web was evicted: It wrote too much.",
        "pyrun logs web",
    ),
    "finished well": (
        history(one(attempt(0, end=ended(0))), phase=Phase.SUCCEEDED),
        "Pod web has finished well: every container ended with exit code 0.",
        "pyrun logs web",
    ),
    "init container runs": (
        history(
            ContainerObservation(name="a", latest=attempt(0, end=ended(0))),
            ContainerObservation(name="b", latest=attempt(0, began=60)),
            init=(container("a"), container("b")),
            waiting={"c": "PodInitializing"},
            phase=Phase.PENDING,
        ),
        'Pod web waits for its init container "b" (2 of 2), which runs since 40 s.',
        "pyrun logs web -c b -f",
    ),
    "sidecar not started": (
        history(
            ContainerObservation(name="s", latest=attempt(0, began=60, started=False, ready=False)),
            init=(container("s", restart_policy=RestartPolicy.ALWAYS),),
            waiting={"c": "PodInitializing"},
            phase=Phase.PENDING,
        ),
        'Pod web waits for its sidecar "s" (1 of 1), which runs since 40 s.',
        "pyrun logs web -c s -f",
    ),
    "init container without a supervisor": (
        history(init=(container("a"),), waiting={"a": "PodInitializing"}, supervised=False),
        'Pod web waits for its init container "a" (1 of 1), which has not been started yet; '
        "no supervisor runs.",
        "pyrun supervise --detach",
    ),
    "init container failed": (
        history(
            ContainerObservation(name="a", latest=attempt(0, end=ended(7))),
            init=(container("a"),),
            phase=Phase.FAILED,
        ),
        'Container "a" ended with exit code 7.',
        "pyrun logs web -c a",
    ),
    "waiting for readiness": (
        history(
            one(attempt(0, ready=False)),
            containers=(container(readiness_probe=Probe(action=TcpSocketAction(port=80))),),
            events=(event("Unhealthy", "readiness probe failed: connection refused", 50, "c"),),
        ),
        'Container "c" runs and is not ready: its readiness probe has not succeeded '
        "(readiness probe failed: connection refused).",
        "nc -zv 10.0.0.9 80",
    ),
    "waiting for startup": (
        history(
            one(attempt(0, started=False, ready=False)),
            containers=(container(startup_probe=Probe(action=GrpcAction(port=9))),),
        ),
        'Container "c" runs and is not ready: its startup probe has not succeeded.',
        "grpcurl -plaintext 10.0.0.9:9 grpc.health.v1.Health/Check",
    ),
    "waiting for postStart": (
        history(one(attempt(0, started=False, ready=False, post_start=HookState.PENDING))),
        'Container "c" is not ready because its postStart hook has not ended.',
        "pyrun logs web -c c",
    ),
    "paused": (
        history(one(attempt(0, paused=True))),
        'Container "c" is paused.',
        "pyrun pod unpause web",
    ),
    "sandbox gone": (
        history(one(attempt(0)), sandbox_alive=False),
        "The sandbox of Pod web is gone (its pause process was killed) and is to be made anew.",
        "pyrun describe pod web",
    ),
    "being ended": (
        history(
            one(attempt(0)),
            stop=Stop(
                asked_ns=90 * SECOND,
                deadline_ns=120 * SECOND,
                grace_seconds=30,
                reason="Killing",
                message="deleted",
            ),
        ),
        'Pod web is being ended as it was asked (deleted); container "c" still runs and is killed in 20 s.',
        "pyrun wait --for=delete pod/web --timeout 25s",
    ),
    "nobody ends it": (
        history(
            one(attempt(0)),
            stop=Stop(asked_ns=0, deadline_ns=60 * SECOND, grace_seconds=30, reason="Killing"),
        ),
        'Pod web was to be ended 40 s ago, but container "c" still runs: who was doing it has gone.',
        "pyrun pod rm -f web",
    ),
    "not made yet": (
        history(one(None), waiting={"c": "ContainerCreating"}, phase=Phase.PENDING),
        'Container "c" has not been made yet.',
        "pyrun describe pod web",
    ),
    "well": (history(one(attempt(0))), "Pod web runs and is ready; nothing is wrong with it.", ""),
    "well again": (
        history(one(attempt(2), attempt(1, end=ended(1)))),
        'Pod web runs and is ready; restart 2: container "c" ended with exit code 1.',
        "pyrun logs web -c c -p",
    ),
    "applied and not made": (
        History(
            name="web",
            status=PodStatus(
                phase=Phase.PENDING, conditions=(), container_statuses=(), message="no image\nof that name."
            ),
            events=GONE,
        ),
        "Pod web was applied and has not been made yet: no image of that name.",
        "pyrun events --for web",
    ),
    "applied and without room": (
        History(
            name="web",
            status=PodStatus(
                phase=Phase.PENDING,
                message="not enough left",
                conditions=(Condition(type="PodScheduled", status="False", reason="Unschedulable"),),
                container_statuses=(),
            ),
        ),
        "Pod web was applied and has not been made yet: not enough left.",
        "pyrun check",
    ),
    "applied and nobody makes it": (
        History(
            name="web",
            status=PodStatus(phase=Phase.PENDING, conditions=(), container_statuses=()),
            supervised=False,
        ),
        "Pod web was applied and has not been made yet; no supervisor runs.",
        "pyrun supervise --detach",
    ),
    "ended before a reboot": (
        History(name="web", status=PodStatus(phase=Phase.SUCCEEDED, conditions=(), container_statuses=())),
        "Pod web has come to its end, Succeeded, and is not made again.",
        "pyrun get pod web -o yaml",
    ),
    "gone": (
        History(name="web", events=GONE, now=EPOCH + 100),
        "Pod web is gone (Removed: removed by hand); the last that went wrong before: "
        'container "c": restarting failed container in 10 s.',
        "pyrun events --for web",
    ),
    "gone because its set has too many": (
        History(
            name="web",
            events=(
                event("Started", "started", 1, "c"),
                event("SuccessfulDelete", "Deleted Pod: web: there are 3 replicas and 2 are wanted", 2),
                event("Unhealthy", "what came after that is no cause", 3, "c"),
            ),
            now=EPOCH + 100,
        ),
        "Pod web is gone (SuccessfulDelete: Deleted Pod: web: there are 3 replicas and 2 are wanted).",
        "pyrun events --for web",
    ),
    "gone well": (
        History(name="web", events=(event("SuccessfulDelete", "deleted pod: web", 3),), now=EPOCH + 100),
        "Pod web is gone (SuccessfulDelete: deleted pod: web).",
        "pyrun events --for web",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cause_and_the_next_command(case: str) -> None:
    told, sentence, command = CASES[case]
    found = explain(told)
    assert (found.cause, found.command) == (sentence, command)
    assert found.cause.count("\n") == 0


def test_nothing_known_is_not_found() -> None:
    with pytest.raises(NotFound, match='no Pod "web"'):
        explain(History(name="web"))


def told(moments: History) -> list[tuple[float, str, str]]:
    return [(round(m.at - EPOCH, 3), m.container, m.what) for m in time_line(moments)]


def test_the_time_line_puts_records_and_events_in_order() -> None:
    found = history(
        one(
            attempt(1, began=13, crashes=1),
            attempt(0, began=1, end=ended(3, 2)),
            failure=StartFailure(reason="RunContainerError", message="x", at_ns=1, at=at(12), count=2),
        ),
        events=(
            event("Pulled", "made", 0.5, "c"),
            event("Created", "the same as recorded", 1.2, "c"),
            event("Started", "the same as recorded", 1.1, "c"),
            event("Exited", "the same as recorded", 2.1, "c"),
            event("OOMKilling", "the same as recorded", 2.1, "c"),
            event("BackOff", "10 s", 3, "c"),
            event("Started", "an attempt that is not recorded", 7, "c"),
            event("Started", "another container", 13, "d"),
        ),
    )
    assert told(found) == [
        (0, "", "the Pod was made"),
        (0.5, "c", "Pulled: made"),
        (1, "c", "started (attempt 0)"),
        (2, "c", "ended with exit code 3 after 1 s (attempt 0)"),
        (3, "c", "BackOff: 10 s"),
        (7, "c", "Started: an attempt that is not recorded"),
        (12, "c", "could not be started: RunContainerError: x (2 times in a row)"),
        (13, "c", "started (attempt 1)"),
        (13, "d", "Started: another container"),
    ]


def test_the_same_in_a_row_is_one_moment() -> None:
    events = tuple(event("Unhealthy", "no", second, "c") for second in (1, 2, 3))
    [moment] = time_line(History(name="web", events=events))
    assert (moment.count, moment.first - EPOCH, moment.at - EPOCH, moment.warning) == (3, 1, 3, True)


def test_stops_are_moments() -> None:
    stop = Stop(
        asked_ns=0, deadline_ns=1, grace_seconds=5, reason="Unhealthy", message="liveness", asked_at=at(4)
    )
    whole = msgspec.structs.replace(stop, asked_at=at(6), reason="Killing", message="")
    found = told(history(one(attempt(0, stop=stop)), stop=whole))
    assert found[2:] == [
        (4, "c", "is stopped, in 5 s: Unhealthy: liveness (attempt 0)"),
        (6, "", "its end was asked for, in 5 s: Killing"),
    ]


def test_the_events_of_a_name_are_those_of_its_last_pod(tmp_path: Any) -> None:
    log = EventLog(str(tmp_path))

    def write(
        uid: str,
        name: str = "web",
        namespace: str = "default",
        kind: str = "Pod",
        message: str = "",
        reason: str = "Started",
    ) -> None:
        about = ObjectReference(kind=kind, namespace=namespace, name=name, uid=uid)
        log.append(Event(time=at(1), reason=reason, message=message or uid, about=about))

    for uid in ("first-1", "second-2"):
        write(uid)
        write("other", name="api")
        write("space", namespace="space")
        for words in ("Deleted Pod: web", "Deleted Pod: web: two are enough", "Deleted Pod: web2"):
            write("set", kind="ReplicaSet", message=words, reason="SuccessfulDelete")
        write("set", kind="ReplicaSet", message="Deleted Pod: web", reason="Adopted")
    assert [e.message for e in events_of_pod(log, "web", "default")] == [
        "second-2",
        "Deleted Pod: web",
        "Deleted Pod: web: two are enough",
    ]
    assert [e.message for e in events_of_pod(log, "web", "space")] == ["space", "space"]
    assert next(e.message for e in events_of_pod(log, "firs", "default")) == "first-1"
    assert events_of_pod(log, "nothing", "default") == ()
