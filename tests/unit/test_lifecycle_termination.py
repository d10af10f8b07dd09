"""The termination of a Pod and the stop of a container, step by step (reference 2.2)."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from pyrun.lifecycle.observation import Attempt, AttemptState, Ended, PodObservation, Stop
from pyrun.lifecycle.termination import (
    Finish,
    KillNow,
    RunPreStop,
    SendSignal,
    TerminationSteps,
    plan_stop,
    plan_termination,
)
from pyrun.spec.pod import Container, Pod
from pyrun.spec.probe import ExecAction, Lifecycle
from tests.unit.lifecycle_world import (
    SECOND,
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

HOOK = Lifecycle(pre_stop=ExecAction(command=("drain",)))
DEADLINE = START + 30 * SECOND


def stop(
    *, grace: int = 30, pre_stopped: Iterable[str] = (), signalled: Iterable[str] = (), kill_ns: int = 0
) -> Stop:
    return Stop(
        asked_ns=START,
        deadline_ns=START + grace * SECOND,
        kill_ns=kill_ns,
        grace_seconds=grace,
        reason="Killing",
        pre_stopped=tuple(pre_stopped),
        signalled=tuple(signalled),
    )


def signal(name: str) -> SendSignal:
    return SendSignal(container=name, attempt=0)


def hook(name: str) -> RunPreStop:
    return RunPreStop(container=name, attempt=0)


def plan(
    manifest: Pod, observation: PodObservation, at: int = START, hooks: Iterable[str] = ()
) -> TerminationSteps:
    return plan_termination(manifest, observation, at, frozenset(hooks))


def test_nothing_is_planned_that_was_not_asked_for() -> None:
    assert plan(pod(), observed(seen("app", running()))) == TerminationSteps()
    assert plan_stop(container(), running(), START) == TerminationSteps()


def test_application_containers_are_signalled_together() -> None:
    manifest = pod(container("a"), container("b"), container("c"))
    going = observed(seen("a", running()), seen("b", running()), seen("c", ended()), stop=stop())
    assert plan(manifest, going) == TerminationSteps(
        steps=(signal("a"), signal("b")), kill_ns=DEADLINE, wake_ns=DEADLINE
    )


def test_a_signal_is_sent_once_and_then_waited_for() -> None:
    going = observed(seen("app", running()), stop=stop(signalled=["app"]))
    assert plan(pod(), going, START + SECOND) == TerminationSteps(kill_ns=DEADLINE, wake_ns=DEADLINE)


def test_at_the_deadline_everything_left_is_killed_together() -> None:
    manifest = pod(container("a"), container("b"), init=(sidecar("log"),))
    going = observed(
        seen("log", running()), seen("a", running()), seen("b", ended()), stop=stop(signalled=["a"])
    )
    assert plan(manifest, going, DEADLINE).steps == (KillNow(containers=("log", "a")),)
    assert plan(manifest, going, DEADLINE + 99 * SECOND).steps == (KillNow(containers=("log", "a")),)


def test_it_is_finished_when_nothing_is_left() -> None:
    for containers in ((), (seen("app", ended(code=137)),)):
        assert plan(pod(), observed(*containers, stop=stop())).steps == (Finish(),)
    assert plan_stop(container(), ended(stop=stop()), START).steps == (Finish(),)


def test_pre_stop_comes_before_the_signal() -> None:
    manifest = pod(container("a", lifecycle=HOOK), container("b"))
    going = observed(seen("a", running()), seen("b", running()), stop=stop())
    assert plan(manifest, going).steps == (hook("a"), signal("b"))
    going = replace(going, stop=stop(signalled=["b"]))
    assert plan(manifest, going, START + 5 * SECOND, ["a"]).steps == ()
    going = replace(going, stop=stop(signalled=["b"], pre_stopped=["a"]))
    later = plan(manifest, going, START + 10 * SECOND)
    assert later == TerminationSteps(steps=(signal("a"),), kill_ns=DEADLINE, wake_ns=DEADLINE)


def test_a_pre_stop_whose_end_nobody_saw_is_run_again() -> None:
    going = observed(seen("app", running()), stop=stop())
    assert plan(pod(container(lifecycle=HOOK)), going, START + 20 * SECOND).steps == (hook("app"),)


def test_grace_0_skips_pre_stop_and_signal() -> None:
    going = observed(seen("app", running()), stop=stop(grace=0))
    assert plan(pod(container(lifecycle=HOOK)), going).steps == (KillNow(containers=("app",)),)


def test_a_pre_stop_that_used_the_grace_up_leaves_two_seconds() -> None:
    manifest = pod(container("a", lifecycle=HOOK), container("b"), init=(sidecar("log"),))
    going = observed(
        seen("log", running()), seen("a", running()), seen("b", running()), stop=stop(signalled=["b"])
    )
    assert plan(manifest, going, DEADLINE - 1, ["a"]).wake_ns == DEADLINE
    cut = plan(manifest, going, DEADLINE, ["a"])
    kill = DEADLINE + 2 * SECOND
    assert cut == TerminationSteps(steps=(signal("a"),), kill_ns=kill, wake_ns=kill)
    going = replace(going, stop=stop(signalled=["b", "a"], pre_stopped=["a"], kill_ns=cut.kill_ns))
    assert plan(manifest, going, kill - 1) == TerminationSteps(kill_ns=kill, wake_ns=kill)
    assert plan(manifest, going, kill).steps == (KillNow(containers=("log", "a", "b")),)


def test_a_pre_stop_that_ended_in_the_last_two_seconds_leaves_two() -> None:
    going = observed(seen("app", running()), stop=stop(pre_stopped=["app"]))
    manifest = pod(container(lifecycle=HOOK))
    assert plan(manifest, going, DEADLINE - SECOND).kill_ns == DEADLINE + SECOND
    assert plan(manifest, going, DEADLINE - 3 * SECOND).kill_ns == DEADLINE


def test_who_comes_late_does_not_begin_the_grace_again() -> None:
    manifest = pod(container(lifecycle=HOOK))
    for stopped in (stop(), stop(pre_stopped=["app"]), stop(signalled=["app"])):
        late = plan(manifest, observed(seen("app", running()), stop=stopped), DEADLINE + 2 * SECOND)
        assert late.steps == (KillNow(containers=("app",)),)


def test_sidecars_wait_for_the_application_and_stop_in_reverse_order() -> None:
    manifest = pod(
        container("app"), init=(sidecar("one"), container("setup"), sidecar("two", lifecycle=HOOK))
    )
    going = observed(
        seen("one", running()),
        seen("setup", ended()),
        seen("two", running()),
        seen("app", running()),
        stop=stop(signalled=["app"]),
    )
    assert plan(manifest, going).steps == ()
    going = replace(going, containers=going.containers[:3])
    assert plan(manifest, going).steps == (hook("two"),)
    going = replace(going, stop=stop(pre_stopped=["two"]))
    assert plan(manifest, going).steps == (signal("two"),)
    going = replace(going, stop=stop(pre_stopped=["two"], signalled=["two"]))
    assert plan(manifest, going).steps == ()
    going = replace(going, containers=(going.containers[0], seen("two", ended())))
    assert plan(manifest, going).steps == (signal("one"),)


def test_an_init_container_that_runs_is_stopped_like_a_sidecar() -> None:
    manifest = pod(init=(sidecar("log"), container("setup")))
    going = observed(seen("log", running()), seen("setup", running()), stop=stop(), initialized=False)
    assert plan(manifest, going).steps == (signal("setup"),)


def test_what_never_started_is_killed_at_once() -> None:
    manifest = pod(container("a", lifecycle=HOOK), container("b"), init=(sidecar("log"),))
    going = observed(seen("log", created()), seen("a", created()), seen("b", running()), stop=stop())
    assert plan(manifest, going).steps == (signal("b"), KillNow(containers=("log", "a")))


def test_one_container_is_stopped_by_the_same_rules() -> None:
    app = container(lifecycle=HOOK)
    attempt = running(stop=stop(grace=5))
    assert plan_stop(app, attempt, START).steps == (hook("app"),)
    cut = plan_stop(app, attempt, START + 5 * SECOND, frozenset(["app"]))
    assert (cut.steps, cut.kill_ns) == ((signal("app"),), START + 7 * SECOND)
    attempt = replace(attempt, stop=stop(grace=5, signalled=["app"], kill_ns=cut.kill_ns))
    assert plan_stop(app, attempt, START + 6 * SECOND).steps == ()
    assert plan_stop(app, attempt, START + 7 * SECOND).steps == (KillNow(containers=("app",)),)


NEVER_ENDS = 10**6 * SECOND


class Caller:
    """Takes the steps of a termination in a world that is not there, and may be killed at any moment."""

    def __init__(self, manifest: Pod, reactions: dict[str, int], hooks: dict[str, int], grace: int) -> None:
        self.pod = manifest
        self.reactions, self.hooks = reactions, hooks
        self.now = START
        self.attempts: dict[str, Attempt] = {c.name: running() for c in manifest.spec.all_containers()}
        self.stop = stop(grace=grace)
        self.hook_ends: dict[str, int] = {}
        self.dies_at: dict[str, int] = {}
        self.log: list[tuple[str, str, int]] = []
        """(what, container, when)."""

    def observe(self) -> PodObservation:
        containers = tuple(seen(name, attempt) for name, attempt in self.attempts.items())
        return observed(*containers, stop=self.stop)

    def run(self, killed_at: Iterable[int]) -> None:
        deaths = sorted(killed_at)
        for _ in range(200):
            planned = plan_termination(self.pod, self.observe(), self.now, frozenset(self.hook_ends))
            self.stop = replace(self.stop, kill_ns=planned.kill_ns)
            for step in planned.steps:
                self.take(step)
            if Finish() in planned.steps:
                return
            moments = [planned.wake_ns, *self.hook_ends.values(), *self.dies_at.values(), *deaths[:1]]
            self.now = max(self.now, min(moment for moment in moments if moment is not None))
            if deaths and self.now >= deaths[0]:
                deaths.pop(0)
                self.hook_ends = {}
            self.happen()
        raise AssertionError("it never ends")

    def take(self, step: RunPreStop | SendSignal | KillNow | Finish) -> None:
        match step:
            case RunPreStop():
                self.log.append(("hook", step.container, self.now))
                self.hook_ends[step.container] = self.now + self.hooks[step.container]
            case SendSignal():
                self.log.append(("signal", step.container, self.now))
                self.hook_ends.pop(step.container, None)
                self.stop = replace(self.stop, signalled=(*self.stop.signalled, step.container))
                self.dies_at[step.container] = self.now + self.reactions[step.container]
            case KillNow():
                for name in step.containers:
                    self.log.append(("kill", name, self.now))
                    self.dies_at[name] = self.now

    def happen(self) -> None:
        for name, when in list(self.hook_ends.items()):
            if when <= self.now:
                del self.hook_ends[name]
                self.stop = replace(self.stop, pre_stopped=(*self.stop.pre_stopped, name))
        for name, when in list(self.dies_at.items()):
            if when <= self.now:
                del self.dies_at[name]
                self.log.append(("end", name, self.now))
                self.attempts[name] = replace(
                    self.attempts[name],
                    state=AttemptState.STOPPED,
                    ended=Ended(exit_code=0, finished_ns=self.now),
                )

    def when(self, what: str, name: str) -> list[int]:
        return [at for kind, of, at in self.log if (kind, of) == (what, name)]


DURATIONS = st.sampled_from([0, SECOND // 2, SECOND, 3 * SECOND, 7 * SECOND, NEVER_ENDS])


@settings(max_examples=400, deadline=None)
@given(data=st.data(), grace=st.sampled_from([0, 1, 2, 5, 10]))
def test_whatever_containers_hooks_and_callers_do(data: st.DataObject, grace: int) -> None:
    def made(name: str, side: bool) -> Container:
        hooked = data.draw(st.booleans(), label=f"hook of {name}")
        lifecycle = HOOK if hooked else Lifecycle()
        return sidecar(name, lifecycle=lifecycle) if side else container(name, lifecycle=lifecycle)

    manifest = pod(
        made("a", False),
        made("b", False),
        init=(made("s", True), made("t", True)),
    )
    names = [c.name for c in manifest.spec.all_containers()]
    caller = Caller(
        manifest,
        {name: data.draw(DURATIONS, label=f"{name} reacts") for name in names},
        {name: data.draw(DURATIONS, label=f"hook of {name} takes") for name in names},
        grace,
    )
    deaths = data.draw(st.lists(st.integers(0, 15).map(lambda s: START + s * SECOND), max_size=3))
    caller.run(deaths)

    deadline = START + grace * SECOND
    gone = {name: caller.when("end", name)[0] for name in names}
    assert max(gone.values()) <= deadline + 2 * SECOND
    if not any(c.lifecycle.pre_stop for c in manifest.spec.all_containers()):
        assert max(gone.values()) <= deadline
    for name in names:
        signals, hooks, kills = (caller.when(what, name) for what in ("signal", "hook", "kill"))
        assert len(signals) <= 1
        assert not grace or signals or kills
        if signals and hooks:
            assert max(hooks) <= signals[0]
        if kills:
            assert kills[0] >= deadline
            if signals and hooks and not deaths:
                assert kills[0] - signals[0] >= 2 * SECOND
        if not grace:
            assert not hooks
            assert not signals
        if name in ("s", "t"):
            later = ["a", "b", *(["t"] if name == "s" else [])]
            for began in (*signals, *hooks):
                assert all(gone[other] <= began for other in later)
