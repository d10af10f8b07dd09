"""The status of a Pod and the word that is displayed (reference 2.1, 2.2, 2.4)."""

from __future__ import annotations

import pytest

from pyrun.lifecycle.course import settled
from pyrun.lifecycle.display import display_status
from pyrun.lifecycle.observation import (
    Attempt,
    ContainerObservation,
    HookState,
    PodObservation,
    StartFailure,
    Stop,
)
from pyrun.lifecycle.status import pod_status, transitions
from pyrun.spec.pod import Container, Pod, RestartPolicy
from pyrun.spec.probe import ExecAction, Lifecycle, Probe
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
from tests.unit.lifecycle_world import (
    SECOND,
    SETTINGS,
    START,
    container,
    created,
    ended,
    observed,
    pod,
    replace,
    running,
    seen,
    sidecar,
)

ALWAYS, ON_FAILURE, NEVER = RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE, RestartPolicy.NEVER
PENDING, RUNNING, SUCCEEDED, FAILED = Phase.PENDING, Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED
STOP = Stop(asked_ns=START, deadline_ns=START, grace_seconds=0, reason="Killing")
PROBE = Probe(action=ExecAction(command=("x",)))
HOOK = Lifecycle(post_start=ExecAction(command=("x",)))
UP = seen("app", running())


def status(manifest: Pod, observation: PodObservation, now: int = START + SECOND) -> PodStatus:
    return pod_status(manifest, observation, SETTINGS, now)


def of(found: PodStatus, name: str = "app") -> ContainerStatus:
    everything = (*found.init_container_statuses, *found.container_statuses)
    return next(one for one in everything if one.name == name)


def condition(found: PodStatus, kind: str) -> Condition:
    return next(one for one in found.conditions if one.type == kind)


def word(manifest: Pod, observation: PodObservation, now: int = START + SECOND) -> str:
    return display_status(status(manifest, observation, now), observation.stop is not None)


# Phases

AB = (container("a"), container("b"))
INIT = (container("i"), container("j"))


@pytest.mark.parametrize(
    ("manifest", "observation", "phase", "displayed"),
    [
        (pod(), observed(), PENDING, "ContainerCreating"),
        (pod(), observed(seen("app", created())), PENDING, "Created"),
        (pod(), observed(UP), RUNNING, "Running"),
        (pod(), observed(seen("app", running(paused=True))), RUNNING, "Paused"),
        (pod(*AB), observed(seen("a", running())), PENDING, "ContainerCreating"),
        (pod(*AB), observed(seen("a", running()), seen("b", running())), RUNNING, "Running"),
        (pod(*AB), observed(seen("a", running()), seen("b", ended())), RUNNING, "NotReady"),
        (
            pod(*AB, policy=NEVER),
            observed(seen("a", running()), seen("b", ended())),
            RUNNING,
            "NotReady",
        ),
        (pod(), observed(seen("app", ended(code=1))), RUNNING, "Error"),
        (pod(), observed(seen("app", ended(code=1, crashes=1))), RUNNING, "CrashLoopBackOff"),
        (pod(policy=ON_FAILURE), observed(seen("app", ended(code=1))), RUNNING, "Error"),
        (pod(policy=ON_FAILURE), observed(seen("app", ended())), SUCCEEDED, "Completed"),
        (pod(policy=NEVER), observed(seen("app", ended())), SUCCEEDED, "Completed"),
        (pod(policy=NEVER), observed(seen("app", ended(code=2))), FAILED, "Error"),
        (pod(policy=NEVER), observed(seen("app", ended(code=137, oom_kills=1))), FAILED, "OOMKilled"),
        (pod(policy=NEVER), observed(seen("app", ended(code=255, lost=True))), FAILED, "MonitorLost"),
        (pod(*AB, policy=NEVER), observed(seen("a", ended()), seen("b", ended(code=1))), FAILED, "Error"),
        (pod(init=INIT), observed(initialized=False), PENDING, "Init:0/2"),
        (pod(init=INIT), observed(seen("i", running()), initialized=False), PENDING, "Init:0/2"),
        (pod(init=INIT), observed(seen("i", ended()), initialized=False), PENDING, "Init:1/2"),
        (pod(init=INIT), observed(seen("i", ended(code=1)), initialized=False), PENDING, "Init:Error"),
        (
            pod(init=INIT),
            observed(seen("i", ended(code=1, crashes=1)), initialized=False),
            PENDING,
            "Init:CrashLoopBackOff",
        ),
        (
            pod(init=INIT, policy=NEVER),
            observed(seen("i", ended(code=1)), initialized=False),
            FAILED,
            "Init:Error",
        ),
        (
            pod(init=INIT),
            observed(seen("i", ended()), seen("j", ended()), initialized=True),
            PENDING,
            "PodInitializing",
        ),
        (
            pod(init=(sidecar("s"),), policy=NEVER),
            observed(seen("s", running()), seen("app", ended())),
            RUNNING,
            "Completed",
        ),
        (
            pod(init=(sidecar("s"),), policy=NEVER),
            observed(seen("s", ended(code=143)), seen("app", ended())),
            SUCCEEDED,
            "Completed",
        ),
        (pod(), observed(UP, stop=STOP), RUNNING, "Terminating"),
        (pod(), observed(stop=STOP), FAILED, "Failed"),
        (pod(), observed(seen("app", ended()), stop=STOP), SUCCEEDED, "Completed"),
        (pod(), observed(seen("app", ended(code=143)), stop=STOP), FAILED, "Error"),
        (pod(policy=NEVER), observed(seen("app", ended(code=137)), sandbox_alive=False), FAILED, "Error"),
        (pod(), observed(seen("app", ended(code=137)), sandbox_alive=False), RUNNING, "Error"),
        (
            pod(init=INIT),
            observed(
                seen("i", ended(at=START - 2)),
                seen("app", ended(code=137, at=START - 1)),
                sandbox_ns=START,
                initialized=False,
            ),
            RUNNING,
            "Init:0/2",
        ),
    ],
)
def test_phases_and_words(manifest: Pod, observation: PodObservation, phase: Phase, displayed: str) -> None:
    assert status(manifest, observation).phase is phase
    assert word(manifest, observation) == displayed


