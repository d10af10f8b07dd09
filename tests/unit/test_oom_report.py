"""What is recorded of kills, and what of it is kept when the kernel's log has forgotten it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrun.runtime import oom
from pyrun.runtime.oom import KEPT, write_report
from pyrun.runtime.pods import ContainerKey, PodDirectory
from pyrun.spec.layout import Layout
from pyrun.spec.oom import OomLimit, OomReport, Victim

KEY: ContainerKey = ("app", 0)


def victim(number: int) -> Victim:
    return Victim(name="p", pid=number, at_us=number, anonymous=1, file=0, shared=0, limit=OomLimit.CONTAINER)


@pytest.fixture
def pod(tmp_path: Path) -> PodDirectory:
    found = PodDirectory(Layout.of(str(tmp_path / "root"), str(tmp_path / "state")), "uid")
    os.makedirs(found.container_directory(KEY))
    return found


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Victim]:
    """What the kernel's log still tells."""
    known: list[Victim] = []
    monkeypatch.setattr(
        oom, "investigate", lambda pod, key, kills: OomReport(kills=kills, victims=tuple(known))
    )
    return known


def pids(report: OomReport | None) -> list[int]:
    assert report is not None
    return [one.pid for one in report.victims]


def test_who_was_named_before_is_kept(pod: PodDirectory, log: list[Victim]) -> None:
    log[:] = [victim(1), victim(2)]
    assert pids(write_report(pod, KEY, 2)) == [1, 2]
    log[:] = [victim(2), victim(3)]
    assert pids(write_report(pod, KEY, 3)) == [1, 2, 3]
    log.clear()
    assert pids(write_report(pod, KEY, 4)) == [1, 2, 3]
    assert pod.oom(KEY) == write_report(pod, KEY, 4)


def test_the_log_is_not_read_again_for_what_is_recorded(
    pod: PodDirectory, log: list[Victim], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(victim(1))
    first = write_report(pod, KEY, 1)
    monkeypatch.delattr(oom, "investigate")
    assert write_report(pod, KEY, 1) == first


def test_of_very_many_the_last_are_kept(pod: PodDirectory, log: list[Victim]) -> None:
    log[:] = [victim(number) for number in range(1, 3 * KEPT + 1)]
    assert pids(write_report(pod, KEY, 3 * KEPT)) == list(range(2 * KEPT + 1, 3 * KEPT + 1))


def test_a_damaged_record_is_written_anew(pod: PodDirectory, log: list[Victim]) -> None:
    Path(pod.oom_path(KEY)).write_text("{")
    log.append(victim(1))
    assert pids(write_report(pod, KEY, 1)) == [1]
    assert pids(pod.oom(KEY)) == [1]


def test_where_nothing_can_be_written_it_is_still_known(pod: PodDirectory, log: list[Victim]) -> None:
    log.append(victim(1))
    os.rmdir(pod.container_directory(KEY))
    assert pids(write_report(pod, KEY, 1)) == [1]
