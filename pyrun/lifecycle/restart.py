"""Whether and when a container that has ended runs again.

Source: Kubernetes concepts "Pod Lifecycle" (container restarts, restart policy, individual container restart
policy and rules) and "Sidecar Containers".
"""

from __future__ import annotations

import enum

from pyrun.lifecycle.eviction import has_storage_limits
from pyrun.lifecycle.observation import Attempt, Ended
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Container, Pod, PodSpec, RestartPolicy, RestartRule, RestartRuleAction, is_sidecar

_MAX_DOUBLINGS = 64


class RestartVerdict(enum.Enum):
    """What the end of a container asks for."""

    NO = "no"
    RESTART = "restart"
    RESTART_ALL = "restart all"


def ended_ns(attempt: Attempt) -> int:
    """When an ended attempt ended; when it began, if its end was lost with its monitor."""
    finished = attempt.ended.finished_ns if attempt.ended is not None else 0
    return finished or attempt.started_ns


def next_crashes(attempt: Attempt, settings: BackoffSettings) -> int:
    """How many ends in a row there are with that of this attempt: 1 when it ran for the reset time before."""
    ran = ended_ns(attempt) - attempt.started_ns if attempt.started_ns else 0
    return 1 if ran >= settings.reset_ns else attempt.crashes + 1


def backoff_ns(crashes: int, settings: BackoffSettings) -> int:
    """How long the restart after the `crashes`-th end in a row waits: not at all, then doubling to the maximum."""
    if crashes <= 1:
        return 0
    doublings = min(crashes - 2, _MAX_DOUBLINGS)
    return min(settings.initial_ns << doublings, settings.maximum_ns)


def is_regular_init(spec: PodSpec, container: Container) -> bool:
    """Whether a container must end well before the next one starts (an init container, not a sidecar)."""
    return container in spec.init_containers and not is_sidecar(spec, container)


def has_failed(spec: PodSpec, container: Container, ended: Ended) -> bool:
    """Whether it ended badly. In an init container, that the kernel killed a part of it for memory is enough."""
    return ended.exit_code != 0 or (is_regular_init(spec, container) and ended.oom_kills > 0)


def wants_restart(spec: PodSpec, container: Container, ended: Ended) -> RestartVerdict:
    """What the policies say to an end: the first restart rule that matches, else the container's policy (the
    Pod's without one). A sidecar always runs again; an init container that has succeeded never does.
    """
    failed = has_failed(spec, container, ended)
    init = is_regular_init(spec, container)
    if init and not failed:
        return RestartVerdict.NO
    for rule in container.restart_policy_rules:
        if _matches(rule, ended.exit_code):
            everything = rule.action is RestartRuleAction.RESTART_ALL_CONTAINERS
            return RestartVerdict.RESTART_ALL if everything else RestartVerdict.RESTART
    policy = container.restart_policy or spec.restart_policy
    wanted = policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and failed)
    return RestartVerdict.RESTART if wanted else RestartVerdict.NO


def _matches(rule: RestartRule, exit_code: int) -> bool:
    return (exit_code in rule.exit_codes) is not rule.negated


def needs_supervision(pod: Pod) -> bool:
    """Whether somebody must look after a Pod once its containers were started."""
    spec = pod.spec
    return (
        spec.restart_policy is not RestartPolicy.NEVER
        or bool(spec.init_containers)
        or spec.active_deadline_seconds is not None
        or bool(pod.metadata.owner_references)
        or has_storage_limits(spec)
        or any(_needs_supervision(container) for container in spec.containers)
    )


def _needs_supervision(container: Container) -> bool:
    probes = (container.startup_probe, container.readiness_probe, container.liveness_probe)
    return (
        any(probe is not None for probe in probes)
        or container.lifecycle.post_start is not None
        or container.restart_policy not in (None, RestartPolicy.NEVER)
        or bool(container.restart_policy_rules)
    )
