"""Everything known of one Pod: manifest, status, and what the kernel has of it."""

from __future__ import annotations

from typing import Any

import msgspec

from pyrun.cgroups import files
from pyrun.kernel.proc import ProcessIdentity
from pyrun.namespaces.table import Namespace, inode_of
from pyrun.plan.sandbox import MONITORS_LEAF, PAUSE_LEAF, container_leaf
from pyrun.runtime.pods import PodDirectory, require_sandbox
from pyrun.runtime.status import pod_status
from pyrun.runtime.view import PodView, require_view
from pyrun.state.records import ContainerRecord


class ProcessView(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a Pod: `namespaces` are inode numbers, `shared_with_host` those the host has too."""

    pid: int
    alive: bool
    cgroup: str
    processes: tuple[int, ...] = ()
    namespaces: dict[str, int] = {}
    shared_with_host: tuple[str, ...] = ()


class ContainerView(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a container: its processes, its files, and its configuration as it was planned."""

    name: str
    attempt: int
    init: ProcessView
    monitor: ProcessView
    log: str
    directory: str
    writable_layer: str
    config: Any


class Inspection(PodView, frozen=True, kw_only=True):
    """A Pod as `pod ls` shows it, with what lies below."""

    pause: ProcessView
    cgroup: str
    directory: str
    containers: tuple[ContainerView, ...]


def inspect_pod(pod: PodDirectory) -> Inspection:
    """Return everything known of a Pod. Raises StateError when it is half made."""
    view = require_view(pod)
    sandbox = require_sandbox(pod)
    facts = sandbox.facts
    return Inspection(
        metadata=view.metadata,
        spec=view.spec,
        status=pod_status(pod),
        pause=_process(sandbox.pause, f"{facts.cgroup}/{PAUSE_LEAF}"),
        cgroup=facts.cgroup,
        directory=pod.path,
        containers=tuple(
            _container(pod, facts.cgroup, record)
            for key in pod.attempts()
            if (record := pod.container(key)) is not None  # None: being made at this moment
        ),
    )


def _container(pod: PodDirectory, cgroup: str, record: ContainerRecord) -> ContainerView:
    name, attempt = record.config.name, record.attempt
    return ContainerView(
        name=name,
        attempt=attempt,
        init=_process(record.init, f"{cgroup}/{container_leaf(name)}"),
        monitor=_process(record.monitor, f"{cgroup}/{MONITORS_LEAF}"),
        log=f"{pod.layout.logs(pod.uid, name)}/{attempt}.log",
        directory=pod.container_directory((name, attempt)),
        writable_layer=f"{pod.layout.container_root(pod.uid, name, attempt)}/upper",
        config=record.config,
    )


def _process(identity: ProcessIdentity, cgroup: str) -> ProcessView:
    if not identity.alive():
        return ProcessView(pid=identity.pid, alive=False, cgroup=cgroup)
    try:
        inodes = {namespace.value: inode_of(identity.pid, namespace) for namespace in Namespace}
    except FileNotFoundError:  # it has ended this moment
        return ProcessView(pid=identity.pid, alive=False, cgroup=cgroup)
    host = {namespace.value: inode_of("self", namespace) for namespace in Namespace}
    return ProcessView(
        pid=identity.pid,
        alive=True,
        cgroup=cgroup,
        processes=files.processes(cgroup),
        namespaces=inodes,
        shared_with_host=tuple(name for name, inode in inodes.items() if host[name] == inode),
    )
