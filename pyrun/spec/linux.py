"""From requests, limits and annotations to the settings of cgroups: the rules of the kubelet, pure.

Source: pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/kuberuntime and pkg/kubelet/qos of Kubernetes; the weight from
the table of crun and runc's libcontainer.
"""

from __future__ import annotations

import math

from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.effective import effective_limits, effective_request
from pyrun.spec.pod import Container, Pod, PodSpec, is_sidecar
from pyrun.spec.qos import QosClass, qos_class
from pyrun.spec.resources import Capacity, ResourceList

MIN_SHARES = 2
MAX_SHARES = 262144
CPU_PERIOD_US = 100_000
MIN_CPU_QUOTA_US = 1000

INFRA_OOM_SCORE_ADJ = -998
"""Of what a Pod cannot do without: its pause process and the monitors of its containers."""
GUARANTEED_OOM_SCORE_ADJ = -997
BEST_EFFORT_OOM_SCORE_ADJ = 1000
MIN_BURSTABLE_OOM_SCORE_ADJ = 1000 + GUARANTEED_OOM_SCORE_ADJ
MAX_BURSTABLE_OOM_SCORE_ADJ = BEST_EFFORT_OOM_SCORE_ADJ - 1


def container_resources(pod: Pod, container: Container, capacity: Capacity) -> LinuxResources:
    """Return the settings of a container's cgroup, and the OOM score of its processes."""
    spec = pod.spec
    requests, limits = container.resources.requests, container.resources.limits
    return LinuxResources(
        cpu_weight=weight_of(requests.cpu_millis or 0),
        cpu_quota_us=quota_of(limits.cpu_millis),
        cpu_period_us=None if limits.cpu_millis is None else CPU_PERIOD_US,
        memory_max=limits.memory,
        memory_low=requests.memory,
        swap_max=0,
        oom_group=True,
        hugetlb=_hugetlb(limits),
        oom_score_adj=oom_score_adj(spec, container, capacity),
    )


def pod_resources(pod: Pod, capacity: Capacity) -> LinuxResources:
    """Return the settings of a Pod's own cgroup, which hold for all its containers together.

    A limit is one only where each container has it, or the Pod as a whole.
    """
    request, limits = effective_request(pod.spec), effective_limits(pod.spec)
    return LinuxResources(
        cpu_weight=weight_of(request.cpu_millis or 0),
        cpu_quota_us=quota_of(limits.cpu_millis),
        cpu_period_us=None if limits.cpu_millis is None else CPU_PERIOD_US,
        memory_max=limits.memory,
        memory_low=request.memory,
        hugetlb=_hugetlb(limits),
    )


def shares_of(cpu_millis: int) -> int:
    """Return the CPU shares (cgroup v1) of a request in thousandths of a CPU."""
    return min(MAX_SHARES, max(MIN_SHARES, cpu_millis * 1024 // 1000))


def weight_of(cpu_millis: int) -> int:
    """Return the cpu.weight of a request in thousandths of a CPU: 1000 is 100, nothing is the least, 1."""
    bits = math.log2(shares_of(cpu_millis))
    exact = 10 ** ((bits * bits + 125 * bits) / 612 - 7 / 34)
    # At 2, 1024 and 262144 shares the curve meets an integer, which the float misses by little.
    whole = round(exact)
    return whole if math.isclose(exact, whole, rel_tol=1e-12) else math.ceil(exact)


def quota_of(cpu_millis: int | None) -> int | None:
    """Return the CPU time, in microseconds of each period, that a limit allows; None without a limit."""
    if cpu_millis is None:
        return None
    return max(MIN_CPU_QUOTA_US, cpu_millis * CPU_PERIOD_US // 1000)


def oom_score_adj(spec: PodSpec, container: Container, capacity: Capacity) -> int:
    """Return the oom_score_adj of a container's processes: the more it asks for, the later it is killed."""
    qos = qos_class(spec)
    if qos is QosClass.GUARANTEED:
        return GUARANTEED_OOM_SCORE_ADJ
    if qos is QosClass.BEST_EFFORT:
        return BEST_EFFORT_OOM_SCORE_ADJ
    score = _burstable_score(container, capacity)
    if is_sidecar(spec, container):
        # It is not killed before the application container that asks for least.
        score = min(score, max(_burstable_score(one, capacity) for one in spec.containers))
    return min(max(score, MIN_BURSTABLE_OOM_SCORE_ADJ), MAX_BURSTABLE_OOM_SCORE_ADJ)


def _burstable_score(container: Container, capacity: Capacity) -> int:
    return 1000 - 1000 * (container.resources.requests.memory or 0) // capacity.memory


def hugepage_name(size: int) -> str:
    """Return a page size as the kernel spells it in the names of hugetlb files: 2097152 is `2MB`."""
    for unit, twos in (("GB", 30), ("MB", 20)):
        if size >= 2**twos:
            return f"{size >> twos}{unit}"
    return f"{size >> 10}KB"


def _hugetlb(limits: ResourceList) -> tuple[tuple[str, int], ...]:
    return tuple((hugepage_name(size), amount) for size, amount in limits.hugepages)
