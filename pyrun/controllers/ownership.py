"""Which Pods belong to a ReplicaSet: made from its template, adopted, released.

Source: ControllerRefManager in Kubernetes' pkg/controller; "ReplicaSet" in its concepts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from pyrun.controllers.ranking import PodSummary
from pyrun.errors import Conflict
from pyrun.spec.pod import Metadata, OwnerReference, Pod
from pyrun.spec.replicaset import API_VERSION, KIND, ReplicaSet


class Claims(NamedTuple):
    """The Pods of a set, those among them that are not yet its own, and those that were."""

    owned: tuple[PodSummary, ...]
    adopt: tuple[str, ...]
    release: tuple[str, ...]


def claim(replica_set: ReplicaSet, uid: str, pods: Iterable[PodSummary]) -> Claims:
    """Return what belongs to a set that stays.

    A Pod of its namespace that matches, has no controller and is active is adopted. One of its own whose labels
    do not match any more is released, and left alone even when it has failed: it was set aside to be looked at.
    """
    owned: list[PodSummary] = []
    adopt: list[str] = []
    release: list[str] = []
    for pod in pods:
        if pod.namespace != replica_set.metadata.namespace:
            continue
        controller = controller_of(pod.owner_references)
        matches = replica_set.spec.selector.matches(pod.labels)
        if controller is None and matches and pod.active():
            adopt.append(pod.uid)
            owned.append(pod)
        elif controller is not None and controller.uid == uid:
            if matches or pod.terminating:
                owned.append(pod)
            else:
                release.append(pod.uid)
    return Claims(tuple(owned), tuple(adopt), tuple(release))


def controller_of(references: Iterable[OwnerReference]) -> OwnerReference | None:
    """The one owner that is the controller, if any."""
    return next((reference for reference in references if reference.controller), None)


def pod_from_template(replica_set: ReplicaSet, uid: str) -> Pod:
    """Return the next replica of the set of this uid; its name is yet to be generated."""
    template = replica_set.spec.template
    return Pod(
        metadata=Metadata(
            generate_name=f"{replica_set.metadata.name}-",
            namespace=replica_set.metadata.namespace,
            labels=template.metadata.labels,
            annotations=template.metadata.annotations,
            owner_references=(owner_reference(replica_set, uid),),
        ),
        spec=template.spec,
    )


def owner_reference(replica_set: ReplicaSet, uid: str) -> OwnerReference:
    """Return what a Pod of the set of this uid says of it."""
    return OwnerReference(
        api_version=API_VERSION,
        kind=KIND,
        name=replica_set.metadata.name,
        uid=uid,
        controller=True,
        block_owner_deletion=True,
    )


def adopted(metadata: Metadata, reference: OwnerReference) -> Metadata:
    """Return the metadata of a Pod with a controller; the same when it is that one's.

    Raises Conflict when it has another by now.
    """
    controller = controller_of(metadata.owner_references)
    if controller is None:
        references = (*metadata.owner_references, reference)
        return msgspec.structs.replace(metadata, owner_references=references)
    if controller.uid == reference.uid:
        return metadata
    raise Conflict(
        f'Pod "{metadata.name}" belongs to {controller.kind} "{controller.name}" by now',
        hint="give the two selectors that do not overlap",
    )


def released(metadata: Metadata, uid: str) -> Metadata:
    """Return the metadata of a Pod without the owner of a uid."""
    kept = tuple(reference for reference in metadata.owner_references if reference.uid != uid)
    return msgspec.structs.replace(metadata, owner_references=kept)
