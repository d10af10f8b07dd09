"""Freezing and thawing the containers of a Pod; pause and the monitors go on."""

from __future__ import annotations

from pyrun.cgroups import group
from pyrun.errors import Conflict
from pyrun.plan.sandbox import container_leaf
from pyrun.runtime.pods import PodDirectory, pod_lock, require_pod, require_sandbox
from pyrun.runtime.status import running_containers
from pyrun.runtime.stop import thaw_containers


def freeze_pod(pod: PodDirectory) -> None:
    """Freeze every running container of a Pod; all are frozen when it returns. Conflict when none runs."""
    with pod_lock(pod):
        sandbox = require_sandbox(pod)
        running = running_containers(pod)
        if not running:
            raise Conflict(
                f"no container of Pod {require_pod(pod).metadata.name} runs", hint="see pyrun pod ls"
            )
        for name in running:
            group.freeze(f"{sandbox.facts.cgroup}/{container_leaf(name)}")


def thaw_pod(pod: PodDirectory) -> None:
    """Let a frozen Pod go on; one that is not frozen is no error."""
    with pod_lock(pod):
        thaw_containers(pod, require_sandbox(pod))
