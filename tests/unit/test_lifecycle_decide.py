"""One decision about one Pod, rule by rule (reference 2.1, 2.2, 2.4)."""

from __future__ import annotations

import pytest

from pyrun.lifecycle.actions import (
    CloseSandbox,
    MarkInitialized,
    PodActions,
    RebuildSandbox,
    RestartAllContainers,
    RunPostStart,
    StartContainer,
    StartReason,
    StopContainer,
    TerminatePod,
)
from pyrun.lifecycle.decide import compute_pod_actions
from pyrun.lifecycle.observation import (
    ContainerObservation,
    HookState,
    PodObservation,
    StartFailure,
    Stop,
)
from pyrun.spec.pod import Pod, RestartPolicy, RestartRule, RestartRuleAction
from pyrun.spec.probe import ExecAction, Lifecycle, Probe
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
HOOK = Lifecycle(post_start=ExecAction(command=("warm",)))
NOTHING = PodActions()
NOW = START + SECOND


def decide(manifest: Pod, observation: PodObservation, now: int = NOW) -> PodActions:
    return compute_pod_actions(manifest, observation, SETTINGS, now)


def starts(decided: PodActions) -> list[tuple[str, int, int]]:
    return [(a.container, a.attempt, a.crashes) for a in decided.actions if isinstance(a, StartContainer)]


def stop(grace: int = 30, reason: str = "Killing", **fields: int) -> Stop:
    return Stop(
        asked_ns=START, deadline_ns=START + grace * SECOND, grace_seconds=grace, reason=reason, message="why"
    )


# Termination


def test_a_termination_goes_on_as_it_was_asked_for_and_nothing_starts() -> None:
    manifest = pod(container("a"), container("b"), active_deadline_seconds=1)
    decided = decide(manifest, observed(seen("a", running()), sandbox_alive=False, stop=stop(grace=7)))
    assert decided == PodActions(
        actions=(TerminatePod(grace_seconds=7, reason="Killing", message="why"),), wake_ns=None
    )


def test_a_terminated_pod_needs_nothing_more() -> None:
    assert decide(pod(), observed(seen("app", ended(code=1)), stop=stop())) == NOTHING
    assert decide(pod(), observed(stop=stop())) == NOTHING


def test_a_terminated_pod_is_still_to_be_removed() -> None:
    gone = observed(seen("app", ended()), stop=replace(stop(), remove=True))
    assert isinstance(decide(pod(), gone).actions[0], TerminatePod)


# activeDeadlineSeconds


def test_the_active_deadline_terminates_with_the_grace_of_the_pod() -> None:
    manifest = pod(active_deadline_seconds=60, termination_grace_period_seconds=9)
    observation = observed(seen("app", running()), created_ns=START)
    before = decide(manifest, observation, START + 60 * SECOND - 1)
    assert before == PodActions(wake_ns=START + 60 * SECOND)
    (action,) = decide(manifest, observation, START + 60 * SECOND).actions
    assert action == TerminatePod(
        grace_seconds=9,
        reason="DeadlineExceeded",
        message="Pod was active on the node longer than the specified deadline",
    )


def test_the_active_deadline_is_waited_for_beside_a_backoff() -> None:
    crashed = observed(seen("app", ended(code=1, crashes=5)), created_ns=START)
    assert decide(pod(active_deadline_seconds=60), crashed).wake_ns == START + 60 * SECOND
    assert decide(pod(active_deadline_seconds=600), crashed).wake_ns == START + 160 * SECOND


def test_the_active_deadline_ends_a_pod_that_waits_for_its_init_containers() -> None:
    manifest = pod(init=(container("i"),), active_deadline_seconds=5)
    waiting = observed(seen("i", ended(code=1, crashes=3)), created_ns=START - 5 * SECOND, initialized=False)
    assert isinstance(decide(manifest, waiting).actions[0], TerminatePod)


def test_a_completed_pod_does_not_exceed_its_deadline() -> None:
    manifest = pod(policy=NEVER, active_deadline_seconds=5)
    assert decide(manifest, observed(seen("app", ended()), created_ns=0)) == NOTHING


# The sandbox