def test_the_backoff_is_over_at_its_end() -> None:
    crashed = observed(seen("app", ended(code=1, crashes=1)))
    assert word(pod(), crashed, START + 10 * SECOND - 1) == "CrashLoopBackOff"
    assert word(pod(), crashed, START + 10 * SECOND) == "Error"


@pytest.mark.parametrize("latest", [created(1), running(1, post_start=HookState.PENDING)])
def test_a_pod_that_restarts_a_container_goes_on_running(latest: Attempt) -> None:
    manifest = pod(container(lifecycle=HOOK))
    assert status(manifest, observed(seen("app", latest, ended(code=1)))).phase is RUNNING
    first = replace(latest, attempt=0)
    assert status(manifest, observed(seen("app", first))).phase is PENDING


def test_a_pod_past_its_deadline_has_failed_once_nothing_runs() -> None:
    message = "Pod was active on the node longer than the specified deadline"
    exceeded = replace(STOP, reason="DeadlineExceeded", message=message)
    going = status(pod(), observed(UP, stop=exceeded))
    assert (going.phase, going.reason) == (RUNNING, "")
    gone = status(pod(), observed(seen("app", ended()), stop=exceeded))
    assert (gone.phase, gone.reason) == (FAILED, "DeadlineExceeded")
    assert display_status(gone, terminating=True) == "DeadlineExceeded"
    assert gone.message == message


def test_a_crashed_sidecar_shows_beside_a_ready_application() -> None:
    manifest = pod(init=(sidecar("s"),))
    assert word(manifest, observed(seen("s", ended(code=1)), UP)) == "Running"


# Containers


@pytest.mark.parametrize(
    ("one", "state", "last"),
    [
        (seen("app"), Waiting(reason="ContainerCreating"), None),
        (seen("app", created()), Waiting(reason="Created"), None),
        (seen("app", running(paused=True)), Waiting(reason="Paused"), None),
        (
            seen("app", running(post_start=HookState.PENDING)),
            Waiting(reason="ContainerCreating"),
            None,
        ),
        (seen("app", running(post_start=HookState.DONE)), Running(started_at="started-0"), None),
        (seen("app", running(1), ended(0, code=3)), Running(started_at="started-1"), "Error"),
        (
            seen("app", ended(2, code=1, crashes=3), ended(1, code=1)),
            Waiting(
                reason="CrashLoopBackOff",
                message="back-off 40s restarting failed container=app pod=web",
            ),
            "Error",
        ),
        (
            seen("app", ended(7, code=0, crashes=9)),
            Waiting(
                reason="CrashLoopBackOff",
                message="back-off 5m0s restarting failed container=app pod=web",
            ),
            "Completed",
        ),
    ],
)
def test_states(one: ContainerObservation, state: Waiting | Running, last: str | None) -> None:
    found = of(status(pod(container(lifecycle=HOOK)), observed(one)))
    assert state in (found.state.waiting, found.state.running)
    assert (found.last_state.terminated.reason if found.last_state.terminated else None) == last


