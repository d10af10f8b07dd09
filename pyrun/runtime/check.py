"""What this host can do for pyrun and what it cannot, each with the remedy. Nothing is left behind.

The one exception is somebody else's fault: when the host's PID 1 does not reap, the orphan made to find that
out stays its zombie.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

import msgspec

from pyrun.cgroups import files, group
from pyrun.cgroups.controllers import CONTROLLERS
from pyrun.cgroups.delegation import Owner, Place, find_place, remedy
from pyrun.errors import PyrunError, StateError
from pyrun.kernel.proc import read_text
from pyrun.kernel.trial import in_child
from pyrun.namespaces.table import Namespace
from pyrun.rootfs.directories import remove_tree
from pyrun.runtime import trials
from pyrun.runtime.admission import reserved
from pyrun.runtime.host import read_capacity
from pyrun.security.capabilities import bounding_set
from pyrun.security.oom import score_floor
from pyrun.spec.capability import ALL_CAPABILITIES
from pyrun.spec.layout import Layout
from pyrun.spec.linux import INFRA_OOM_SCORE_ADJ
from pyrun.spec.network import NetworkConfig
from pyrun.spec.resources import CPU, MEMORY, amounts, format_amount

OLDEST_KERNEL = (5, 14)
ENOUGH_SPACE = 1 << 30
_TIMEOUT = 10.0
_AS_ROOT = "run it as root"
_WITHHELD = "a container engine around pyrun may withhold it: give it --privileged"

_NAMESPACES = {
    Namespace.MOUNT: "2.4.19",
    Namespace.UTS: "2.6.19",
    Namespace.IPC: "2.6.19",
    Namespace.NETWORK: "2.6.29",
    Namespace.PID: "2.6.24",
    Namespace.CGROUP: "4.6",
    Namespace.TIME: "5.6",
}
_LIMITS = {
    "cpu": "CPU time",
    "cpuset": "which CPUs",
    "hugetlb": "huge pages",
    "io": "disk input and output",
    "memory": "memory and swap",
    "pids": "the number of processes",
}


class Verdict(enum.Enum):
    """How it stands: fully there; there with something less; not there, so no Pods; not tried for want of rights."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"
    UNTRIED = "untried"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the report."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""


class Report(msgspec.Struct, frozen=True):
    """All findings; `pods` says whether Pods can be made."""

    pods: bool
    findings: tuple[Finding, ...]


def check_host(layout: Layout, network: NetworkConfig) -> Report:
    """Look at this host, and try what must be tried in child processes. Works without root, and says less."""
    findings = (
        _user(),
        _kernel(),
        _capabilities(),
        _tried("compiled programs", trials.programs, "install pyrun with pip; set vm.memfd_noexec below 2"),
        *_namespaces(),
        *_mounting(),
        *_cgroups(layout),
        _requests(layout),
        _oom_scores(),
        *_storage(layout),
        *_network(network),
        _orphans(),
        _skopeo(),
    )
    can = all(finding.verdict in (Verdict.OK, Verdict.LIMITED) for finding in findings)
    return Report(can, findings)


def _tried(subject: str, trial: Callable[[], str], remedy: str) -> Finding:
    """Run a trial in a child; what it raises is the finding."""

    def body() -> Finding:
        try:
            return Finding(subject, Verdict.OK, trial())
        except PermissionError as error:
            if os.geteuid() != 0:
                return Finding(subject, Verdict.UNTRIED, "needs root", _AS_ROOT)
            return Finding(subject, Verdict.MISSING, _reason(error), _WITHHELD)
        except OSError as error:
            return Finding(subject, Verdict.MISSING, _reason(error), remedy)
        except PyrunError as error:
            return Finding(subject, Verdict.MISSING, str(error), error.hint or remedy)

    answer = in_child(lambda: msgspec.json.encode(body()), _TIMEOUT)
    if answer is None:
        return Finding(subject, Verdict.MISSING, f"the trial gave no answer in {_TIMEOUT:g} s", remedy)
    return msgspec.json.decode(answer, type=Finding)


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text


def _user() -> Finding:
    if os.geteuid() == 0:
        return Finding("user", Verdict.OK, "root")
    return Finding(
        "user", Verdict.MISSING, f"uid {os.geteuid()}: only root makes Pods", "run pyrun with sudo"
    )


def _kernel() -> Finding:
    release = os.uname().release
    numbers = [int(part) for part in release.replace("-", ".").split(".")[:2] if part.isdecimal()]
    if tuple(numbers) >= OLDEST_KERNEL:
        return Finding("kernel", Verdict.OK, release)
    return Finding(
        "kernel",
        Verdict.MISSING,
        f"{release} is older than 5.14",
        "use Linux 5.14 or newer: it has cgroup.kill",
    )


