"""The verbs of the lab: start, check, hint, solve, reset; and the list."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from pyrun.controllers.running import stop_supervisor, supervisor
from pyrun.errors import Conflict, InputError
from pyrun.kernel import syscalls
from pyrun.kernel.proc import ProcessIdentity, mount_points
from pyrun.lab import groups, kernel, pods, records, script, texts
from pyrun.lab.catalogue import EXERCISES
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.records import LabRecord
from pyrun.lab.scene import VARIABLE, Scene
from pyrun.rootfs.directories import remove_tree
from pyrun.spec.layout import Layout
from pyrun.state.clock import now


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An exercise in the list; `state` is new, started or done."""

    number: int
    title: str
    state: str
    needs: str


def listed(layout: Layout) -> tuple[Listed, ...]:
    """Return all exercises and how far each is."""
    rows = []
    for exercise in EXERCISES:
        record = records.read(f"{layout.root}/lab/{exercise.number}.json")
        state = "new" if record is None else "done" if record.done_at else "started"
        title = texts.read(exercise.number).title
        rows.append(Listed(number=exercise.number, title=title, state=state, needs=exercise.needs))
    return tuple(rows)


class Lab:
    """One exercise of one instance."""

    def __init__(self, number: int, layout: Layout, subnet: str) -> None:
        """Raises InputError when there is no such exercise, Unsupported without a cgroup v2 hierarchy."""
        found = [exercise for exercise in EXERCISES if exercise.number == number]
        if not found:
            raise InputError(f"there is no exercise {number}", hint="see pyrun lab list")
        self._exercise: Exercise = found[0]
        self.scene = Scene.of(number, layout, subnet)
        self.text = texts.read(number)

    def start(self) -> None:
        """Make the scene. Raises Conflict when it was started already, Unsupported when this host cannot do it.

        What was made before a failure is undone.
        """
        scene = self.scene
        if records.read(scene.record_path) is not None:
            raise Conflict(
                f"exercise {scene.number} was started already",
                hint=f"go on in {scene.directory}, or begin anew: pyrun lab reset {scene.number}",
            )
        os.makedirs(os.path.dirname(scene.directory), exist_ok=True)
        records.write(scene.record_path, LabRecord(started_at=now()))
        try:
            groups.make(scene)
            scene.make()
            scene.make_root()
            scene.write_files(self.text.files)
            self._exercise.prepare(scene)
        except BaseException:
            self.reset(lambda _: None)
            raise

    def check(self) -> tuple[Finding, ...]:
        """Return what must be so, each as it is. Raises InputError when the exercise was not started."""
        record = self._started()
        findings = tuple(self._exercise.check(self.scene))
        if all(finding.holds for finding in findings) and not record.done_at:
            records.write(self.scene.record_path, msgspec.structs.replace(record, done_at=now()))
        return findings

    def hints(self) -> tuple[str, ...]:
        """Return the hints given so far and one more. Raises InputError when the exercise was not started."""
        record = self._started()
        count = min(record.hints + 1, len(self.text.hints))
        records.write(self.scene.record_path, msgspec.structs.replace(record, hints=count))
        return self.text.hints[:count]

    def solve(self, show: Callable[[str], None]) -> None:
        """Do the exercise by the commands of its text. Raises InputError, and PyrunError when one fails."""
        self._started()
        script.run(self.scene, self.text.commands, show)

    def reset(self, tell: Callable[[str], None]) -> None:
        """Undo all that is the exercise's, whole or half made; what is not provably so is left alone.

        Processes are the lab's by their cgroup (the supervisor by its environment), Pods by their label, mounts and
        files by the directory.
        """
        scene = self.scene
        pods.remove_all(scene, tell)
        count = len(kernel.processes_in(scene.cgroup))
        groups.remove(scene)
        if count:
            tell(f"ended what ran in {scene.cgroup}: {count}")
        _unmount_below(scene.directory)
        if os.path.isdir(scene.directory):
            remove_tree(scene.directory)
            tell(f"removed {scene.directory}")
        if _is_of_lab(supervisor(scene.layout)) and not pods.anything_left(scene):
            stop_supervisor(scene.layout)
            tell("ended the supervisor: it came with the lab, and nothing is left to look after")
        if os.path.exists(scene.record_path):
            os.unlink(scene.record_path)
        _remove_if_empty(os.path.dirname(scene.directory))

    def _started(self) -> LabRecord:
        record = records.read(self.scene.record_path)
        if record is None:
            number = self.scene.number
            raise InputError(
                f"exercise {number} has not been started", hint=f"start it: pyrun lab start {number}"
            )
        return record


def _is_of_lab(identity: ProcessIdentity | None) -> bool:
    return identity is not None and kernel.Process(identity.pid).has_variable(VARIABLE)


def _remove_if_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:  # gone, or of use to others
        return


def _unmount_below(directory: str) -> None:
    """Detach every mount at or below a directory, the last one first.

    Looked for anew after each, for one may take others along: where mounts are shared, they are there twice.
    """
    while points := [point for point, _, _ in mount_points() if f"{point}/".startswith(f"{directory}/")]:
        syscalls.umount2(points[-1], syscalls.MNT_DETACH)
