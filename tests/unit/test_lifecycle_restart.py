"""Whether and when a container runs again: restart policies, rules, backoff (reference 2.1, 2.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.lifecycle.observation import Ended
from pyrun.lifecycle.restart import (
    RestartVerdict,
    backoff_ns,
    needs_supervision,
    next_crashes,
    wants_restart,
)
from pyrun.lifecycle.words import duration
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import (
    Metadata,
    OwnerReference,
    Pod,
    RestartPolicy,
    RestartRule,
    RestartRuleAction,
)
from pyrun.spec.probe import ExecAction, Lifecycle, Probe
from tests.unit.lifecycle_world import SECOND, SETTINGS, container, ended, pod, replace, sidecar

ALWAYS, ON_FAILURE, NEVER = RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE, RestartPolicy.NEVER
NO, RESTART, RESTART_ALL = RestartVerdict.NO, RestartVerdict.RESTART, RestartVerdict.RESTART_ALL


def test_the_first_restart_is_at_once_then_ten_seconds_double_to_five_minutes() -> None:
    delays = [backoff_ns(crashes, SETTINGS) // SECOND for crashes in range(1, 10)]
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert backoff_ns(10**9, SETTINGS) == 300 * SECOND


def test_backoff_is_settable() -> None:
    settings = BackoffSettings(initial_ns=SECOND, maximum_ns=5 * SECOND)
    assert [backoff_ns(crashes, settings) // SECOND for crashes in range(1, 7)] == [0, 1, 2, 4, 5, 5]
    assert backoff_ns(50, BackoffSettings(initial_ns=0)) == 0
    assert backoff_ns(50, BackoffSettings(maximum_ns=0)) == 0


@given(st.integers(0, 200), st.integers(0, 10**12), st.integers(0, 10**12))
def test_backoff_never_shrinks_and_never_exceeds(crashes: int, initial: int, maximum: int) -> None:
    settings = BackoffSettings(initial_ns=initial, maximum_ns=maximum)
    assert 0 <= backoff_ns(crashes, settings) <= backoff_ns(crashes + 1, settings) <= maximum


@pytest.mark.parametrize(
    ("ran", "crashes"), [(SECOND, 5), (600 * SECOND - 1, 5), (600 * SECOND, 1), (601 * SECOND, 1)]
)
def test_ten_minutes_of_running_begin_the_count_anew(ran: int, crashes: int) -> None:
    assert next_crashes(ended(ran=ran, at=10_000 * SECOND, crashes=4), SETTINGS) == crashes


def test_an_attempt_that_never_started_has_not_run() -> None:
    attempt = replace(ended(at=10_000 * SECOND, crashes=2), started_ns=0)
    assert next_crashes(attempt, SETTINGS) == 3


def test_an_end_that_was_lost_has_not_run() -> None:
    attempt = replace(ended(at=10_000 * SECOND, crashes=2), ended=Ended(exit_code=255, lost=True))
    assert next_crashes(attempt, SETTINGS) == 3


@pytest.mark.parametrize(
    ("policy", "code", "verdict"),
    [
        (ALWAYS, 0, RESTART),
        (ALWAYS, 1, RESTART),
        (ON_FAILURE, 0, NO),
        (ON_FAILURE, 1, RESTART),
        (ON_FAILURE, 255, RESTART),
        (NEVER, 0, NO),
        (NEVER, 1, NO),
    ],
)
@pytest.mark.parametrize("other", [ALWAYS, ON_FAILURE, NEVER])
def test_policies(policy: RestartPolicy, code: int, verdict: RestartVerdict, other: RestartPolicy) -> None:
    end = Ended(exit_code=code)
    inherits = pod(policy=policy).spec
    assert wants_restart(inherits, inherits.containers[0], end) is verdict
    overrides = pod(container(restart_policy=policy), policy=other).spec
    assert wants_restart(overrides, overrides.containers[0], end) is verdict


RULES = (
    RestartRule(action=RestartRuleAction.RESTART, exit_codes=(42, 43)),
    RestartRule(action=RestartRuleAction.RESTART_ALL_CONTAINERS, exit_codes=(43, 44)),
    RestartRule(action=RestartRuleAction.RESTART, exit_codes=(0, 1, 44), negated=True),
)


@pytest.mark.parametrize(
    ("code", "policy", "verdict"),
    [
        (42, NEVER, RESTART),
        (43, NEVER, RESTART),  # the first that matches wins
        (44, NEVER, RESTART_ALL),
        (7, NEVER, RESTART),  # not in
        (1, NEVER, NO),  # none matches: the policy of the container
        (1, ON_FAILURE, RESTART),
        (0, ALWAYS, RESTART),
    ],
)
def test_rules(code: int, policy: RestartPolicy, verdict: RestartVerdict) -> None:
    spec = pod(container(restart_policy=policy, restart_policy_rules=RULES), policy=NEVER).spec
    assert wants_restart(spec, spec.containers[0], Ended(exit_code=code)) is verdict


@pytest.mark.parametrize("policy", [ALWAYS, ON_FAILURE, NEVER])
@pytest.mark.parametrize("code", [0, 1])
def test_a_sidecar_always_runs_again(policy: RestartPolicy, code: int) -> None:
    spec = pod(init=(sidecar("proxy"),), policy=policy).spec
    assert wants_restart(spec, spec.init_containers[0], Ended(exit_code=code)) is RESTART


@pytest.mark.parametrize(
    ("policy", "code", "oom_kills", "verdict"),
    [
        (ALWAYS, 0, 0, NO),
        (ALWAYS, 1, 0, RESTART),
        (ON_FAILURE, 0, 0, NO),
        (ON_FAILURE, 1, 0, RESTART),
        (NEVER, 1, 0, NO),
        (ON_FAILURE, 0, 1, RESTART),  # a child was killed for memory: it has failed, whatever it says
        (NEVER, 0, 1, NO),
    ],
)
def test_an_init_container_is_retried_until_it_succeeds_unless_never(
    policy: RestartPolicy, code: int, oom_kills: int, verdict: RestartVerdict
) -> None:
    spec = pod(init=(container("setup"),), policy=policy).spec
    end = Ended(exit_code=code, oom_kills=oom_kills)
    assert wants_restart(spec, spec.init_containers[0], end) is verdict


def test_a_container_that_exits_well_has_not_failed_for_a_child_killed_for_memory() -> None:
    spec = pod(policy=ON_FAILURE).spec
    assert wants_restart(spec, spec.containers[0], Ended(exit_code=0, oom_kills=1)) is NO


PROBE = Probe(action=ExecAction(command=("true",)))


@pytest.mark.parametrize(
    ("manifest", "needs"),
    [
        (pod(policy=NEVER), False),
        (pod(container(restart_policy=NEVER), policy=NEVER), False),
        (pod(container(lifecycle=Lifecycle(pre_stop=ExecAction(command=("x",)))), policy=NEVER), False),
        (pod(policy=ON_FAILURE), True),
        (pod(policy=ALWAYS), True),
        (pod(container(restart_policy=ON_FAILURE), policy=NEVER), True),
        (pod(container(restart_policy=NEVER, restart_policy_rules=RULES), policy=NEVER), True),
        (pod(container(startup_probe=PROBE), policy=NEVER), True),
        (pod(container(readiness_probe=PROBE), policy=NEVER), True),
        (pod(container(), container("b", liveness_probe=PROBE), policy=NEVER), True),
        (pod(container(lifecycle=Lifecycle(post_start=ExecAction(command=("x",)))), policy=NEVER), True),
        (pod(init=(container("i"),), policy=NEVER), True),
        (pod(init=(sidecar("s"),), policy=NEVER), True),
        (pod(policy=NEVER, active_deadline_seconds=5), True),
    ],
)
def test_who_needs_supervision(manifest: Pod, needs: bool) -> None:
    assert needs_supervision(manifest) is needs


def test_a_pod_with_an_owner_needs_supervision() -> None:
    owner = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web", uid="1", controller=True)
    manifest = replace(pod(policy=NEVER), metadata=Metadata(name="web-1", owner_references=(owner,)))
    assert needs_supervision(manifest)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (10 * SECOND, "10s"),
        (80 * SECOND, "1m20s"),
        (300 * SECOND, "5m0s"),
        (3600 * SECOND, "1h0m0s"),
        (1_500_000_000, "1.5s"),
        (250_000_000, "250ms"),
        (1_500, "1.5µs"),
        (7, "7ns"),
        (61_001_000_000, "1m1.001s"),
    ],
)
def test_durations_are_written_as_go_writes_them(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text