@pytest.mark.parametrize(
    ("manifest", "containers", "rebuilt"),
    [
        (pod(), (seen("app", running()),), True),
        (pod(), (), True),
        (pod(policy=NEVER), (), True),  # nothing has run yet
        (pod(policy=ON_FAILURE), (seen("app", running()),), True),
        (pod(policy=ON_FAILURE), (seen("app", ended(code=1)),), True),
        (pod(policy=NEVER), (seen("app", running()),), False),
        (pod(policy=ON_FAILURE), (seen("app", ended(code=0)),), False),
        (pod(policy=NEVER, init=(container("i"),)), (seen("i", ended()),), False),
        (pod(container("a", restart_policy=ALWAYS), policy=NEVER), (seen("a", running()),), True),
        (
            pod(container("a"), container("b"), policy=ON_FAILURE),
            (seen("a", ended()), seen("b", running())),
            True,
        ),
    ],
)
def test_a_dead_sandbox_is_rebuilt_if_a_container_would_run_in_it(
    manifest: Pod, containers: tuple[ContainerObservation, ...], rebuilt: bool
) -> None:
    actions = decide(manifest, observed(*containers, sandbox_alive=False)).actions
    assert any(isinstance(action, RebuildSandbox) for action in actions) is rebuilt
    assert not starts(PodActions(actions=actions))


def test_what_outlives_its_sandbox_under_never_is_stopped() -> None:
    manifest = pod(container("a"), container("b"), policy=NEVER, termination_grace_period_seconds=4)
    left = observed(seen("a", ended(code=1)), seen("b", running(2)), sandbox_alive=False)
    (action,) = decide(manifest, left).actions
    assert isinstance(action, StopContainer)
    assert (action.container, action.attempt, action.grace_seconds, action.reason) == ("b", 2, 4, "Killing")


def test_a_complete_pod_needs_no_sandbox() -> None:
    done = observed(seen("app", ended(code=1)), sandbox_alive=False)
    assert decide(pod(policy=NEVER), done) == NOTHING


def test_a_new_sandbox_runs_all_init_containers_again_in_order() -> None:
    manifest = pod(init=(container("one"), container("two")))
    rebuilt = observed(
        seen("one", ended(at=START - 3)),
        seen("two", ended(at=START - 2)),
        seen("app", ended(code=137, at=START - 1)),
        sandbox_ns=START,
        initialized=False,
    )
    assert starts(decide(manifest, rebuilt)) == [("one", 1, 0)]
    again = replace(rebuilt, containers=(seen("one", ended(1, at=START + 5)), *rebuilt.containers[1:]))
    assert starts(decide(manifest, again)) == [("two", 1, 0)]


def test_an_init_container_that_fell_with_its_sandbox_runs_again_even_under_never() -> None:
    """A container of the Pod can still run by a policy of its own, so there is a new sandbox, and its order."""
    manifest = pod(container(restart_policy=ALWAYS), init=(container("one"),), policy=NEVER)
    fallen = observed(seen("one", running()), sandbox_alive=False, initialized=False)
    assert [type(action) for action in decide(manifest, fallen).actions] == [RebuildSandbox]
    rebuilt = observed(seen("one", ended(code=137, at=START - 1)), sandbox_ns=START, initialized=False)
    assert starts(decide(manifest, rebuilt)) == [("one", 1, 1)]


def test_a_pod_under_never_whose_sandbox_died_before_its_application_ran_is_over() -> None:
    manifest = pod(init=(container("one"),), policy=NEVER, active_deadline_seconds=10**6)
    assert decide(manifest, observed(seen("one", ended()), sandbox_alive=False)) == NOTHING


def test_a_container_that_was_complete_does_not_run_in_a_new_sandbox() -> None:
    manifest = pod(container("a"), container("b"), policy=ON_FAILURE)
    rebuilt = observed(
        seen("a", ended(code=0, at=START - 2)), seen("b", ended(code=137, at=START - 1)), sandbox_ns=START
    )
    assert starts(decide(manifest, rebuilt)) == [("b", 1, 1)]


# Restart of all containers

ALL = (RestartRule(action=RestartRuleAction.RESTART_ALL_CONTAINERS, exit_codes=(9,)),)
RESTARTS_ALL = container("a", restart_policy=NEVER, restart_policy_rules=ALL)


def test_a_rule_restarts_all_containers() -> None:
    manifest = pod(RESTARTS_ALL, container("b"), policy=NEVER)
    hit = observed(seen("a", ended(code=9)), seen("b", running()))
    (action,) = decide(manifest, hit).actions
    assert isinstance(action, RestartAllContainers)
    assert action.container == "a"
    assert decide(manifest, observed(seen("a", ended(code=8)), seen("b", running()))) == NOTHING


