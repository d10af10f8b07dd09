"""Pods as they are listed: the manifest with its status, as Kubernetes spells a Pod."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pyrun.errors import StateError
from pyrun.lifecycle.display import display_status
from pyrun.manifest import dump_pod
from pyrun.runtime.clock import parse_rfc3339
from pyrun.runtime.pods import PodDirectory, pod_directories
from pyrun.runtime.status import pod_status
from pyrun.spec.layout import Layout
from pyrun.spec.pod import OwnerReference, Pod
from pyrun.spec.status import KubernetesValue, PodStatus


class OwnerView(KubernetesValue, frozen=True, kw_only=True):
    """What a Pod belongs to."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ViewMetadata(KubernetesValue, frozen=True, kw_only=True):
    """Metadata of a Pod that exists; `deletion_timestamp` is set once it was asked to go."""

    name: str
    namespace: str
    uid: str
    creation_timestamp: str
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerView, ...] = ()


class PodView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Pod with its status."""

    api_version: str = "v1"
    kind: str = "Pod"
    metadata: ViewMetadata
    spec: Any
    status: PodStatus

    def created(self) -> float:
        """When the Pod was made, in seconds since 1970."""
        return parse_rfc3339(self.metadata.creation_timestamp)

    def display_status(self) -> str:
        """The one word a person looks for, as kubectl forms it."""
        return display_status(self.status, bool(self.metadata.deletion_timestamp))


def view_of(pod: PodDirectory) -> PodView | None:
    """Return a Pod with its status, None while it is being made or removed."""
    record = pod.record()
    if record is None or not pod.complete:
        return None
    metadata, stop = record.pod.metadata, pod.stop()
    leaving = stop is not None and stop.remove
    return PodView(
        metadata=ViewMetadata(
            name=metadata.name,
            namespace=metadata.namespace,
            uid=record.uid,
            creation_timestamp=record.created_at,
            deletion_timestamp=stop.asked_at if stop is not None and leaving else "",
            deletion_grace_period_seconds=stop.grace_seconds if stop is not None and leaving else None,
            labels=metadata.labels,
            annotations=metadata.annotations,
            owner_references=tuple(owner_view(owner) for owner in metadata.owner_references),
        ),
        spec=spec_as_text(record.pod),
        status=pod_status(pod),
    )


def owner_view(owner: OwnerReference) -> OwnerView:
    """Return an owner as Kubernetes spells it."""
    return OwnerView(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.name,
        uid=owner.uid,
        controller=owner.controller,
        block_owner_deletion=owner.block_owner_deletion,
    )


def require_view(pod: PodDirectory) -> PodView:
    """Return a Pod with its status; StateError when it is half made."""
    view = view_of(pod)
    if view is None:
        raise StateError(
            f"Pod {pod.uid} is being made, or was left half made",
            hint=f"wait, or remove it: pyrun pod rm -f {pod.uid[:8]}",
        )
    return view


def spec_as_text(pod: Pod) -> Any:
    """Return the spec as Kubernetes spells it."""
    return dump_pod(pod)["spec"]


def list_pods(layout: Layout) -> tuple[PodView, ...]:
    """Return all whole Pods, oldest first. A Pod that cannot be read is an error that names it."""
    views = (whole_view(pod) for pod in pod_directories(layout))
    return oldest_first(view for view in views if view is not None)


def whole_view(pod: PodDirectory) -> PodView | None:
    """Return a Pod with its status, None when it is not whole (any more); StateError when it cannot be read."""
    try:
        return view_of(pod)
    except StateError:
        if not pod.complete:  # it was removed while we looked
            return None
        raise


def oldest_first(views: Iterable[PodView]) -> tuple[PodView, ...]:
    """Return Pods in the order in which they were made."""
    return tuple(sorted(views, key=lambda view: view.metadata.creation_timestamp))
