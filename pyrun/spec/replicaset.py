"""ReplicaSet: a number of Pods that are alike.

Source: Kubernetes API reference, apps/v1 ReplicaSet.
"""

from __future__ import annotations

from pyrun.spec.pod import Metadata, PodSpec
from pyrun.spec.selector import Selector
from pyrun.spec.value import Value

API_VERSION = "apps/v1"
KIND = "ReplicaSet"


class PodTemplate(Value, frozen=True, kw_only=True):
    """What every replica is made from; its metadata has no name."""

    metadata: Metadata = Metadata()
    spec: PodSpec


class ReplicaSetSpec(Value, frozen=True, kw_only=True):
    """`min_ready_seconds`: how long a Pod must have been ready to count as available."""

    selector: Selector
    template: PodTemplate
    replicas: int = 1
    min_ready_seconds: int = 0


class ReplicaSet(Value, frozen=True, kw_only=True):
    """A ReplicaSet as a manifest describes it."""

    metadata: Metadata
    spec: ReplicaSetSpec