def test_a_restart_of_all_is_backed_off_and_the_others_run_meanwhile() -> None:
    manifest = pod(RESTARTS_ALL, container("b", restart_policy=ALWAYS), policy=NEVER)
    waits = observed(seen("a", ended(code=9, crashes=2)), seen("b", ended(code=1)))
    decided = decide(manifest, waits)
    assert decided.wake_ns == START + 20 * SECOND
    assert starts(decided) == [("b", 1, 1)]
    due = decide(manifest, waits, START + 20 * SECOND).actions
    assert [type(action) for action in due] == [RestartAllContainers]


def test_after_a_restart_of_all_everything_runs_again_in_order() -> None:
    manifest = pod(RESTARTS_ALL, container("b"), init=(container("i"),), policy=NEVER)
    all_ended = observed(
        seen("i", ended(at=START - 9)),
        seen("a", ended(code=9, crashes=2, at=START - 5)),
        seen("b", ended(code=0, at=START - 7)),
        restarted_ns=START,
        restarting=True,
        initialized=False,
    )
    assert starts(decide(manifest, all_ended)) == [("i", 1, 0)]
    initialized = replace(
        all_ended, containers=(seen("i", ended(1, at=START + 5)), *all_ended.containers[1:])
    )
    decided = decide(manifest, initialized)
    assert isinstance(decided.actions[0], MarkInitialized)
    assert starts(decided) == [("a", 1, 3), ("b", 1, 0)]


def test_a_restart_of_all_without_init_containers_is_marked_over() -> None:
    manifest = pod(RESTARTS_ALL, policy=NEVER)
    all_ended = observed(
        seen("a", ended(code=9, at=START - 5)), restarted_ns=START, restarting=True, initialized=False
    )
    decided = decide(manifest, all_ended)
    assert isinstance(decided.actions[0], MarkInitialized)
    assert starts(decided) == [("a", 1, 1)]


# Stops of attempts


def test_a_stop_that_was_begun_goes_on_and_the_attempt_is_not_started() -> None:
    for attempt in (running(3, stop=stop(5, "Unhealthy")), created(3, stop=stop(5, "Unhealthy"))):
        decided = decide(pod(), observed(seen("app", attempt)))
        assert decided.actions == (
            StopContainer(container="app", attempt=3, grace_seconds=5, reason="Unhealthy", message="why"),
        )


@pytest.mark.parametrize("policy", [ALWAYS, ON_FAILURE, NEVER])
@pytest.mark.parametrize(("own", "grace"), [(None, 30), (3, 3), (0, 0)])
@pytest.mark.parametrize("kind", ["liveness", "startup"])
def test_what_a_probe_gave_up_is_stopped_with_the_grace_of_the_probe(
    policy: RestartPolicy, own: int | None, grace: int, kind: str
) -> None:
    probe = Probe(action=ExecAction(command=("x",)), termination_grace_period_seconds=own)
    app = container(
        liveness_probe=probe if kind == "liveness" else None,
        startup_probe=probe if kind == "startup" else None,
    )
    sick = observed(seen("app", running(2, unhealthy=kind, unhealthy_message="status 500")))
    (action,) = decide(pod(app, policy=policy), sick).actions
    assert action == StopContainer(
        container="app",
        attempt=2,
        grace_seconds=grace,
        reason="Unhealthy",
        message=f"Container app failed {kind} probe: status 500",
    )


def test_an_unhealthy_container_that_has_ended_is_only_restarted() -> None:
    decided = decide(pod(), observed(seen("app", ended(code=143, unhealthy="liveness"))))
    assert [type(action) for action in decided.actions] == [StartContainer]


def test_a_failed_post_start_hook_stops_the_container() -> None:
    failed = running(post_start=HookState.FAILED, post_start_message="exit code 1")
    (action,) = decide(pod(container(lifecycle=HOOK)), observed(seen("app", failed))).actions
    assert isinstance(action, StopContainer)
    assert (action.reason, action.message, action.grace_seconds) == ("FailedPostStartHook", "exit code 1", 30)


# postStart


def test_a_post_start_hook_that_has_not_ended_is_run() -> None:
    pending = observed(seen("app", running(1, post_start=HookState.PENDING)))
    decided = decide(pod(container(lifecycle=HOOK)), pending)
    assert decided == PodActions(actions=(RunPostStart(container="app", attempt=1),))