def _capabilities() -> Finding:
    subject = "capabilities"
    last = int(read_text("/proc/sys/kernel/cap_last_cap"))
    held = bounding_set()
    lacking = [name for name in ALL_CAPABILITIES[: last + 1] if name not in held]
    if not lacking:
        return Finding(subject, Verdict.OK, "the bounding set has all the kernel knows")
    detail = f"the bounding set lacks {', '.join(lacking)}: no container gets them"
    return Finding(subject, Verdict.LIMITED, detail, _WITHHELD)


def _namespaces() -> Iterator[Finding]:
    for kind, version in _NAMESPACES.items():
        remedy = f"use a kernel that has it: Linux {version} with its option on"
        yield _tried(f"namespace {kind.value}", functools.partial(trials.namespace, kind), remedy)


def _mounting() -> tuple[Finding, ...]:
    return (
        _tried("mount interface", trials.mount_api, "use Linux 5.12 or newer: it has mount_setattr"),
        _tried("openat2", trials.openat2, "use Linux 5.6 or newer"),
        _tried("pidfd", trials.pidfd, "use Linux 5.8 or newer: its setns takes a pidfd"),
        _tried(
            "kernel file systems",
            trials.file_systems,
            "devpts and mqueue need CONFIG_UNIX98_PTYS and CONFIG_POSIX_MQUEUE; " + _WITHHELD,
        ),
    )


def _cgroups(layout: Layout) -> Iterator[Finding]:
    try:
        mount = files.unified_mount()
    except PyrunError as error:
        yield Finding("cgroup v2", Verdict.MISSING, str(error), error.hint or "")
        return
    yield Finding("cgroup v2", Verdict.OK, mount)
    place = find_place()
    yield _delegation(place)
    yield from _controllers(place)
    above = place.parent if os.path.isdir(place.parent) else mount
    path = f"{above}/{layout.name}-check-{os.getpid()}"
    trials_of_group = (
        ("clone into a cgroup", trials.clone_into_cgroup, "use Linux 5.7 or newer"),
        ("cgroup kill and freeze", trials.kill_cgroup, "use Linux 5.14 or newer"),
    )
    try:
        os.mkdir(path)
    except OSError as error:
        verdict = Verdict.MISSING if os.geteuid() == 0 else Verdict.UNTRIED
        remedy = "mount it writable" if os.geteuid() == 0 else _AS_ROOT
        for subject, _, _ in trials_of_group:
            yield Finding(subject, verdict, _reason(error), remedy)
        return
    try:
        for subject, trial, remedy in trials_of_group:
            yield _tried(subject, functools.partial(trial, path), remedy)
    finally:
        group.remove(path)


def _delegation(place: Place) -> Finding:
    subject = "part of the tree"
    if place.owner is not Owner.SYSTEMD:
        whose = "nobody else's" if place.owner is Owner.NOBODY else "of the container around pyrun"
        return Finding(subject, Verdict.OK, f"{place.parent}, {whose}")
    if shutil.which("systemd-run") is None:
        detail = "systemd looks after the tree, and systemd-run is not there to ask it for a part"
        return Finding(subject, Verdict.MISSING, detail, "install systemd's tools")
    return Finding(subject, Verdict.OK, f"{place.parent}, delegated by systemd")


def _controllers(place: Place) -> Iterator[Finding]:
    for name in CONTROLLERS:
        subject = f"controller {name}"
        if name in place.controllers:
            yield Finding(subject, Verdict.OK, f"{_LIMITS[name]}; below {place.parent}")
        else:
            detail = f"not below {place.parent}: no limits of {_LIMITS[name]}"
            yield Finding(subject, Verdict.LIMITED, detail, remedy(place, name))


def _requests(layout: Layout) -> Finding:
    """What is kept for the Pods of this instance, of what this host has: the rest is for others."""
    try:
        taken = amounts(reserved(layout))
    except PermissionError:
        return Finding("requests", Verdict.UNTRIED, "needs root", _AS_ROOT)
    except StateError as error:
        return Finding("requests", Verdict.LIMITED, str(error), error.hint or "")
    there = amounts(read_capacity(layout))
    shown = [
        f"{name} {format_amount(name, taken.get(name, 0))} of {format_amount(name, amount)}"
        for name, amount in there.items()
        if name in (CPU, MEMORY) or name in taken
    ]
    return Finding("requests", Verdict.OK, f"allocated to Pods: {', '.join(shown)}")


