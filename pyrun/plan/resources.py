"""Resources as operations: what is written into the cgroups of a Pod, and what this host cannot give.

Requests make a Pod's share larger or smaller (whether they are free is asked at admission); limits are kept or refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyrun.cgroups.controllers import Setting, settings
from pyrun.cgroups.delegation import Owner, VacateCgroup
from pyrun.cgroups.group import CreateCgroup
from pyrun.cgroups.scope import EnsureScope
from pyrun.cgroups.setting import EnableControllers, SetCgroup
from pyrun.cgroups.tier import WeighTier
from pyrun.kernel.operation import Operation
from pyrun.plan.host import HostFacts
from pyrun.process.programs import location
from pyrun.security.oom import LOWEST, SetOomScore
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.container import ContainerConfig
from pyrun.spec.linux import INFRA_OOM_SCORE_ADJ, weight_of
from pyrun.spec.qos import QosClass
from pyrun.spec.sandbox import SandboxConfig

TIERS = {QosClass.GUARANTEED: "", QosClass.BURSTABLE: "burstable", QosClass.BEST_EFFORT: "besteffort"}
"""The groups that the Pods of a class share, below the prefix; as the kubelet's, Guaranteed ones have none."""

_NO_LIMITS = ("cpu.weight", "memory.low", "memory.oom.group")
_NO_SWAP = ("memory.swap.max", "0")  # of every container, asked for or not


class LeftOut(NamedTuple):
    """A limit that a host cannot give, and whose it is: `Pod`, or `container "NAME"`."""

    owner: str
    setting: Setting

    def __str__(self) -> str:
        return (
            f"{self.owner}: {self.setting.file} {self.setting.value} (controller {self.setting.controller})"
        )


def limits(resources: LinuxResources) -> tuple[Setting, ...]:
    """Return the settings that must not be left out silently."""
    return tuple(s for s in settings(resources) if s.file not in _NO_LIMITS and (s.file, s.value) != _NO_SWAP)


def left_out(
    sandbox: SandboxConfig, containers: Sequence[ContainerConfig], controllers: Sequence[str]
) -> tuple[LeftOut, ...]:
    """Return the limits of a Pod and its containers whose controllers are not there."""
    return lacking(sandbox.resources, [(c.name, c.resources) for c in containers], controllers)


def lacking(
    pod: LinuxResources, containers: Sequence[tuple[str, LinuxResources]], controllers: Sequence[str]
) -> tuple[LeftOut, ...]:
    """Return the same of the settings of a Pod's cgroup and of those of its containers, by their names."""
    owners = (("Pod", pod), *((f'container "{name}"', resources) for name, resources in containers))
    return tuple(
        LeftOut(owner, setting)
        for owner, resources in owners
        for setting in limits(resources)
        if setting.controller not in controllers
    )


def pod_group(config: SandboxConfig, host: HostFacts) -> str:
    """Return the path of a Pod's cgroup: in the tier of its class."""
    return f"{_prefix(host)}/{_name(config)}"


def make_group(config: SandboxConfig, host: HostFacts) -> tuple[Operation, ...]:
    """Return the operations that make a Pod's cgroup, before any process is in it.

    Controllers are enabled from the top down, and only after the group is there: as long as it is, nobody takes away
    what it shares with others.
    """
    group = pod_group(config, host)
    tier = group.rpartition("/")[0]
    prefix = _prefix(host)
    shared = (host.place.parent, *((prefix, tier) if tier != prefix else (prefix,)))
    return (
        *_delegate(config, host),
        CreateCgroup(prefix, _name(config)),
        *(_enable(above, config, host) for above in shared if host.controllers),
        *_weigh_tier(config, tier, host),
        *write_settings(group, config.resources, host),
        *((_enable(group, config, host),) if host.controllers else ()),
    )


def write_settings(group: str, resources: LinuxResources, host: HostFacts) -> tuple[SetCgroup, ...]:
    """Return the operations that write settings into a group: those whose controllers this host has."""
    return tuple(
        SetCgroup(group, setting.file, setting.value)
        for setting in settings(resources)
        if setting.controller in host.controllers
    )


def set_oom_score(wanted: int | None, host: HostFacts) -> tuple[SetOomScore, ...]:
    """Return the step that gives a process its OOM score, as near to what is wanted as may be written."""
    return () if wanted is None else (SetOomScore(wanted, max(wanted, host.oom_score_floor)),)


def infra_oom_score(together: bool, host: HostFacts) -> SetOomScore:
    """Return the step that keeps pause or a monitor from being killed in place of a container.

    `together`: an OOM kill takes all of the Pod at once (memory.oom.group), but for what has the lowest score of all.
    """
    wanted = LOWEST if together else INFRA_OOM_SCORE_ADJ
    return SetOomScore(wanted, max(wanted, host.oom_score_floor))


def _prefix(host: HostFacts) -> str:
    return host.layout.cgroup_prefix(host.place.parent)


def _name(config: SandboxConfig) -> str:
    return f"{TIERS[config.qos]}/{config.uid}".lstrip("/")


def _delegate(config: SandboxConfig, host: HostFacts) -> tuple[Operation, ...]:
    if host.place.owner is Owner.SYSTEMD:
        return (EnsureScope(host.place.parent, config.uid, location("pause")),)
    if host.place.owner is Owner.CONTAINER and host.controllers:
        return (VacateCgroup(host.place.parent),)
    return ()


def _enable(group: str, config: SandboxConfig, host: HostFacts) -> EnableControllers:
    """Those that limits need must come, the others are for what they count."""
    needed = tuple(name for name in host.controllers if name in config.controllers)
    return EnableControllers(group, needed, tuple(name for name in host.controllers if name not in needed))


def _weigh_tier(config: SandboxConfig, tier: str, host: HostFacts) -> tuple[Operation, ...]:
    if "cpu" not in host.controllers or config.qos is QosClass.GUARANTEED:
        return ()
    if config.qos is QosClass.BEST_EFFORT:
        return (SetCgroup(tier, "cpu.weight", str(weight_of(0))),)
    return (WeighTier(tier, config.uid, config.cpu_millis),)