def test_a_terminated_state_has_all_of_it() -> None:
    latest = ended(1, code=137, signal=9, oom_kills=2, message="bye", image_id="sha256:1")
    found = of(status(pod(policy=NEVER), observed(seen("app", latest, ended(0, code=1)))))
    assert found.state == ContainerState(
        terminated=Terminated(
            exit_code=137,
            signal=9,
            reason="OOMKilled",
            message="bye",
            started_at="started-1",
            finished_at="finished-1",
            container_id="pyrun://u-1/app/1",
        )
    )
    assert found.last_state.terminated is not None
    assert found.last_state.terminated.container_id == "pyrun://u-1/app/0"
    assert (found.restart_count, found.image_id, found.container_id) == (1, "sha256:1", "pyrun://u-1/app/1")
    assert (found.ready, found.started) == (False, False)


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (ended(code=0), "Completed"),
        (ended(code=1), "Error"),
        (ended(code=1, oom_kills=1), "OOMKilled"),
        (ended(code=0, oom_kills=1), "Completed"),
        (ended(code=255, lost=True, oom_kills=1), "MonitorLost"),
    ],
)
def test_reasons_of_an_end(attempt: Attempt, reason: str) -> None:
    found = of(status(pod(policy=NEVER), observed(seen("app", attempt))))
    assert found.state.terminated is not None
    assert found.state.terminated.reason == reason


def test_an_init_container_whose_child_was_killed_for_memory_is_oom_killed() -> None:
    manifest = pod(init=(container("i"),), policy=NEVER)
    found = status(manifest, observed(seen("i", ended(oom_kills=1)), initialized=False))
    terminated = of(found, "i").state.terminated
    assert terminated is not None
    assert (terminated.reason, found.phase) == ("OOMKilled", FAILED)


@pytest.mark.parametrize(
    ("reason", "count", "shown", "message"),
    [
        ("ErrImagePull", 1, "ErrImagePull", "no such image"),
        (
            "ErrImagePull",
            2,
            "ImagePullBackOff",
            'Back-off pulling image "app:1": ErrImagePull: no such image',
        ),
        ("ErrImageNeverPull", 2, "ErrImageNeverPull", "no such image"),
        ("CreateContainerConfigError", 2, "CreateContainerConfigError", "no such image"),
        ("RunContainerError", 1, "RunContainerError", "no such image"),
    ],
)
def test_start_failures(reason: str, count: int, shown: str, message: str) -> None:
    failure = StartFailure(reason=reason, message="no such image", at_ns=START, count=count)
    for latest in (None, created(), ended(code=1)):
        found = status(pod(), observed(seen("app", latest, failure=failure)))
        assert of(found).state.waiting == Waiting(reason=shown, message=message)
        assert display_status(found, terminating=False) == shown
    crashed = of(status(pod(), observed(seen("app", ended(code=1), failure=failure))))
    assert crashed.last_state.terminated is not None


def test_a_pod_that_is_terminated_waits_for_nothing() -> None:
    crashed = observed(seen("app", ended(code=1, crashes=4)), stop=STOP)
    assert of(status(pod(), crashed)).state.terminated is not None


@pytest.mark.parametrize(
    ("one", "attempt", "started", "ready"),
    [
        (container(), running(), True, True),
        (container(), created(), False, False),
        (container(), running(paused=True), True, False),
        (container(startup_probe=PROBE), running(), False, False),
        (container(startup_probe=PROBE), running(started=True), True, True),
        (container(readiness_probe=PROBE), running(), True, False),
        (container(readiness_probe=PROBE), running(ready=True), True, True),
        (container(startup_probe=PROBE, readiness_probe=PROBE), running(ready=True), False, False),
        (container(lifecycle=HOOK), running(post_start=HookState.PENDING), False, False),
        (container(lifecycle=HOOK), running(post_start=HookState.DONE), True, True),
        (container(), ended(started=True, ready=True), False, False),
    ],
)
def test_started_and_ready(one: Container, attempt: Attempt, started: bool, ready: bool) -> None:
    found = of(status(pod(one), observed(seen("app", attempt))))
    assert (found.started, found.ready) == (started, ready)


def test_a_paused_container_has_started_and_is_not_ready() -> None:
    paused = settled(container(), running(paused=True))
    assert (paused.started, paused.ready) == (True, False)


def test_nothing_is_ready_from_the_moment_of_termination() -> None:
    found = status(pod(), observed(UP, stop=STOP))
    assert not of(found).ready
    assert of(found).started
    assert condition(found, "Ready").status == "False"


def test_an_init_container_is_ready_when_it_has_succeeded() -> None:
    manifest = pod(init=INIT)
    found = status(manifest, observed(seen("i", ended()), seen("j", running()), initialized=False))
    assert [(one.ready, one.started) for one in found.init_container_statuses] == [
        (True, False),
        (False, False),
    ]


