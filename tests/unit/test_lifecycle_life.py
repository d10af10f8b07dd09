"""Whole lives of a Pod in a world that is not there: exact times, and what never happens whatever comes.

The supervisor may die between any two actions: each decision is made from nothing but the observation.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyrun.lifecycle.actions import (
    MarkInitialized,
    PodActions,
    RebuildSandbox,
    RestartAllContainers,
    StartContainer,
    TerminatePod,
)
from pyrun.lifecycle.display import display_status
from pyrun.lifecycle.observation import AttemptState, HookState, StartFailure
from pyrun.lifecycle.status import pod_status
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Container, Pod, RestartPolicy, RestartRule, RestartRuleAction
from pyrun.spec.probe import ExecAction, Lifecycle, Probe
from pyrun.spec.status import Phase
from tests.unit.lifecycle_world import SECOND, SETTINGS, START, World, container, pod, replace, sidecar

ALWAYS, ON_FAILURE, NEVER = RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE, RestartPolicy.NEVER


def seconds(moment: int) -> int:
    return round((moment - START) / SECOND)


def crash_for(world: World, name: str, duration: int, ran: int) -> list[int]:
    """Let a container crash `ran` seconds after each start; return the seconds at which it was started."""
    end = START + duration * SECOND
    while world.now < end:
        world.sync()
        while name not in world.live():
            wake = world.sync().wake_ns
            if name in world.live():
                break
            assert wake is not None
            assert wake > world.now
            world.now = wake
            world.sync()
        world.now += ran * SECOND
        world.end(name, 1)
    return [seconds(when) for of, _, when in world.starts if of == name and when < end]


def test_an_hour_of_crash_loop_back_off_starts_when_it_is_documented() -> None:
    delays = [0, 0, 10, 20, 40, 80, 160, *[300] * 10]
    expected = [sum(delays[: i + 1]) for i in range(len(delays))]
    assert crash_for(World(pod()), "app", 3600, ran=0) == [at for at in expected if at < 3600]


def test_running_time_is_not_part_of_the_backoff() -> None:
    assert crash_for(World(pod()), "app", 200, ran=5) == [0, 5, 20, 45, 90, 175]


def test_ten_minutes_of_health_reset_the_backoff() -> None:
    world = World(pod())
    crash_for(world, "app", 100, ran=1)
    while "app" not in world.live():
        world.now = world.sync().wake_ns or world.now
    world.now += 600 * SECOND
    world.end("app", 1)
    ended_at = world.now
    world.sync()
    assert world.live() == ["app"]  # at once
    assert world.now - ended_at < SECOND
    world.end("app", 1)
    assert world.sync().wake_ns == world.seen.container("app").latest.ended.finished_ns + 10 * SECOND  # type: ignore[union-attr]


def test_a_lab_needs_no_five_minutes() -> None:
    world = World(pod(), BackoffSettings(initial_ns=SECOND, maximum_ns=4 * SECOND))
    assert crash_for(world, "app", 16, ran=0) == [0, 0, 1, 3, 7, 11, 15]


def test_a_new_sandbox_runs_the_whole_order_again() -> None:
    world = World(pod(container("app"), init=(container("one"), sidecar("log"), container("two"))))
    for round_ in (0, 1):
        world.sync()
        assert world.live() == ["one"]
        world.end("one", 0)
        world.sync()
        assert sorted(world.live()) == ["log", "two"]
        world.end("two", 0)
        world.sync()
        assert sorted(world.live()) == ["app", "log"]
        assert [(name, attempt) for name, attempt, _ in world.starts[-4:]] == [
            (name, round_) for name in ("one", "log", "two", "app")
        ]
        world.seen = replace(world.seen, sandbox_alive=False)
    assert world.seen.sandbox_attempt == 1


def test_a_job_with_a_sidecar_ends() -> None:
    world = World(pod(container("app"), init=(sidecar("log"),), policy=ON_FAILURE))
    world.sync()
    world.end("app", 1)
    world.sync()
    assert sorted(world.live()) == ["app", "log"]
    world.end("app", 0)
    assert world.sync() == PodActions()
    assert world.live() == []
    assert pod_status(world.pod, world.seen, SETTINGS, world.now).phase is Phase.SUCCEEDED


# Whatever comes

PROBE = Probe(action=ExecAction(command=("x",)))
HOOK = Lifecycle(post_start=ExecAction(command=("x",)))
RULES = st.sampled_from(
    [
        (),
        (RestartRule(action=RestartRuleAction.RESTART, exit_codes=(3,)),),
        (RestartRule(action=RestartRuleAction.RESTART_ALL_CONTAINERS, exit_codes=(4,)),),
        (RestartRule(action=RestartRuleAction.RESTART, exit_codes=(0, 4), negated=True),),
    ]
)


@st.composite
def containers(draw: st.DrawFn, name: str) -> Container:
    policy = draw(st.sampled_from([None, None, *RestartPolicy]))
    return container(
        name,
        restart_policy=policy,
        restart_policy_rules=draw(RULES) if policy is not None else (),
        startup_probe=draw(st.sampled_from([None, PROBE])),
        liveness_probe=draw(st.sampled_from([None, PROBE])),
        lifecycle=draw(st.sampled_from([Lifecycle(), HOOK])),
    )


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    applications = [draw(containers(name)) for name in draw(st.sampled_from([["a"], ["a", "b"]]))]
    inits = [
        draw(containers(name)) for name in draw(st.sampled_from([[], ["i"], ["i", "j"], ["i", "j", "k"]]))
    ]
    return pod(
        *applications,
        init=tuple(inits),
        policy=draw(st.sampled_from(RestartPolicy)),
        active_deadline_seconds=draw(st.sampled_from([None, None, None, 3600])),
    )


EXIT_CODES = st.sampled_from([0, 0, 1, 3, 4, 137])
DELAYS = (0, 10, 20, 40, 80, 160, 300)
NAMES = st.sampled_from(["a", "b", "i", "j", "k"])


class Lives(RuleBasedStateMachine):
    """Random events in random order; what may never happen is checked at each action and after each event."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(pod())

    @initialize(manifest=pods())
    def begin(self, manifest: Pod) -> None:
        self.world = World(manifest)

    # Events

    @rule()
    def look(self) -> None:
        self.act(100)

    @rule(count=st.integers(1, 3))
    def look_and_die(self, count: int) -> None:
        """The supervisor dies after some actions."""
        self.act(count)

    @rule(name=NAMES)
    def die_between_creation_and_start(self, name: str) -> None:
        action = self.go_on_to_the_start_of(name)
        if action is not None:
            self.world.create(action)

    @rule(name=NAMES)
    def fail_to_start(self, name: str) -> None:
        action = self.go_on_to_the_start_of(name)
        if action is not None:
            one = self.world.seen.container(name)
            count = 1 if one.failure is None else one.failure.count + 1
            failure = StartFailure(reason="ErrImagePull", message="", at_ns=self.world.now, count=count)
            self.world.set(replace(one, failure=failure))
            again = [a for a in self.world.decide().actions if isinstance(a, StartContainer)]
            assert (name in [a.container for a in again]) is (count == 1)

    @rule(name=NAMES, code=EXIT_CODES, oom=st.sampled_from([0, 0, 0, 1]))
    def end(self, name: str, code: int, oom: int) -> None:
        if name in self.world.live():
            self.world.end(name, code, oom_kills=oom)

    @rule(name=NAMES)
    def start_up(self, name: str) -> None:
        if name in self.world.live():
            self.world.change(name, started=True)

    @rule(name=NAMES, kind=st.sampled_from(["startup", "liveness"]))
    def be_unhealthy(self, name: str, kind: str) -> None:
        if name in self.world.live():
            self.world.change(name, unhealthy=kind)

    @rule(state=st.sampled_from([HookState.DONE, HookState.FAILED]))
    def let_hooks_end(self, state: HookState) -> None:
        self.world.hook_result = state

    @rule(name=NAMES, paused=st.booleans())
    def pause(self, name: str, paused: bool) -> None:
        if name in self.world.live():
            self.world.change(name, paused=paused)

    @rule()
    def kill_the_sandbox(self) -> None:
        self.world.seen = replace(self.world.seen, sandbox_alive=False)

    @rule(seconds=st.sampled_from([1, 7, 10, 30, 300, 700]))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds * SECOND

    @precondition(lambda self: self.world.seen.stop is None)
    @rule(chance=st.integers(0, 9))
    def ask_for_the_end(self, chance: int) -> None:
        if chance == 0:
            self.world.terminate()

    @rule()
    def wait_for_the_wake_up(self) -> None:
        """Until then nothing is decided, and then something is."""
        wake = self.act(100)
        if wake is None:
            self.world.now += 10**6 * SECOND
            assert self.world.decide() == PodActions()
            return
        assert wake > self.world.now
        self.world.now += (wake - self.world.now) // 2
        assert self.world.decide() == PodActions(wake_ns=wake)
        self.world.now = wake
        assert self.world.decide().actions

    # Actions

    def act(self, count: int) -> int | None:
        """Decide and act until all is done or so many actions were taken; return the wake-up."""
        for _ in range(count):
            decided = self.world.decide()
            if not decided.actions:
                return decided.wake_ns
            for action in decided.actions:
                self.check(action)
                self.world.apply(action)
                count -= 1
                if not count:
                    return None
        raise AssertionError("it never comes to rest")

    def go_on_to_the_start_of(self, name: str) -> StartContainer | None:
        """Take what is decided up to the start of a container, if that is among it."""
        actions = self.world.decide().actions
        for index, action in enumerate(actions):
            if isinstance(action, StartContainer) and action.container == name:
                for before in actions[:index]:
                    self.check(before)
                    self.world.apply(before)
                self.check(action)
                return action
        return None

    def check(self, action: object) -> None:
        seen = self.world.seen
        if seen.stop is not None:
            assert isinstance(action, TerminatePod)
        if isinstance(action, RebuildSandbox):
            assert not seen.sandbox_alive
        if isinstance(action, MarkInitialized):
            assert all(self.is_through(c) for c in self.world.pod.spec.init_containers)
        if isinstance(action, RestartAllContainers):
            latest = self.world.latest(action.container)
            assert latest is not None
            assert latest.ended is not None
            assert latest.ended.exit_code == 4
        if isinstance(action, StartContainer):
            self.check_start(action)

    def check_start(self, action: StartContainer) -> None:
        world, seen = self.world, self.world.seen
        spec = world.pod.spec
        one = spec.container(action.container)
        latest = world.latest(action.container)
        assert seen.sandbox_alive
        assert seen.stop is None
        if one in spec.init_containers:
            before = spec.init_containers[: spec.init_containers.index(one)]
            is_side = one.restart_policy is ALWAYS
            assert is_side or not seen.initialized
            if latest is None:
                assert all(self.is_through(c) or self.was_started(c) for c in before)
        else:
            assert seen.initialized or not spec.init_containers
        if latest is None or latest.ended is None:
            return
        if self.is_past(latest.ended.finished_ns):
            return
        policy = one.restart_policy or spec.restart_policy
        failed = latest.ended.exit_code != 0 or (one in spec.init_containers and latest.ended.oom_kills > 0)
        if not one.restart_policy_rules:
            assert policy is not NEVER
            assert policy is not ON_FAILURE or failed
        ran = latest.ended.finished_ns - latest.started_ns if latest.started_ns else 0
        count = 1 if ran >= 600 * SECOND else latest.crashes + 1
        assert action.crashes == count
        wait = DELAYS[min(count, len(DELAYS)) - 1]
        assert world.now >= latest.ended.finished_ns + wait * SECOND

    def is_past(self, finished_ns: int) -> bool:
        return finished_ns <= max(self.world.seen.sandbox_ns, self.world.seen.restarted_ns)

    def is_through(self, one: Container) -> bool:
        latest = self.world.latest(one.name)
        if latest is None:
            return False
        if one.restart_policy is ALWAYS:
            return self.was_started(one)
        end = latest.ended
        return (
            end is not None
            and end.exit_code == 0
            and end.oom_kills == 0
            and not self.is_past(end.finished_ns)
        )

    def was_started(self, one: Container) -> bool:
        """Whether it is a sidecar that runs, or did in this life."""
        latest = self.world.latest(one.name)
        return one.restart_policy is ALWAYS and latest is not None

    # What always holds

    @invariant()
    def deciding_twice_is_deciding_once(self) -> None:
        assert self.world.decide() == self.world.decide()

    @invariant()
    def a_terminating_pod_starts_nothing(self) -> None:
        if self.world.seen.stop is not None:
            assert all(isinstance(action, TerminatePod) for action in self.world.decide().actions)

    @invariant()
    def under_never_nothing_is_restarted(self) -> None:
        spec = self.world.pod.spec
        if spec.restart_policy is NEVER and all(c.restart_policy is None for c in spec.all_containers()):
            assert all(attempt == 0 for _, attempt, _ in self.world.starts)

    @invariant()
    def the_status_fits(self) -> None:
        world = self.world
        status = pod_status(world.pod, world.seen, SETTINGS, world.now)
        assert display_status(status, world.seen.stop is not None)
        if status.phase in (Phase.SUCCEEDED, Phase.FAILED):
            assert world.live() == []
            assert world.decide() == PodActions()
        if world.live() == [] and world.decide() == PodActions():
            assert status.phase in (Phase.SUCCEEDED, Phase.FAILED)
        for one in (*status.init_container_statuses, *status.container_statuses):
            state = one.state
            assert sum(s is not None for s in (state.waiting, state.running, state.terminated)) == 1
            assert one.last_state.waiting is None
            assert one.last_state.running is None
            latest = world.latest(one.name)
            assert one.restart_count == (0 if latest is None else latest.attempt)
            if latest is not None and latest.state is not AttemptState.RUNNING:
                assert not one.started
                assert state.running is None
        ready = [c.status for c in status.conditions if c.type == "Ready"]
        unready = [c.name for c in status.container_statuses if not c.ready]
        assert ready == ["False"] or (not unready and world.seen.stop is None)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