@pytest.mark.parametrize(
    "attempt",
    [
        running(post_start=HookState.DONE),
        running(post_start=HookState.PENDING, paused=True),
        ended(post_start=HookState.PENDING),
    ],
)
def test_other_hooks_are_not(attempt: object) -> None:
    manifest = pod(container(lifecycle=HOOK), policy=NEVER)
    decided = decide(manifest, observed(replace(seen("app"), latest=attempt)))
    assert not any(isinstance(action, RunPostStart) for action in decided.actions)


# Init containers and sidecars


def test_init_containers_run_one_after_the_other() -> None:
    manifest = pod(init=(container("one"), container("two")))
    assert starts(decide(manifest, observed(initialized=False))) == [("one", 0, 0)]
    assert decide(manifest, observed(seen("one", running()), initialized=False)) == NOTHING
    one = seen("one", ended())
    assert starts(decide(manifest, observed(one, initialized=False))) == [("two", 0, 0)]
    decided = decide(manifest, observed(one, seen("two", ended()), initialized=False))
    assert decided.actions[0] == MarkInitialized()
    assert starts(decided) == [("app", 0, 0)]


def test_init_containers_are_not_run_again_once_initialized() -> None:
    manifest = pod(init=(container("one"),))
    assert starts(decide(manifest, observed(seen("app", ended())))) == [("app", 1, 1)]


def test_a_failed_init_container_is_retried_with_backoff() -> None:
    manifest = pod(init=(container("one"), container("two")))
    waits = observed(seen("one", ended(2, code=1, crashes=2)), initialized=False)
    assert decide(manifest, waits) == PodActions(wake_ns=START + 20 * SECOND)
    assert starts(decide(manifest, waits, START + 20 * SECOND)) == [("one", 3, 3)]


def test_an_init_container_whose_child_was_killed_for_memory_has_failed() -> None:
    manifest = pod(init=(container("one"),))
    killed = observed(seen("one", ended(code=0, oom_kills=1)), initialized=False)
    assert starts(decide(manifest, killed)) == [("one", 1, 1)]


def test_a_failed_init_container_under_never_fails_the_pod_and_stops_its_sidecars() -> None:
    manifest = pod(init=(sidecar("log"), container("one"), container("two")), policy=NEVER)
    failed = observed(seen("log", running(started=True)), seen("one", ended(code=1)), initialized=False)
    assert decide(manifest, failed) == PodActions(
        actions=(CloseSandbox(message="an init container has failed"),)
    )
    alone = replace(failed, containers=(seen("log", ended(code=143)), *failed.containers[1:]))
    assert decide(manifest, alone) == NOTHING


@pytest.mark.parametrize(
    ("log", "passes"),
    [
        (running(started=True), True),
        (running(), True),  # without a startup probe it has started once it runs
        (running(post_start=HookState.PENDING), False),
        (running(post_start=HookState.FAILED), False),
        (created(), False),
        (ended(code=0), False),
    ],
)
def test_a_sidecar_lets_the_next_one_start_when_it_has_started(log: object, passes: bool) -> None:
    manifest = pod(init=(sidecar("log"), container("one")))
    decided = decide(manifest, observed(replace(seen("log"), latest=log), initialized=False))
    assert (("one", 0, 0) in starts(decided)) is passes


def test_a_startup_probe_holds_the_gate_of_a_sidecar() -> None:
    probe = Probe(action=ExecAction(command=("x",)))
    manifest = pod(init=(sidecar("log", startup_probe=probe), container("one")))
    assert decide(manifest, observed(seen("log", running()), initialized=False)) == NOTHING
    started = observed(seen("log", running(started=True)), initialized=False)
    assert starts(decide(manifest, started)) == [("one", 0, 0)]


def test_a_sidecar_that_crashes_later_is_restarted_and_holds_nobody_up() -> None:
    manifest = pod(init=(sidecar("log"), container("one"), container("two")))
    crashed = observed(seen("log", ended(code=1)), seen("one", running()), initialized=False)
    assert starts(decide(manifest, crashed)) == [("log", 1, 1)]
    done = observed(seen("log", ended(code=1, crashes=4)), seen("one", ended()), initialized=False)
    decided = decide(manifest, done)
    assert starts(decided) == [("two", 0, 0)]
    assert decided.wake_ns == START + 80 * SECOND
    later = observed(seen("log", ended(code=0)), seen("app", running()))
    assert starts(decide(manifest, later)) == [("log", 1, 1)]