# Conditions


def conditions(found: PodStatus) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in found.conditions}


TRUE = ("True", "", "")


def test_conditions_of_a_ready_pod() -> None:
    assert conditions(status(pod(), observed(UP))) == {
        "PodReadyToStartContainers": TRUE,
        "Initialized": TRUE,
        "Ready": TRUE,
        "ContainersReady": TRUE,
        "PodScheduled": TRUE,
    }


def test_conditions_of_an_unready_pod_name_its_containers() -> None:
    manifest = pod(*AB, container("c"), init=(container("i"), sidecar("s")))
    found = conditions(status(manifest, observed(seen("i", ended()), seen("a", running()))))
    unready = ("False", "ContainersNotReady", "containers with unready status: [s b c]")
    assert found["ContainersReady"] == found["Ready"] == unready


def test_conditions_of_a_pod_that_initializes() -> None:
    manifest = pod(init=(container("i"), sidecar("s"), container("j")))
    observation = observed(seen("i", ended()), seen("s", ended(code=1)), initialized=False)
    message = "containers with incomplete status: [s j]"
    assert conditions(status(manifest, observation))["Initialized"] == (
        "False",
        "ContainersNotInitialized",
        message,
    )
    rebuilt = replace(observation, sandbox_ns=START)
    assert "[i s j]" in conditions(status(manifest, rebuilt))["Initialized"][2]


@pytest.mark.parametrize(("code", "reason"), [(0, "PodCompleted"), (1, "PodFailed")])
def test_conditions_of_a_pod_that_is_over(code: int, reason: str) -> None:
    found = conditions(status(pod(policy=NEVER), observed(seen("app", ended(code=code)))))
    assert found["Ready"] == found["ContainersReady"] == ("False", reason, "")


def test_conditions_of_a_dead_sandbox_and_a_restart_in_place() -> None:
    dead = conditions(status(pod(), observed(UP, sandbox_alive=False)))
    assert dead["PodReadyToStartContainers"] == ("False", "SandboxStopped", "")
    going = status(pod(), observed(restarting=True, restarted_ns=START))
    assert condition(going, "PodRestartInPlace").status == "True"
    over = status(pod(), observed(restarted_ns=START))
    assert condition(over, "PodRestartInPlace").status == "False"


def test_transition_times() -> None:
    observation = observed(UP)
    first = transitions(status(pod(), observation), (), "t1", 1)
    assert set(first) >= {("Ready", "True", "t1", 1), ("PodScheduled", "True", "t1", 1)}
    observation = replace(observation, condition_times=first)
    found = status(pod(), observation)
    assert condition(found, "Ready").last_transition_time == "t1"
    assert transitions(found, first, "t2", 2) == first
    observation = replace(observation, containers=(seen("app", ended(code=1)),))
    found = status(pod(), observation)
    assert condition(found, "Ready").last_transition_time == ""  # not recorded yet
    second = transitions(found, first, "t2", 2)
    assert ("Ready", "False", "t2", 2) in second
    assert ("Initialized", "True", "t1", 1) in second


def test_what_is_said_of_the_whole_pod() -> None:
    found = status(pod(), observed(UP, address="10.88.0.2"))
    assert (found.pod_ip, [ip.ip for ip in found.pod_ips]) == ("10.88.0.2", ["10.88.0.2"])
    assert found.start_time == condition(found, "PodScheduled").last_transition_time == "made"
    assert status(pod(), observed(UP)).pod_ips == ()


def test_limits_left_out_are_a_condition_that_stays() -> None:
    assert all(c.type != "pyrun.io/ResourcesApplied" for c in status(pod(), observed(UP)).conditions)
    told = condition(status(pod(), observed(UP, left_out=("Pod: a", "Pod: b"))), "pyrun.io/ResourcesApplied")
    assert (told.status, told.reason) == ("False", "ControllersMissing")
    assert told.message.endswith("Pod: a; Pod: b")
    without = status(pod(), observed(UP, unreserved=("cpu: 4 requested, 1 of 2 free",)))
    told = condition(without, "pyrun.io/ResourcesApplied")
    assert (told.status, told.reason) == ("False", "Unschedulable")
    assert "cpu: 4 requested, 1 of 2 free" in told.message
    both = condition(
        status(pod(), observed(UP, left_out=("Pod: a",), unreserved=("cpu: b",))), "pyrun.io/ResourcesApplied"
    )
    assert (both.reason, "Pod: a" in both.message, "cpu: b" in both.message) == (
        "ControllersMissing",
        True,
        True,
    )
