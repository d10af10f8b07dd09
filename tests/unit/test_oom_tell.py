"""What the supervisor tells of kills: when it is woken, what it says, and that it says it once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyrun.cgroups.delegation import Place
from pyrun.controllers import oom
from pyrun.controllers.context import Context
from pyrun.controllers.headroom import Headroom
from pyrun.controllers.loop import Loop
from pyrun.controllers.oom import GATHER_NS, OomWatch, forget_older, tell_kills
from pyrun.controllers.watches import Watches
from pyrun.controllers.workers import Workers
from pyrun.lifecycle.observation import Attempt, ContainerObservation, PodObservation
from pyrun.plan.host import HostFacts
from pyrun.runtime.pods import ContainerKey, PodDirectory
from pyrun.spec.event import Event
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.oom import OomLimit, OomReport, Victim
from pyrun.spec.resources import Capacity
from pyrun.state.records import ClosedRecord, write_record
from tests.unit.lifecycle_world import SETTINGS, ended, pod, running

POD = pod()


class Clock:
    """A clock that is turned by hand."""

    now = 1_000

    def __call__(self) -> int:
        return self.now


class Events:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def append(self, event: Event) -> bool:
        self.messages.append(event.message)
        return True


class Scene(msgspec.Struct):
    context: Context
    events: Events
    clock: Clock
    directory: PodDirectory


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    layout = Layout.of(str(tmp_path / "root"), str(tmp_path / "state"))
    clock, events = Clock(), Events()
    loop = Loop(clock)
    facts = HostFacts(
        layout=layout,
        place=Place(parent="/sys/fs/cgroup"),
        capacity=Capacity(cpu_millis=1000, memory=1 << 30),
        capabilities=(),
        limits=(),
        network=NetworkConfig.of(layout.name, layout.state),
        hostname="host",
    )
    context = Context(
        loop=loop,
        workers=Workers(loop),
        watches=Watches(loop),
        facts=facts,
        headroom=Headroom(facts.capacity),
        recorder=events,
        backoff=SETTINGS,
        started_ns=0,
        report=lambda text: None,
    )
    directory = PodDirectory(layout, "uid")
    Path(directory.container_directory(("app", 0))).mkdir(parents=True)
    yield Scene(context, events, clock, directory)
    context.watches.close()


def seen(attempt: Attempt) -> PodObservation:
    return PodObservation(uid="uid", containers=(ContainerObservation(name="app", latest=attempt),))


def killed(attempt: Attempt, kills: int) -> Attempt:
    return msgspec.structs.replace(attempt, oom_kills=kills)


def victim(pid: int, at_us: int) -> Victim:
    return Victim(
        name=f"p{pid}", pid=pid, at_us=at_us, anonymous=1 << 20, file=0, shared=0, limit=OomLimit.CONTAINER
    )


# When it is woken


def test_it_is_woken_by_kills_and_not_by_reclaim(scene: Scene, tmp_path: Path) -> None:
    leaf = tmp_path / "ctr-app"
    leaf.mkdir()
    (leaf / "memory.events").write_text("max 0\noom_kill 0\n")
    woken: list[int] = []
    watch = OomWatch(scene.context, scene.directory, lambda: woken.append(scene.clock.now))
    watch.follow(str(tmp_path), seen(running()))

    def happens(text: str) -> None:
        (leaf / "memory.events").write_text(text)
        scene.context.loop.turn()
        scene.clock.now += GATHER_NS
        scene.context.loop.turn()

    happens("max 7\noom_kill 0\n")
    assert woken == []
    happens("max 7\noom_kill 2\n")
    assert len(woken) == 1
    watch.follow(str(tmp_path), seen(killed(running(), 2)))
    happens("max 9\noom_kill 2\n")
    assert len(woken) == 1
    watch.close()
    (leaf / "memory.events").write_text("max 9\noom_kill 5\n")
    scene.context.loop.turn()
    scene.context.loop.cancel(("oom", "uid"))
    assert len(woken) == 1


def test_many_kills_in_a_moment_are_looked_at_once(scene: Scene, tmp_path: Path) -> None:
    leaf = tmp_path / "ctr-app"
    leaf.mkdir()
    (leaf / "memory.events").write_text("oom_kill 0\n")
    woken: list[int] = []
    OomWatch(scene.context, scene.directory, lambda: woken.append(1)).follow(str(tmp_path), seen(running()))
    for count in range(1, 9):
        (leaf / "memory.events").write_text(f"oom_kill {count}\n")
        scene.context.loop.turn()
        scene.clock.now += GATHER_NS // 10
    assert woken == []
    scene.clock.now += GATHER_NS
    scene.context.loop.turn()
    assert woken == [1]


def test_without_the_controller_nothing_is_watched(scene: Scene, tmp_path: Path) -> None:
    OomWatch(scene.context, scene.directory, lambda: None).follow(str(tmp_path), seen(running()))


# What it tells


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Victim]:
    """The kills that the kernel's log tells of."""
    known: list[Victim] = []

    def write_report(pod: PodDirectory, key: ContainerKey, kills: int) -> OomReport:
        report = OomReport(kills=kills, victims=tuple(known))
        write_record(pod.oom_path(key), report)
        return report

    monkeypatch.setattr(oom, "write_report", write_report)
    return known


