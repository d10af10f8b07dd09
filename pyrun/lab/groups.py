"""The cgroup of an exercise, made where pyrun makes those of Pods; and controllers for what a person makes below it."""

from __future__ import annotations

from pyrun.cgroups.delegation import Owner, VacateCgroup, remedy
from pyrun.cgroups.group import CreateCgroup
from pyrun.cgroups.pressure import pressure
from pyrun.cgroups.scope import EnsureScope
from pyrun.cgroups.setting import EnableControllers
from pyrun.errors import Unsupported
from pyrun.kernel.operation import Operation, Results
from pyrun.lab.scene import Scene
from pyrun.process.programs import location

MACHINE = "the test machine has it (make vm-shell), and so has that of the Vagrantfile (vagrant up)"


def make(scene: Scene) -> None:
    """Make the group of an exercise."""
    for operation in _operations(scene):
        operation.apply(Results())


def remove(scene: Scene) -> None:
    """End all processes of the group, and remove it with what was made for it; done already is success."""
    for operation in reversed(_operations(scene)):
        operation.undo()


def enable(scene: Scene, controller: str) -> None:
    """Give the groups below the exercise's a controller. Raises Unsupported, with what has it."""
    place = scene.place
    if controller not in place.controllers:
        raise Unsupported(
            f"this exercise needs the {controller} controller, which {place.parent} does not have",
            hint=f"{remedy(place, controller)}; {MACHINE}",
        )
    for group in (place.parent, scene.prefix, f"{scene.prefix}/lab", scene.cgroup):
        EnableControllers(group, (controller,)).apply(Results())


def require_pressure(scene: Scene) -> None:
    """Raise Unsupported, with what has it, when the kernel does not measure the pressure of groups."""
    if pressure(scene.cgroup, "cpu") is None:
        raise Unsupported(
            "this exercise needs pressure stall information (PSI), which this kernel does not measure",
            hint=f"boot with psi=1, if it has CONFIG_PSI; {MACHINE}",
        )


def _operations(scene: Scene) -> tuple[Operation, ...]:
    made = CreateCgroup(scene.prefix, f"lab/{scene.number}")
    if scene.place.owner is Owner.SYSTEMD:
        lease = f"{scene.layout.name}-lab-{scene.number}"
        return EnsureScope(scene.place.parent, lease, location("pause")), made
    if scene.place.owner is Owner.CONTAINER and scene.place.controllers:
        return VacateCgroup(scene.place.parent), made
    return (made,)
