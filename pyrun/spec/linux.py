"""From requests, limits and annotations to the settings of cgroups: the rules of the kubelet, pure.

Source: pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/kuberuntime and pkg/kubelet/qos of Kubernetes; the weight from
the table of crun and runc's libcontainer.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping

import msgspec

from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.effective import container_limits, containers_request, effective_limits, effective_request
from pyrun.spec.hugepages import kernel_page_size
from pyrun.spec.pod import Container, Pod, PodSpec, is_sidecar
from pyrun.spec.qos import QosClass, qos_class
from pyrun.spec.resources import Capacity, ResourceList, ResourceRequirements
from pyrun.spec.settings import settings_of

MIN_SHARES = 2
MAX_SHARES = 262144
CPU_PERIOD_US = 100_000
MIN_CPU_QUOTA_US = 1000
PAGE = 4096
"""Bytes of a page: a limit of memory is cut to whole pages by the kernel."""

INFRA_OOM_SCORE_ADJ = -998
"""Of what a Pod cannot do without: its pause process and the monitors of its containers."""
GUARANTEED_OOM_SCORE_ADJ = -997
BEST_EFFORT_OOM_SCORE_ADJ = 1000
MIN_BURSTABLE_OOM_SCORE_ADJ = 1000 + GUARANTEED_OOM_SCORE_ADJ
MAX_BURSTABLE_OOM_SCORE_ADJ = BEST_EFFORT_OOM_SCORE_ADJ - 1


def container_resources(pod: Pod, container: Container, capacity: Capacity) -> LinuxResources:
    """Return the settings of a container's cgroup, and the OOM score of its processes.

    A limit of the Pod as a whole is one of a container without its own, which sees it there. Without a setting of
    its own a container gets no swap, and the kernel kills all its processes or none.
    """
    requests, limits = container.resources.requests, container_limits(pod.spec, container)
    own = settings_of(pod.metadata.annotations, container.name)
    return msgspec.structs.replace(
        own,
        cpu_weight=weight_of(requests.cpu_millis or 0),
        cpu_quota_us=quota_of(limits.cpu_millis),
        cpu_period_us=None if limits.cpu_millis is None else CPU_PERIOD_US,
        memory_max=limits.memory,
        memory_low=requests.memory,
        swap_max=own.swap_max or 0,
        oom_group=own.oom_group is not False,
        hugetlb=(*own.hugetlb, *_hugetlb(container.resources.limits)),
        oom_score_adj=oom_score_adj(pod.spec, container, capacity),
    )


def pod_resources(pod: Pod) -> LinuxResources:
    """Return the settings of a Pod's own cgroup, which hold for all its containers together.

    A limit is one only where each container has it, or the Pod as a whole. What is protected of the memory of
    containers is protected here too, since the kernel gives to a cgroup only what the one above it has.
    """
    request, limits = effective_request(pod.spec), effective_limits(pod.spec)
    annotations = pod.metadata.annotations
    own = settings_of(annotations)
    minima = [settings_of(annotations, one.name).memory_min for one in pod.spec.all_containers()]
    return msgspec.structs.replace(
        own,
        cpu_weight=weight_of(request.cpu_millis or 0),
        cpu_quota_us=quota_of(limits.cpu_millis),
        cpu_period_us=None if limits.cpu_millis is None else CPU_PERIOD_US,
        memory_max=limits.memory,
        memory_low=request.memory,
        memory_min=max((own.memory_min or 0, sum(one or 0 for one in minima))) or None,
        hugetlb=(*own.hugetlb, *_hugetlb(limits)),
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
    score = _burstable_score(spec, container, capacity)
    if is_sidecar(spec, container):
        # It is not killed before the application container that asks for least.
        score = min(score, max(_burstable_score(spec, one, capacity) for one in spec.containers))
    return min(max(score, MIN_BURSTABLE_OOM_SCORE_ADJ), MAX_BURSTABLE_OOM_SCORE_ADJ)


def _burstable_score(spec: PodSpec, container: Container, capacity: Capacity) -> int:
    request = (container.resources.requests.memory or 0) + _memory_left(spec)
    return 1000 - 1000 * request // capacity.memory


def _memory_left(spec: PodSpec) -> int:
    """Return each container's part of what the Pod as a whole asks for beyond its containers."""
    if spec.resources is None or spec.resources.requests.memory is None:
        return 0
    left = spec.resources.requests.memory - (containers_request(spec).memory or 0)
    return left // len(spec.all_containers())


def _hugetlb(limits: ResourceList) -> tuple[tuple[str, int], ...]:
    return tuple((kernel_page_size(size), amount) for size, amount in limits.hugepages)


def quota_ratio(text: str) -> float:
    """Return the CPUs that a text of cpu.max (`QUOTA PERIOD`) allows; infinity for `max`."""
    quota, _, period = text.partition(" ")
    return math.inf if quota == "max" else int(quota) / int(period or CPU_PERIOD_US)


def actual_resources(
    applied: ResourceRequirements, effective: ResourceList, found: Mapping[str, str]
) -> ResourceRequirements:
    """Return the resources that a container really has: by what its cgroup's files say, where they are there.

    `applied` is what it was given last, `effective` are its limits, which may be those of the Pod. The kernel knows
    fewer values than Kubernetes: what it was given is told as long as the kernel's value is the one of that.
    """
    requests, limits = applied.requests, applied.limits
    cpu, memory = limits.cpu_millis, limits.memory
    asked, low = requests.cpu_millis, requests.memory
    if (text := found.get("cpu.max")) is not None:
        ratio, quota = quota_ratio(text), quota_of(effective.cpu_millis)
        if ratio != (math.inf if quota is None else quota / CPU_PERIOD_US):
            cpu = None if ratio == math.inf else round(ratio * 1000)
    if (text := found.get("cpu.weight")) is not None and weight_of(asked or 0) != int(text):
        asked = _millis_of(int(text))
    if (text := found.get("memory.max")) is not None and not _same_memory(text, effective.memory):
        memory = None if text == "max" else int(text)
    if (text := found.get("memory.low")) is not None and not _same_memory(text, low or 0):
        low = int(text) if text != "max" else low
    return ResourceRequirements(
        requests=msgspec.structs.replace(requests, cpu_millis=asked, memory=low),
        limits=msgspec.structs.replace(limits, cpu_millis=cpu, memory=memory),
    )


def _same_memory(text: str, amount: int | None) -> bool:
    if amount is None or text == "max":
        return amount is None and text == "max"
    return int(text) // PAGE == amount // PAGE


def _millis_of(weight: int) -> int | None:
    """Return the smallest request that has a weight; None for the least weight, which is that of no request."""
    found = bisect.bisect_left(range(MAX_SHARES), weight, key=weight_of)
    return found or None