def _oom_scores() -> Finding:
    floor = score_floor()
    subject = "OOM scores"
    if floor <= INFRA_OOM_SCORE_ADJ:
        return Finding(subject, Verdict.OK, "oom_score_adj can be lowered")
    if os.geteuid() != 0:
        return Finding(subject, Verdict.UNTRIED, "needs root", _AS_ROOT)
    detail = f"oom_score_adj cannot be set below {floor}: when the whole host is out of memory, any Pod may go first"
    return Finding(subject, Verdict.LIMITED, detail, f"give pyrun CAP_SYS_RESOURCE; {_WITHHELD}")


def existing_parent(path: str) -> str:
    """Return the path, or the nearest directory above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _storage(layout: Layout) -> Iterator[Finding]:
    yield _overlay(layout)
    yield _space(layout)
    parent = existing_parent(layout.state)
    subject = f"state {layout.state}"
    if os.access(parent, os.W_OK):
        yield Finding(subject, Verdict.OK, f"can be written, on {trials.file_system_of(parent)}")
    elif os.geteuid() != 0:
        yield Finding(subject, Verdict.UNTRIED, "needs root", _AS_ROOT)
    else:
        yield Finding(subject, Verdict.MISSING, f"{parent} cannot be written", "choose another with --state")


def _overlay(layout: Layout) -> Finding:
    subject = f"overlay on {layout.root}"
    parent = existing_parent(layout.root)
    try:
        directory = tempfile.mkdtemp(prefix=".pyrun-check-", dir=parent)
    except OSError as error:
        if os.geteuid() != 0:
            return Finding(subject, Verdict.UNTRIED, "needs root", _AS_ROOT)
        return Finding(subject, Verdict.MISSING, _reason(error), "choose another with --root or PYRUN_ROOT")
    try:
        kind = trials.file_system_of(parent)
        remedy = f"load the module overlay; if {kind} cannot hold its layers, choose another --root (ext4, xfs, tmpfs)"
        return _tried(subject, lambda: trials.overlay(directory), remedy)
    finally:
        remove_tree(directory)


def _space(layout: Layout) -> Finding:
    parent = existing_parent(layout.root)
    status = os.statvfs(parent)
    subject = f"space in {layout.root}"
    free = status.f_bavail * status.f_frsize
    detail = f"{free >> 20} MiB free on {trials.file_system_of(parent)}"
    if status.f_flag & os.ST_RDONLY:
        return Finding(subject, Verdict.MISSING, f"{parent} is mounted read-only", "choose another --root")
    if free < ENOUGH_SPACE or (status.f_files and status.f_favail < 10000):
        words = f"{detail}, {status.f_favail} files: little for images"
        return Finding(subject, Verdict.LIMITED, words, "make room, or choose another --root")
    return Finding(subject, Verdict.OK, detail)


def _network(network: NetworkConfig) -> Iterator[Finding]:
    from pyrun.network.probe import probe

    for found in probe(network):
        if found.ok:
            verdict = Verdict.OK
        elif os.geteuid() != 0 and found.remedy.startswith(_AS_ROOT):
            verdict = Verdict.UNTRIED
        elif "firewall" in found.name:
            verdict = Verdict.LIMITED
        else:
            verdict = Verdict.MISSING
        yield Finding(found.name, verdict, found.detail, found.remedy)


def _orphans() -> Finding:
    subject = "orphans"
    orphan = trials.Orphan()
    reaper = orphan.reaper()
    name = "unknown"
    with contextlib.suppress(OSError):
        name = read_text(f"/proc/{reaper}/comm").strip()
    who = f"process {reaper} ({name})"
    if reaper == os.getpid():
        orphan.release()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan.pid, 0)
        detail = f"go to pyrun itself, {who}, which does not reap them"
    elif orphan.release():
        return Finding(subject, Verdict.OK, f"{who} reaps them")
    else:
        detail = (
            f"{who} does not reap them: zombies stay, and removing a Pod may have to wait for them in vain"
        )
    remedy = "run an init as PID 1 that reaps (systemd, tini, catatonit; docker run --init)"
    return Finding(subject, Verdict.LIMITED, detail, remedy)


def _skopeo() -> Finding:
    path = shutil.which("skopeo")
    if path is not None:
        return Finding("skopeo", Verdict.OK, path)
    detail = "not installed: images are loaded and imported, not pulled"
    return Finding("skopeo", Verdict.LIMITED, detail, "install it (Debian: apt-get install skopeo)")
