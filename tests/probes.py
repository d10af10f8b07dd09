"""What the machine can do, found out by trying. Each word of `@pytest.mark.requires(...)` is a function here.

A probe returns None when the thing works, else the reason why it does not: the reason of the skip.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

PROBES: dict[str, Callable[[], str | None]] = {}
GUEST_WORDS = ("cgroup_controllers", "pressure", "systemd", "disposable")
"""What the guest of tests/vm always has, and the machine at hand perhaps not."""
CONTROLLERS = ("cpu", "memory", "pids", "io")


def probe(function: Callable[[], str | None]) -> Callable[[], str | None]:
    """Register a probe under its name; it is tried once."""
    cached = functools.cache(function)
    PROBES[function.__name__] = cached
    return cached


def _try(code: str) -> str | None:
    """Run a few lines in a process of their own; the last line of its stderr is the reason."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    if result.returncode == 0:
        return None
    return (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]


@probe
def namespaces() -> str | None:
    """Whether all the namespaces of a Pod can be made."""
    return _try("from pyrun.kernel.syscalls import *; unshare(0x00000080|0x00020000|0x6c000000|0x02000000)")


@probe
def cgroup_v2() -> str | None:
    """Whether groups can be made and killed on the unified hierarchy, wherever it is mounted."""
    return _try(
        "import os\n"
        "from pyrun.cgroups import files, group\n"
        "path = f'{files.unified_mount()}/pyrun-probe-{os.getpid()}'\n"
        "os.mkdir(path)\n"
        "group.remove(path)\n"
    )


@probe
def cgroup_controllers() -> str | None:
    """Whether groups below the root of the unified hierarchy can have the controllers that limits need."""
    return cgroup_v2() or _try(
        "import os, sys\n"
        "from pyrun.cgroups import files, group\n"
        "root = files.unified_mount()\n"
        f"needed = set({CONTROLLERS!r})\n"
        "missing = sorted(needed - set(files.controllers(root)))\n"
        "if missing: sys.exit('the unified hierarchy has no controller ' + ', '.join(missing))\n"
        "for name in needed - set(files.read(root, 'cgroup.subtree_control').split()):\n"
        "    files.write(root, 'cgroup.subtree_control', '+' + name)\n"
        "path = f'{root}/pyrun-probe-{os.getpid()}'\n"
        "os.mkdir(path)\n"
        "try:\n"
        "    for name in ('cpu.max', 'memory.max', 'pids.max', 'io.max'): files.read(path, name)\n"
        "finally: group.remove(path)\n"
    )


@probe
def pressure() -> str | None:
    """Whether the kernel measures pressure (PSI), of the machine and of a group."""
    return cgroup_v2() or _try(
        "import os\n"
        "from pyrun.cgroups import files, group\n"
        "path = f'{files.unified_mount()}/pyrun-probe-{os.getpid()}'\n"
        "os.mkdir(path)\n"
        "try: open('/proc/pressure/memory').read(), files.read(path, 'memory.pressure')\n"
        "finally: group.remove(path)\n"
    )


@probe
def systemd() -> str | None:
    """Whether systemd is PID 1."""
    return None if os.path.isdir("/run/systemd/system") else "PID 1 is not systemd"


@probe
def disposable() -> str | None:
    """Whether this machine may be changed for good: only the guest of tests/vm says so of itself."""
    return None if os.environ.get("PYRUN_TEST_DISPOSABLE") == "1" else "this machine is to be kept as it is"


@probe
def overlay() -> str | None:
    """Whether overlayfs can be mounted on the temporary directory."""
    return _try(
        "import os, tempfile\n"
        "from pyrun.kernel.syscalls import *\n"
        "unshare(CLONE_NEWNS)\n"
        "mount_setattr(AT_FDCWD, '/', AT_RECURSIVE, propagation=MS_PRIVATE)\n"
        "d = tempfile.mkdtemp()\n"
        "for n in 'luwm': os.mkdir(f'{d}/{n}')\n"
        "try: mount('o', f'{d}/m', 'overlay', 0, f'lowerdir={d}/l,upperdir={d}/u,workdir={d}/w')\n"
        "finally: __import__('shutil').rmtree(d, ignore_errors=True)\n"
    )


@probe
def pods() -> str | None:
    """Whether Pods can be made at all: namespaces, cgroups, overlay."""
    return namespaces() or cgroup_v2() or overlay()


@probe
def busybox() -> str | None:
    """Whether a static busybox is there to make a root file system from."""
    return (
        None if os.path.exists("/bin/busybox") else "/bin/busybox is missing (Debian package busybox-static)"
    )


@probe
def nftables() -> str | None:
    """Whether nf_tables takes a masquerade rule in a network namespace of its own."""
    return _try(
        "from pyrun.kernel.syscalls import *\n"
        "unshare(CLONE_NEWNET)\n"
        "from pyrun.network.nftables import run\n"
        "run('add table ip probe\\nadd chain ip probe p { type nat hook postrouting priority 100; }\\n"
        "add rule ip probe p masquerade\\n')\n"
    )


@probe
def skopeo() -> str | None:
    """Whether skopeo is installed."""
    return None if shutil.which("skopeo") else "skopeo is not installed (Debian package skopeo)"


@probe
def docker_registry() -> str | None:
    """Whether Debian's docker-registry is installed."""
    return None if shutil.which("docker-registry") else "docker-registry is not installed (Debian package)"


AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
"""The beginning of a command line (of util-linux) that runs the rest as a user without any right."""


@probe
def other_user() -> str | None:
    """Whether a user who is not root can run this interpreter with this package."""
    if os.geteuid() != 0:
        return "not root"
    command = [*AS_NOBODY, sys.executable, "-c", "import pyrun.cli.pod, pyrun.manifest"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return (result.stderr.strip().splitlines() or [""])[-1] if result.returncode else None


@probe
def build_tools() -> str | None:
    """Whether the package can be built: pip, the build backend, meson and a C compiler."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        return "no C compiler (Debian package gcc)"
    return _try("import cffi, mesonpy, mesonbuild, pip")