def test_sidecars_do_not_keep_a_pod_alive() -> None:
    manifest = pod(init=(sidecar("log"),), policy=NEVER)
    done = observed(seen("log", running(started=True)), seen("app", ended()))
    assert decide(manifest, done) == PodActions(
        actions=(CloseSandbox(message="all application containers have ended"),)
    )
    crashed = observed(seen("log", ended(code=1)), seen("app", ended()))
    assert decide(manifest, crashed) == NOTHING


# Application containers


@pytest.mark.parametrize(
    ("policy", "code", "crashes", "wait"),
    [
        (ALWAYS, 0, 0, 0),
        (ALWAYS, 0, 1, 10),
        (ALWAYS, 1, 3, 40),
        (ALWAYS, 1, 99, 300),
        (ON_FAILURE, 1, 1, 10),
        (ON_FAILURE, 0, 1, None),
        (NEVER, 1, 0, None),
    ],
)
def test_an_ended_container_is_restarted_by_policy_after_its_backoff(
    policy: RestartPolicy, code: int, crashes: int, wait: int | None
) -> None:
    manifest = pod(policy=policy)
    observation = observed(seen("app", ended(4, code=code, crashes=crashes)))
    if wait is None:
        assert decide(manifest, observation, START + 10**6 * SECOND) == NOTHING
        return
    due = START + wait * SECOND
    assert decide(manifest, observation, due - 1) == PodActions(wake_ns=due)
    (action,) = decide(manifest, observation, due).actions
    assert isinstance(action, StartContainer)
    assert (action.attempt, action.crashes, action.reason) == (5, crashes + 1, StartReason.RESTART)


def test_containers_start_independently() -> None:
    manifest = pod(container("a"), container("b"), container("c"))
    mixed = observed(seen("a", running()), seen("b", ended(code=1, crashes=1)))
    decided = decide(manifest, mixed)
    assert starts(decided) == [("c", 0, 0)]
    assert decided.wake_ns == START + 10 * SECOND


def test_what_was_created_is_started_as_the_attempt_it_is() -> None:
    decided = decide(pod(), observed(seen("app", created(3, crashes=2))))
    assert starts(decided) == [("app", 3, 2)]
    assert decide(pod(), observed(seen("app", created(3, paused=True)))) == NOTHING


@pytest.mark.parametrize(
    "reason", ["ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "RunContainerError"]
)
@pytest.mark.parametrize(("count", "wait"), [(1, 0), (2, 10), (3, 20), (9, 300)])
def test_a_start_that_failed_is_tried_again_on_the_same_curve(reason: str, count: int, wait: int) -> None:
    failure = StartFailure(reason=reason, message="no", at_ns=START, count=count)
    for latest, attempt in ((None, 0), (created(2), 2), (ended(2, code=1), 3)):
        observation = observed(seen("app", latest, failure=failure))
        due = START + wait * SECOND
        assert decide(pod(), observation, due - 1) == PodActions(wake_ns=due)
        (action,) = decide(pod(), observation, due).actions
        assert isinstance(action, StartContainer)
        assert (action.attempt, action.reason) == (attempt, StartReason.RETRY)
        assert action.message == f"trying again after {reason}: no"


def test_the_later_of_backoff_and_failure_is_waited_for() -> None:
    failure = StartFailure(reason="ErrImagePull", message="no", at_ns=START, count=2)
    crashed = observed(seen("app", ended(code=1, crashes=3), failure=failure))
    assert decide(pod(), crashed).wake_ns == START + 40 * SECOND


def test_a_running_pod_needs_nothing() -> None:
    assert decide(pod(), observed(seen("app", running(started=True, ready=True)))) == NOTHING
    assert decide(pod(), observed(seen("app", running(paused=True)))) == NOTHING


@pytest.mark.parametrize("codes", [(0, 0), (0, 1), (1, 1)])
def test_a_pod_that_is_over_yields_no_actions_and_no_wake(codes: tuple[int, int]) -> None:
    manifest = pod(container("a"), container("b"), policy=NEVER, active_deadline_seconds=10**6)
    done = observed(seen("a", ended(code=codes[0])), seen("b", ended(code=codes[1])))
    assert decide(manifest, done) == NOTHING
