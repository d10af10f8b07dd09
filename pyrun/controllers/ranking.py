"""Pods as a controller sees them, and which of them go first when there are too many.

Source: ActivePodsWithRanks in Kubernetes' pkg/controller/controller_utils.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyrun.spec.pod import OwnerReference
from pyrun.spec.status import Phase
from pyrun.spec.value import Value

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_INT32 = range(-(2**31), 2**31)
_PHASE_RANKS = {Phase.PENDING: 0, Phase.UNKNOWN: 1}
_RUNNING_RANK = 2


class PodSummary(Value, frozen=True, kw_only=True):
    """What a controller needs to know of a Pod; times in nanoseconds of CLOCK_MONOTONIC.

    `ready_since_ns` counts only while it is `ready`. `restarts` is the largest restart count of its containers.
    `terminating`: it is on its way out; one that was ended and stays is not.
    """

    uid: str
    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    phase: Phase = Phase.PENDING
    ready: bool = False
    ready_since_ns: int = 0
    restarts: int = 0
    created_ns: int = 0
    terminating: bool = False

    def finished(self) -> bool:
        """Whether all its containers have ended for good."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)

    def active(self) -> bool:
        """Whether it counts as a replica: not finished, not on its way out."""
        return not self.finished() and not self.terminating


def deletion_order(pods: Iterable[PodSummary], now_ns: int) -> list[PodSummary]:
    """Return active Pods, those that shall go first in front.

    Pending before unknown before running; not ready before ready; lower deletion cost; ready for less time; more
    restarts; newer. Times are compared by the power of two they lie in, so that a Pod does not go only because
    it is a little younger; what is left is decided by uid, which is to say by chance.

    Kubernetes leaves it to the uid as soon as two ready times differ within one power of two. Then the order is
    none: with equal times among unequal ones, a can go before b, b before c and c before a.
    """

    def rank(pod: PodSummary) -> tuple[int, bool, int, int, int, int, str]:
        return (
            _PHASE_RANKS.get(pod.phase, _RUNNING_RANK),
            pod.ready,
            deletion_cost(pod),
            _power(now_ns - pod.ready_since_ns) if pod.ready else 0,
            -pod.restarts,
            _power(now_ns - pod.created_ns),
            pod.uid,
        )

    return sorted(pods, key=rank)


def deletion_cost(pod: PodSummary) -> int:
    """The cost that its annotation says; 0 when there is none or it is no integer of 32 bits."""
    text = pod.annotations.get(DELETION_COST, "")
    if not re.fullmatch(r"0|-?[1-9][0-9]{0,9}", text):
        return 0
    return int(text) if int(text) in _INT32 else 0


def _power(age_ns: int) -> int:
    """The largest power of two that is not above an age, as its exponent; -1 for what is not in the past."""
    return age_ns.bit_length() - 1 if age_ns > 0 else -1
