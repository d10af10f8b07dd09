"""The prober of an attempt: when checks are due and what results mean (reference 2.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.lifecycle.observation import Attempt, HookState, Stop
from pyrun.lifecycle.probing import (
    Outcome,
    ProbeState,
    ProbeStep,
    Verdicts,
    begin,
    due,
    first_due,
    on_result,
    verdicts,
)
from pyrun.spec.pod import Container
from pyrun.spec.probe import ExecAction, Lifecycle, Probe, ProbeKind
from tests.unit.lifecycle_world import SECOND, START, container, created, ended, replace, running

ACTION = ExecAction(command=("x",))
STARTUP, READINESS, LIVENESS = ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS
SUCCESS, FAILURE, UNKNOWN = Outcome.SUCCESS, Outcome.FAILURE, Outcome.UNKNOWN
STOP = Stop(asked_ns=0, deadline_ns=0, grace_seconds=0, reason="")


def probed(*kinds: ProbeKind, **fields: int) -> Container:
    return container(**{f"{kind.value}_probe": Probe(action=ACTION, **fields) for kind in kinds})


def state_of(kind: ProbeKind, attempt: Attempt | None = None, **fields: int) -> ProbeState:
    (state,) = begin(probed(kind, **fields), attempt or running(), START, 0)
    return state


def feed(state: ProbeState, *outcomes: Outcome) -> ProbeState:
    for outcome in outcomes:
        state = on_result(state, outcome, "why", state.due_ns).state
    return state


@pytest.mark.parametrize(("kind", "verdict"), [(READINESS, FAILURE), (LIVENESS, SUCCESS), (STARTUP, UNKNOWN)])
def test_starting_values(kind: ProbeKind, verdict: Outcome) -> None:
    state = state_of(kind)
    assert (state.verdict, state.held, state.run) == (verdict, False, 0)


@pytest.mark.parametrize(
    ("kind", "outcomes", "verdict"),
    [
        (READINESS, [SUCCESS], FAILURE),  # two in a row are wanted
        (READINESS, [SUCCESS, SUCCESS], SUCCESS),
        (READINESS, [SUCCESS, FAILURE, SUCCESS], FAILURE),
        (READINESS, [SUCCESS, UNKNOWN, SUCCESS], SUCCESS),  # what could not be asked does not count
        (READINESS, [SUCCESS, SUCCESS, FAILURE, FAILURE], SUCCESS),  # three in a row are wanted
        (READINESS, [SUCCESS, SUCCESS, FAILURE, FAILURE, FAILURE], FAILURE),
        (READINESS, [SUCCESS, SUCCESS, FAILURE, FAILURE, SUCCESS, FAILURE], SUCCESS),
        (LIVENESS, [FAILURE, FAILURE], SUCCESS),
        (LIVENESS, [FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE], SUCCESS),
        (LIVENESS, [FAILURE, UNKNOWN, FAILURE, UNKNOWN, FAILURE], FAILURE),
        (STARTUP, [FAILURE, FAILURE], UNKNOWN),
        (STARTUP, [FAILURE, FAILURE, FAILURE], FAILURE),
        (STARTUP, [FAILURE, FAILURE, SUCCESS], SUCCESS),
        (STARTUP, [UNKNOWN] * 9, UNKNOWN),
    ],
)
def test_equal_results_in_a_row_are_counted(
    kind: ProbeKind, outcomes: list[Outcome], verdict: Outcome
) -> None:
    success = 2 if kind is READINESS else 1
    assert feed(state_of(kind, success_threshold=success, failure_threshold=3), *outcomes).verdict is verdict


@pytest.mark.parametrize(
    ("kind", "outcome", "held"),
    [
        (LIVENESS, FAILURE, True),
        (LIVENESS, SUCCESS, False),
        (STARTUP, FAILURE, True),
        (STARTUP, SUCCESS, True),
        (READINESS, FAILURE, False),
        (READINESS, SUCCESS, False),
    ],
)
def test_after_a_last_verdict_nothing_is_asked(kind: ProbeKind, outcome: Outcome, held: bool) -> None:
    state = feed(state_of(kind, failure_threshold=1), outcome)
    assert state.held is held
    attempt = running(started=kind is not STARTUP)
    assert (due(state, probed(kind), attempt, terminating=False) is None) is held


def test_a_new_attempt_begins_anew() -> None:
    (state,) = begin(probed(LIVENESS), running(1), START, 0)
    assert state.verdict is SUCCESS
    assert not state.held


def test_events_of_checks() -> None:
    state = state_of(LIVENESS)
    assert on_result(state, FAILURE, "status 500", START).event == "Liveness probe failed: status 500"
    assert on_result(state, UNKNOWN, "no such file", START).event == "Liveness probe errored: no such file"
    assert on_result(state, SUCCESS, "ok", START).event == ""
    assert on_result(state_of(STARTUP), FAILURE, "no", START).event == "Startup probe failed: no"
    assert isinstance(on_result(state, SUCCESS, "", START), ProbeStep)


# When


def test_the_initial_delay_counts_from_the_start_of_the_container() -> None:
    probe = Probe(action=ACTION, initial_delay_seconds=20)
    assert first_due(probe, running(), START, 0) == START + 20 * SECOND
    assert first_due(probe, running(), START + 15 * SECOND, 0) == START + 20 * SECOND
    assert first_due(probe, running(), START + 30 * SECOND, 0) == START + 30 * SECOND


def test_jitter_stays_inside_one_period_and_is_not_added_to_the_delay() -> None:
    probe = Probe(action=ACTION, period_seconds=5)
    assert first_due(probe, running(), START, 3 * SECOND) == START + 3 * SECOND
    assert first_due(probe, running(), START, 8 * SECOND) == START + 5 * SECOND
    delayed = Probe(action=ACTION, period_seconds=5, initial_delay_seconds=20)
    assert first_due(delayed, running(), START, 3 * SECOND) == START + 20 * SECOND


def test_checks_are_a_period_apart_and_none_is_made_up_for() -> None:
    state = state_of(LIVENESS, period_seconds=10)
    assert on_result(state, SUCCESS, "", START + SECOND).state.due_ns == START + 10 * SECOND
    assert on_result(state, FAILURE, "", START + 35 * SECOND).state.due_ns == START + 35 * SECOND
    assert on_result(state, UNKNOWN, "", START + SECOND).state.due_ns == START + 10 * SECOND


def test_who_is_not_ready_is_asked_sooner() -> None:
    state, moments = state_of(READINESS, period_seconds=10, failure_threshold=1), []
    for _ in range(9):
        moments.append((state.due_ns - START) // 10**6)
        state = on_result(state, FAILURE, "", state.due_ns).state
    assert moments == [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800]
    assert on_result(state, FAILURE, "", state.due_ns).state.due_ns == state.due_ns + 10 * SECOND
    ready = feed(state, SUCCESS)
    assert on_result(ready, SUCCESS, "", ready.due_ns).state.due_ns == ready.due_ns + 10 * SECOND


def test_the_budget_of_a_startup_probe_is_kept() -> None:
    state = state_of(STARTUP, period_seconds=10, failure_threshold=3)
    asked = []
    while not state.held:
        asked.append((state.due_ns - START) // SECOND)
        state = on_result(state, FAILURE, "", state.due_ns).state
    assert asked == [0, 10, 20]


@pytest.mark.parametrize("kind", [LIVENESS, READINESS])
def test_nothing_but_startup_is_asked_until_it_has_started(kind: ProbeKind) -> None:
    both = probed(STARTUP, kind)
    states = {state.kind: state for state in begin(both, running(), START, 0)}
    assert due(states[STARTUP], both, running(), terminating=False) == START
    assert due(states[kind], both, running(), terminating=False) is None
    started = running(started=True)
    assert due(states[STARTUP], both, started, terminating=False) is None
    assert due(states[kind], both, started, terminating=False) == START


@pytest.mark.parametrize(
    ("attempt", "asked"),
    [
        (running(), True),
        (running(paused=True), False),
        (running(post_start=HookState.PENDING), False),
        (running(post_start=HookState.DONE), True),
        (running(post_start=HookState.FAILED), False),
        (created(), False),
        (ended(), False),
    ],
)
@pytest.mark.parametrize("kind", [STARTUP, READINESS, LIVENESS])
def test_only_who_runs_is_asked(kind: ProbeKind, attempt: Attempt, asked: bool) -> None:
    lifecycle = Lifecycle(post_start=ACTION)
    one = replace(probed(kind), lifecycle=lifecycle)
    assert (due(state_of(kind), one, attempt, terminating=False) is not None) is asked


@pytest.mark.parametrize(("kind", "asked"), [(STARTUP, False), (LIVENESS, False), (READINESS, True)])
def test_only_readiness_goes_on_in_a_termination(kind: ProbeKind, asked: bool) -> None:
    one, state = probed(kind), state_of(kind)
    assert (due(state, one, running(), terminating=True) is not None) is asked
    assert (due(state, one, running(stop=STOP), terminating=False) is not None) is asked


# What is recorded


def test_without_probes_it_has_started_and_is_ready_once_it_runs() -> None:
    assert verdicts(container(), running(), (), False) == Verdicts(started=True, ready=True)
    assert verdicts(container(), created(), (), False) == Verdicts()
    assert verdicts(container(), ended(), (), False) == Verdicts()
    hooked = container(lifecycle=Lifecycle(post_start=ACTION))
    assert verdicts(hooked, running(post_start=HookState.PENDING), (), False) == Verdicts()
    assert verdicts(hooked, running(post_start=HookState.FAILED), (), False) == Verdicts()
    done = verdicts(hooked, running(post_start=HookState.DONE), (), False)
    assert done == Verdicts(started=True, ready=True)


def test_probes_give_the_verdicts() -> None:
    one = probed(STARTUP, READINESS, failure_threshold=1)
    startup, readiness = begin(one, running(), START, 0)
    assert verdicts(one, running(), (startup, readiness), False) == Verdicts()
    startup = feed(startup, SUCCESS)
    assert verdicts(one, running(), (startup, readiness), False) == Verdicts(started=True)
    readiness = feed(readiness, SUCCESS)
    assert verdicts(one, running(), (startup, readiness), False) == Verdicts(started=True, ready=True)
    assert verdicts(one, running(), (startup, feed(readiness, FAILURE)), False) == Verdicts(started=True)


def test_only_a_startup_probe_makes_ready_when_it_passes() -> None:
    one, startup = probed(STARTUP), state_of(STARTUP)
    assert verdicts(one, running(), (startup,), False) == Verdicts()
    assert verdicts(one, running(), (feed(startup, SUCCESS),), False) == Verdicts(started=True, ready=True)


@pytest.mark.parametrize("kind", [STARTUP, LIVENESS])
def test_a_failed_verdict_gives_the_attempt_up_but_not_in_a_termination(kind: ProbeKind) -> None:
    one, state = probed(kind), feed(state_of(kind, failure_threshold=2), FAILURE, FAILURE)
    found = verdicts(one, running(), (state,), False)
    assert (found.unhealthy, found.unhealthy_message) == (kind.value, "why")
    assert verdicts(one, running(), (state,), True).unhealthy == ""


def test_a_supervisor_that_was_killed_goes_on_from_the_records() -> None:
    one = probed(STARTUP, READINESS, LIVENESS, failure_threshold=3)
    attempt = running(started=True, ready=True)
    states = begin(one, attempt, START, 2 * SECOND)
    assert verdicts(one, attempt, states, False) == Verdicts(started=True, ready=True)
    assert [due(state, one, attempt, terminating=False) for state in states] == [
        None,
        START + 2 * SECOND,
        START + 2 * SECOND,
    ]
    sick = running(started=True, ready=True, unhealthy="liveness", unhealthy_message="500")
    states = begin(one, sick, START, 0)
    assert verdicts(one, sick, states, False).unhealthy_message == "500"
    assert due(states[2], one, sick, terminating=False) is None


@given(
    kind=st.sampled_from(ProbeKind),
    outcomes=st.lists(st.sampled_from(Outcome), max_size=30),
    success=st.integers(1, 4),
    failure=st.integers(1, 4),
)
def test_a_verdict_is_the_last_run_that_was_long_enough(
    kind: ProbeKind, outcomes: list[Outcome], success: int, failure: int
) -> None:
    state = state_of(kind, success_threshold=success, failure_threshold=failure)
    expected = state.verdict
    counted: list[Outcome] = []
    for outcome in outcomes:
        if state.held:
            break
        before = state.due_ns
        state = on_result(state, outcome, "", state.due_ns).state
        assert before < state.due_ns <= before + 10 * SECOND
        if outcome is not UNKNOWN:
            counted.append(outcome)
            needed = success if outcome is SUCCESS else failure
            if len(counted) >= needed and set(counted[-needed:]) == {outcome}:
                expected = outcome
        assert state.verdict is expected
    final = {STARTUP: {SUCCESS, FAILURE}, LIVENESS: {FAILURE}, READINESS: set()}[kind]
    assert state.held is (expected in final and bool(counted))
