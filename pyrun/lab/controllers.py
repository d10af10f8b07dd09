"""Controllers for groups that a person makes: enabled from the root of the hierarchy down to the exercise's group.

Source: Documentation/admin-guide/cgroup-v2.rst, "Enabling and Disabling", "No Internal Process Constraint".
"""

from __future__ import annotations

import os

from pyrun.cgroups import files
from pyrun.errors import Unsupported
from pyrun.lab.scene import Scene

MACHINE = "the test machine has it (make vm-shell), and so has the one of the Vagrantfile (vagrant up)"


def enable(scene: Scene, controller: str) -> None:
    """Enable a controller for the groups below the exercise's own. Raises Unsupported with the reason."""
    if controller not in files.controllers(scene.mount):
        raise Unsupported(
            f"{scene.mount} has no {controller} controller: it is in a hierarchy of cgroup v1, or kept from here",
            hint=f"boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all; {MACHINE}",
        )
    path = scene.mount
    for part in ["", *os.path.relpath(scene.cgroup, scene.mount).split("/")]:
        path = os.path.join(path, part).rstrip("/")
        try:
            files.write(path, "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            raise Unsupported(
                f"the {controller} controller cannot be enabled in {path}: {error.strerror}",
                hint=f"processes in that group itself keep it from that (EBUSY); {MACHINE}",
            ) from error


def require_pressure() -> None:
    """Raise Unsupported when the kernel does not measure pressure (PSI)."""
    try:
        with open("/proc/pressure/cpu", encoding="ascii") as file:
            file.read()
    except OSError as error:
        raise Unsupported(
            f"/proc/pressure/cpu cannot be read: {error.strerror}", hint=f"boot with psi=1; {MACHINE}"
        ) from error
