"""Whether a Pod uses more of the disk than it may: what was measured and its limits -> its eviction, or none.

Source: local storage eviction of the kubelet (pkg/kubelet/eviction), Kubernetes documentation "Local ephemeral
storage". Two things are other than there: the most precise cause speaks where several do, a container before the Pod
as a whole; and init containers count like all others.
"""

from __future__ import annotations

from pyrun.lifecycle.actions import TerminatePod
from pyrun.spec.effective import effective_limits
from pyrun.spec.pod import EmptyDir, PodSpec
from pyrun.spec.quantity import format_bytes
from pyrun.spec.value import Value

EVICTED = "Evicted"
GRACE_SECONDS = 1
"""The grace of an eviction, whatever the Pod's own is: for half a minute it could go on filling the disk."""
PERIOD_NS = 10 * 10**9
"""How long after one measuring the next one begins."""


class Usage(Value, frozen=True, kw_only=True):
    """What a Pod has on the disk, in bytes by name.

    Of a container its writable layers and its logs together; of volumes the emptyDirs that are no tmpfs.
    """

    containers: tuple[tuple[str, int], ...] = ()
    volumes: tuple[tuple[str, int], ...] = ()

    def total(self) -> int:
        """All of it together."""
        return sum(count for _, count in (*self.containers, *self.volumes))


def has_storage_limits(spec: PodSpec) -> bool:
    """Whether a Pod can be evicted for what it writes; if not, it need not be measured."""
    return bool(_container_limits(spec) or _volume_limits(spec))


def eviction(spec: PodSpec, usage: Usage) -> TerminatePod | None:
    """Return the end of a Pod that is over one of its limits; None when it keeps them all.

    Of an emptyDir its sizeLimit; of a container its limit of ephemeral-storage; of the Pod as a whole the sum of
    those, if every container has one. A limit of 0 is none.
    """
    message = _over_volume(spec, usage) or _over_container(spec, usage) or _over_all(spec, usage)
    if not message:
        return None
    return TerminatePod(grace_seconds=GRACE_SECONDS, reason=EVICTED, message=message)


def _over_volume(spec: PodSpec, usage: Usage) -> str:
    used = dict(usage.volumes)
    for name, limit in _volume_limits(spec).items():
        if used.get(name, 0) > limit:
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{format_bytes(limit)}". '
    return ""


def _over_container(spec: PodSpec, usage: Usage) -> str:
    used = dict(usage.containers)
    for name, limit in _container_limits(spec).items():
        if used.get(name, 0) > limit:
            return f'Container {name} exceeded its local ephemeral storage limit "{format_bytes(limit)}". '
    return ""


def _over_all(spec: PodSpec, usage: Usage) -> str:
    limit = effective_limits(spec).ephemeral_storage
    if limit is None or len(_container_limits(spec)) < len(spec.all_containers()) or usage.total() <= limit:
        return ""
    whole = format_bytes(limit)
    return f"Pod ephemeral local storage usage exceeds the total limit of containers {whole}. "


def _container_limits(spec: PodSpec) -> dict[str, int]:
    limits = ((c.name, c.resources.limits.ephemeral_storage) for c in spec.all_containers())
    return {name: limit for name, limit in limits if limit}


def _volume_limits(spec: PodSpec) -> dict[str, int]:
    return {
        volume.name: volume.source.size_limit
        for volume in spec.volumes
        if isinstance(volume.source, EmptyDir) and not volume.source.memory and volume.source.size_limit
    }