def test_each_rise_is_told_once_with_those_who_are_new(scene: Scene, log: list[Victim]) -> None:
    told: dict[str, int] = {}

    def look(kills: int) -> list[str]:
        before = len(scene.events.messages)
        tell_kills(scene.context, scene.directory, POD, ("app", killed(running(), kills)), told)
        return scene.events.messages[before:]

    assert look(0) == [] and told == {}
    log.append(victim(11, 100))
    (text,) = look(1)
    assert text.startswith(
        "Container app (attempt 0): the kernel killed 1 process for want of memory: p11 (pid 11)"
    )
    assert look(1) == []
    told = msgspec.json.decode(msgspec.json.encode(told), type=dict[str, int])  # another supervisor
    assert look(1) == []
    log += [victim(12, 200), victim(13, 201)]
    (text,) = look(3)
    assert "killed 2 processes" in text and "p12" in text and "p13" in text and "p11" not in text
    (text,) = look(4)
    assert "memory.events counts 1 kill; which processes is not known" in text
    report = scene.directory.oom(("app", 0))
    assert report is not None and [one.pid for one in report.victims] == [11, 12, 13]


def test_of_a_closed_attempt_is_told_what_was_recorded(scene: Scene, log: list[Victim]) -> None:
    """Its group has gone: what the log says of it now is not looked for any more."""
    told = {"app/oom/0": 1, "app/oom-at/0": 100}
    directory = Path(scene.directory.container_directory(("app", 0)))
    write_record(f"{directory}/closed.json", ClosedRecord(oom_kills=2))
    log.append(victim(99, 999))
    known = OomReport(kills=2, victims=(victim(11, 100), victim(12, 200)))
    write_record(scene.directory.oom_path(("app", 0)), known)
    tell_kills(scene.context, scene.directory, POD, ("app", killed(ended(code=137), 2)), told)
    (text,) = scene.events.messages
    assert "killed 1 process" in text and "p12" in text
    tell_kills(scene.context, scene.directory, POD, ("app", killed(ended(code=137), 2)), told)
    assert len(scene.events.messages) == 1


def test_what_is_not_kept_is_forgotten() -> None:
    told = {
        "app": 3,
        "app/backoff": 2,
        "app/oom/0": 4,
        "app/oom-at/0": 9,
        "app/oom/3": 1,
        "oom": 0,
        "oom/backoff": 1,
    }
    forget_older(told, seen(running(3)))
    assert told == {"app": 3, "app/backoff": 2, "app/oom/3": 1, "oom": 0, "oom/backoff": 1}
