"""A ReplicaSet: Kubernetes text -> `ReplicaSet`.

Source: pkg/apis/apps/validation of Kubernetes; a ReplicaSet's Pods all run on this one host.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyrun.manifest import names
from pyrun.manifest.annotations import annotations_fit
from pyrun.manifest.checks import check_pod
from pyrun.manifest.convert import check_version, read_metadata, read_pod_spec, required_child
from pyrun.manifest.probes import MAX_INT32
from pyrun.manifest.reader import Object, Problems
from pyrun.manifest.scalars import Value
from pyrun.manifest.schema import POD_TEMPLATE, REPLICA_SET
from pyrun.spec import annotations as own
from pyrun.spec import replicaset
from pyrun.spec.pod import Metadata, Pod, PodSpec, RestartPolicy
from pyrun.spec.replicaset import PodTemplate, ReplicaSet, ReplicaSetSpec
from pyrun.spec.selector import Operator, Requirement, Selector

_TEMPLATE = PodTemplate(spec=PodSpec(containers=()))
"""Stands for a template that is not there, which is a problem of its own."""


def read_replica_set(value: Value, path: str, problems: Problems) -> ReplicaSet:
    """Convert and check one ReplicaSet; it may only be used if `problems` has grown by nothing."""
    source = Object(REPLICA_SET, value, path, problems)
    check_version(source, replicaset.API_VERSION)
    metadata = required_child(source, "metadata")
    spec = required_child(source, "spec")
    found = ReplicaSet(
        metadata=read_metadata(metadata) if metadata else Metadata(),
        spec=_spec(spec) if spec else ReplicaSetSpec(selector=Selector(), template=_TEMPLATE),
    )
    annotations_fit(found.metadata, source)
    for key in filter(own.is_ours, found.metadata.annotations):
        source.complain(
            f"metadata.annotations[{key[:320]}]",
            "an annotation of pyrun's is one of Pods; give it in spec.template.metadata.annotations",
        )
    return found


def _spec(source: Object) -> ReplicaSetSpec:
    replicas = source.number("replicas", 0, MAX_INT32)
    replicas = 1 if replicas is None else replicas
    selector = _selector(source)
    template = required_child(source, "template")
    made = _template(template, selector) if template else _TEMPLATE
    if template is not None and replicas > 1:
        clash = f"{replicas} replicas would clash over this port of the one host"
        for place in _host_ports(source.raw("template"), made):
            template.complain(place, clash)
    return ReplicaSetSpec(
        selector=selector or Selector(),
        template=made,
        replicas=replicas,
        min_ready_seconds=source.number("minReadySeconds", 0, MAX_INT32) or 0,
    )


def _selector(source: Object) -> Selector | None:
    """Convert the selector of a spec; None when it has a problem, so that nothing is asked of it."""
    before = len(source.problems.found)
    given = required_child(source, "selector")
    if given is None:
        return None
    selector = Selector(
        match_labels=given.text_map("matchLabels", names.label_key, names.label_value),
        match_expressions=tuple(_requirement(item) for item in given.children("matchExpressions")),
    )
    sound = len(source.problems.found) == before
    if sound and not selector.match_labels and not selector.match_expressions:
        given.blame("must not be empty: it would match every Pod")
        return None
    return selector if sound else None


def _requirement(source: Object) -> Requirement:
    key = source.text("key", required=True, check=names.label_key)
    operator = source.member("operator", Operator, required=True)
    values = source.texts("values")
    for i, value in enumerate(values):
        wrong = names.label_value(value)
        if wrong:
            source.complain(f"values[{i}]", wrong)
    empty = source.raw("values") in (None, [])
    if operator in (Operator.IN, Operator.NOT_IN) and empty:
        source.complain("values", f"required with operator {operator.value}, at least one")
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and not empty:
        source.complain("values", f"not allowed with operator {operator.value}")
    return Requirement(key=key, operator=operator or Operator.EXISTS, values=values)


def _template(source: Object, selector: Selector | None) -> PodTemplate:
    metadata = source.child("metadata")
    spec = required_child(source, "spec")
    before = len(source.problems.found)
    labels = metadata.text_map("labels", names.label_key, names.label_value)
    sound = len(source.problems.found) == before
    if sound and selector is not None and not selector.matches(labels):
        metadata.complain("labels", "the selector of the ReplicaSet does not match them")
    template = PodTemplate(
        metadata=Metadata(labels=labels, annotations=metadata.text_map("annotations", names.annotation_key)),
        spec=read_pod_spec(spec) if spec else _TEMPLATE.spec,
    )
    policy = template.spec.restart_policy
    if policy is not RestartPolicy.ALWAYS:
        source.complain("spec.restartPolicy", f"must be Always in a ReplicaSet, got {policy.value}")
    if spec is not None and spec.has("activeDeadlineSeconds"):
        spec.complain("activeDeadlineSeconds", "not allowed in a ReplicaSet")
    check_pod(Pod(metadata=template.metadata, spec=template.spec), source)
    return template


def _host_ports(value: Value, template: PodTemplate) -> Iterator[str]:
    """Yield where a template (`value` is its text) asks for a port of the host.

    That is a hostPort, which is refused and not read; and on the host's network every port that is declared, as
    Kubernetes defaults it.
    """
    source = Object(POD_TEMPLATE, value, "", Problems())  # what is wrong with it has been told
    spec = source.child("spec")
    for field in ("initContainers", "containers"):
        for i, container in enumerate(spec.children(field)):
            for j, port in enumerate(container.children("ports")):
                if port.mentions("hostPort"):
                    yield f"spec.{field}[{i}].ports[{j}].hostPort"
                elif template.spec.host_network:
                    yield f"spec.{field}[{i}].ports[{j}].containerPort"
