"""The transaction: journal before effect, undo in reverse, one error, and removal as undo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrun.errors import OperationFailed, PyrunError
from pyrun.kernel.operation import Operation, Results, Step
from pyrun.rootfs.directories import ClaimName, EnsureDirectory, MakeDirectory
from pyrun.state import transaction
from pyrun.state.journal import Journal


class Watcher:
    """An observer that looks at the journal at each moment, and can raise at one."""

    def __init__(
        self, journal: Journal, stop_before: int | None = None, stop_after: int | None = None
    ) -> None:
        self._journal = journal
        self._stop_before = stop_before
        self._stop_after = stop_after
        self.lines_before: list[int] = []
        self.heard: list[str] = []

    def before(self, step: Step) -> None:
        self.heard.append(f"before {step.describe()}")
        self.lines_before.append(len(self._journal.read()))
        if self._stop_before == len(self.lines_before):
            raise KeyboardInterrupt

    def after(self, step: Step, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.heard.append(f"after {step.describe()}")
        if self._stop_after == len(self.lines_before):
            raise KeyboardInterrupt

    def inside(self, step: Step) -> None:
        raise AssertionError("no child here")

    def reported(self, step: Step, seconds: float) -> None:
        raise AssertionError("no child here")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal"))


def three(tmp_path: Path) -> tuple[Operation, ...]:
    """Three directories, each in the one before."""
    return (
        MakeDirectory(f"{tmp_path}/a"),
        MakeDirectory(f"{tmp_path}/a/b"),
        MakeDirectory(f"{tmp_path}/a/b/c"),
    )


def test_success_is_recorded_and_then_committed(tmp_path: Path, journal: Journal) -> None:
    seen = []
    transaction.run(three(tmp_path), journal, Results(), lambda: seen.append(journal.committed()))
    assert seen == [False]
    assert journal.committed()
    assert (tmp_path / "a/b/c").is_dir()


def test_each_operation_is_journalled_before_it_is_applied(tmp_path: Path, journal: Journal) -> None:
    watcher = Watcher(journal)
    transaction.run(three(tmp_path), journal, Results(watcher), lambda: None)
    assert watcher.lines_before == [1, 2, 3]
    assert [word.split()[0] for word in watcher.heard] == ["before", "after"] * 3


def test_a_failure_undoes_all_in_reverse_and_names_the_operation(tmp_path: Path, journal: Journal) -> None:
    plan = (*three(tmp_path), EnsureDirectory(f"{tmp_path}/file/x"))
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(OperationFailed) as caught:
        transaction.run(plan, journal, Results(), lambda: None)
    assert str(caught.value).startswith(f"mkdir -p {tmp_path}/file/x: ")
    assert str(tmp_path / "file") in caught.value.reason
    assert caught.value.errno
    assert not (tmp_path / "a").exists()
    assert not Path(journal.path).exists()


def test_what_was_there_before_is_not_undone(tmp_path: Path, journal: Journal) -> None:
    """The operation that failed found somebody else's name; it must stay."""
    first = ClaimName(f"{tmp_path}/names/web", "first")
    first.apply(Results())
    with pytest.raises(PyrunError, match='a Pod named "web" exists already'):
        transaction.run((ClaimName(f"{tmp_path}/names/web", "second"),), journal, Results(), lambda: None)
    assert (tmp_path / "names/web").read_text() == "first"
    assert os.listdir(tmp_path / "names") == ["web"]


@pytest.mark.parametrize("moment", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interruption_at_any_moment_undoes_all(
    tmp_path: Path, journal: Journal, moment: int, when: str
) -> None:
    stop = {"stop_before": moment} if when == "before" else {"stop_after": moment}
    with pytest.raises(KeyboardInterrupt):
        transaction.run(three(tmp_path), journal, Results(Watcher(journal, **stop)), lambda: None)
    assert os.listdir(tmp_path) == []


def test_a_record_that_cannot_be_written_undoes_all(tmp_path: Path, journal: Journal) -> None:
    def fail() -> None:
        raise PyrunError("disk full")

    with pytest.raises(PyrunError, match="disk full"):
        transaction.run(three(tmp_path), journal, Results(), fail)
    assert os.listdir(tmp_path) == []


def test_undo_is_idempotent_and_removes_the_journal(tmp_path: Path, journal: Journal) -> None:
    transaction.run(three(tmp_path), journal, Results(), lambda: None)
    content = Path(journal.path).read_bytes()
    transaction.undo(journal)
    assert os.listdir(tmp_path) == []
    transaction.undo(journal)
    Path(journal.path).write_bytes(content)  # as if killed between the last undo and the removal
    transaction.undo(journal)
    assert os.listdir(tmp_path) == []


def stubborn(tmp_path: Path) -> ClaimName:
    """An operation whose undo fails: a directory stands where its file should be."""
    (tmp_path / "names/web").mkdir(parents=True)
    return ClaimName(f"{tmp_path}/names/web", "uid")


def test_an_undo_that_fails_does_not_keep_the_others_and_can_be_repeated(
    tmp_path: Path, journal: Journal
) -> None:
    journal_of(journal, MakeDirectory(f"{tmp_path}/a"), stubborn(tmp_path), MakeDirectory(f"{tmp_path}/b"))
    for name in "ab":
        (tmp_path / name).mkdir()
    with pytest.raises(PyrunError, match=f"cannot undo link {tmp_path}/names/web") as caught:
        transaction.undo(journal)
    assert "pyrun pod rm -f" in str(caught.value.hint)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
    (tmp_path / "names/web").rmdir()
    transaction.undo(journal)
    assert not Path(journal.path).exists()


def journal_of(journal: Journal, *operations: Operation) -> None:
    for operation in operations:
        journal.begin(operation)


def test_the_last_operation_is_undone_first(tmp_path: Path, journal: Journal) -> None:
    """Seen by the order in which two that cannot be undone are named."""
    (tmp_path / "first/web").mkdir(parents=True)
    (tmp_path / "second/web").mkdir(parents=True)
    journal_of(journal, ClaimName(f"{tmp_path}/first/web", "u"), ClaimName(f"{tmp_path}/second/web", "u"))
    with pytest.raises(PyrunError, match=r"second/web .*; .*first/web "):
        transaction.undo(journal)


def test_a_failed_undo_is_told_beside_the_error_and_never_in_its_place(
    tmp_path: Path, journal: Journal
) -> None:
    plan = (EnsureDirectory(f"{tmp_path}/x"), stubborn(tmp_path))
    with pytest.raises(PyrunError, match='a Pod named "web" exists already') as caught:
        transaction.run(plan, journal, Results(), lambda: None)
    assert any("cannot undo" in note for note in caught.value.__notes__)
    assert Path(journal.path).exists()


def test_nothing_is_lost_between_two_runs_on_one_journal(tmp_path: Path, journal: Journal) -> None:
    """A container is created by one run and started by another; both are undone by one undo."""
    for name in "ab":
        transaction.run((MakeDirectory(f"{tmp_path}/{name}"),), journal, Results(), lambda: None)
    transaction.undo(journal)
    assert os.listdir(tmp_path) == []
