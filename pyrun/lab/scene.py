"""The scene of an exercise: its directory, its cgroup, and the files that a person starts from.

Whatever is started by hand is put into the exercise's cgroup by the script `in`. So `check` finds it, and `reset`
can prove that it is the lab's.
"""

from __future__ import annotations

import os
import re
import shlex
import sys

import msgspec

from pyrun.cgroups.delegation import Place, find_place
from pyrun.errors import ImageError, Unsupported
from pyrun.runtime.admission import reserved
from pyrun.runtime.host import read_capacity
from pyrun.spec.layout import Layout
from pyrun.spec.quantity import format_milli_cpu

LABEL = "pyrun-lab"
"""The label of the lab's Pods and ReplicaSets; the value is the exercise's number."""

VARIABLE = "PYRUN_LAB"
"""The variable in the environment of what is started after `. ./env`: by it a supervisor is known as the lab's."""

BUSYBOX = "/bin/busybox"
NO_IMAGE = "# without image "
"""Ends a line of a manifest that holds only where the image named after it has not been loaded."""

_IN = """\
#!/bin/sh
# Starts a program in the cgroup of this exercise (GROUP=name: in a group below it). By its cgroup `check` finds what
# you have made, and `reset` knows what to end.
echo $$ > {cgroup}"${{GROUP:+/$GROUP}}/cgroup.procs" && exec "$@"
"""

_ENV = """\
# The variables of this exercise. Read them into your shell:  . ./env
LAB={directory}
CGROUP={cgroup}
PODS={pods}
export PYRUN_ROOT={root} PYRUN_STATE={state} PYRUN_SUBNET={subnet} {variable}={number}
pyrun() {{ {python} -P -m pyrun "$@"; }}
"""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Where an exercise takes place. `place` is where this host has the cgroups of instances."""

    number: int
    layout: Layout
    subnet: str
    place: Place

    @classmethod
    def of(cls, number: int, layout: Layout, subnet: str) -> Scene:
        """Return the scene of an exercise on this host. Raises Unsupported without a cgroup v2 hierarchy."""
        return cls(number=number, layout=layout, subnet=subnet, place=find_place())

    @property
    def directory(self) -> str:
        """The directory in which the exercise is done."""
        return f"{self.layout.root}/lab/{self.number}"

    @property
    def record_path(self) -> str:
        """The record, beside the directory: whoever empties that has not lost the exercise."""
        return f"{self.layout.root}/lab/{self.number}.json"

    @property
    def prefix(self) -> str:
        """The group of the instance, in which those of the Pods are too."""
        return self.layout.cgroup_prefix(self.place.parent)

    @property
    def cgroup(self) -> str:
        """The exercise's own group."""
        return f"{self.prefix}/lab/{self.number}"

    @property
    def rootfs(self) -> str:
        """The directory that can be a root."""
        return f"{self.directory}/root"

    def filled(self, text: str) -> str:
        """Return a text with the names of this scene in it: @LAB@, @CGROUP@, @PODS@, and @CPU 20%@ of what is free."""
        names = {
            "@LAB@": self.directory,
            "@CGROUP@": self.cgroup,
            "@PODS@": self.prefix,
        }
        for name, value in names.items():
            text = text.replace(name, value)
        return re.sub(r"@CPU (\d+)%@", lambda found: self._cpus(int(found[1])), text)

    def free_cpu_millis(self) -> int:
        """Return what the Pods of the instance have left of the CPUs of this host, in thousandths of one."""
        held = reserved(self.layout).cpu_millis or 0
        return max(read_capacity(self.layout).cpu_millis - held, 0)

    def _cpus(self, percent: int) -> str:
        return format_milli_cpu(max(self.free_cpu_millis() * percent // 100, 1))

    def environment(self) -> str:
        """Return what the file `env` says."""
        return _ENV.format(
            variable=VARIABLE,
            number=self.number,
            directory=shlex.quote(self.directory),
            cgroup=shlex.quote(self.cgroup),
            pods=shlex.quote(self.prefix),
            root=shlex.quote(self.layout.root),
            state=shlex.quote(self.layout.state),
            subnet=shlex.quote(self.subnet),
            python=shlex.quote(sys.executable),
        )

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the scene."""
        path = f"{self.directory}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def make(self) -> None:
        """Make the directory, and `env` and `in` in it."""
        os.makedirs(self.directory, exist_ok=True)
        self.write("env", self.environment())
        self.write("in", _IN.format(cgroup=shlex.quote(self.cgroup)), 0o755)

    def make_root(self) -> None:
        """Make `root`: a directory with a static busybox, all a container needs. Raises Unsupported."""
        import shutil
        import subprocess

        if not os.path.exists(BUSYBOX):
            raise Unsupported(
                f"{BUSYBOX} is missing, from which the lab makes a root file system",
                hint="install the Debian package busybox-static",
            )
        for name in ("bin", "dev", "etc", "old", "proc", "sys", "tmp", "var"):
            os.makedirs(f"{self.rootfs}/{name}", exist_ok=True)
        os.chmod(f"{self.rootfs}/tmp", 0o1777)
        shutil.copy(BUSYBOX, f"{self.rootfs}/bin/busybox")
        listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
        for applet in listed.stdout.split():
            if applet != "busybox":
                os.symlink("busybox", f"{self.rootfs}/bin/{applet}")

    def write_files(self, contents: tuple[tuple[str, str], ...]) -> None:
        """Write the files of the text; lines that stand in for an image are left out where it is loaded."""
        for name, text in contents:
            lines = [line for line in map(self._for_image, text.splitlines()) if line is not None]
            self.write(name, self.filled("\n".join(lines) + "\n"))

    def _for_image(self, line: str) -> str | None:
        kept, marker, image = line.partition(NO_IMAGE)
        return None if marker and self.has_image(image.strip()) else kept.rstrip()

    def has_image(self, name: str) -> bool:
        """Whether an image has been loaded."""
        from pyrun.images.store import ImageStore

        try:
            ImageStore(self.layout.images).resolve(name)
        except ImageError:
            return False
        return True
