"""Pods as they are listed: the manifest with its status, as Kubernetes spells a Pod."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from pyrun.errors import StateError
from pyrun.lifecycle.display import display_status
from pyrun.manifest import dump_pod
from pyrun.runtime.clock import parse_rfc3339, rfc3339
from pyrun.runtime.pods import PodDirectory, name_of, pod_directories
from pyrun.runtime.status import pod_status
from pyrun.spec.layout import Layout
from pyrun.spec.pod import OwnerReference, Pod
from pyrun.spec.status import KubernetesValue, Phase, PodStatus


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
        spec=spec_as_text(record.desired),
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


def list_pods(layout: Layout, unreadable: Callable[[StateError], None]) -> tuple[PodView, ...]:
    """Return all whole Pods, oldest first.

    Of one whose records cannot be read `unreadable` is told, and it is listed by its name, in phase Unknown.
    """
    views = []
    for pod in pod_directories(layout):
        try:
            view = view_of(pod)
        except StateError as error:
            if not pod.complete:  # it was removed while we looked
                continue
            unreadable(error)
            view = _unknown(pod, error)
        if view is not None:
            views.append(view)
    return tuple(sorted(views, key=lambda view: view.metadata.creation_timestamp))


def _unknown(pod: PodDirectory, error: StateError) -> PodView:
    """Return what can be said of a Pod whose records cannot be read."""
    try:
        record = pod.record()
    except StateError:
        record = None
    if record is not None:
        space, name = record.pod.metadata.namespace, record.pod.metadata.name
        made, labels, spec = record.created_at, record.pod.metadata.labels, spec_as_text(record.pod)
    else:
        space, name = name_of(pod)
        made, labels, spec = rfc3339(os.stat(pod.complete_path).st_mtime_ns), {}, {"containers": []}
    return PodView(
        metadata=ViewMetadata(
            name=name, namespace=space, uid=pod.uid, creation_timestamp=made, labels=labels
        ),
        spec=spec,
        status=PodStatus(
            phase=Phase.UNKNOWN, reason="Unreadable", message=str(error), conditions=(), container_statuses=()
        ),
    )
