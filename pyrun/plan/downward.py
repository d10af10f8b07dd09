"""The downward API: what references in a container's environment to its Pod and its resources stand for.

Source: Kubernetes documentation "Downward API"; pkg/kubelet podFieldSelectorRuntimeValue and pkg/api/v1/resource.
"""

from __future__ import annotations

from pyrun.plan.host import HostFacts
from pyrun.spec.downward import ResourceReference, split_field_path
from pyrun.spec.effective import container_limits, filled
from pyrun.spec.pod import Container, Metadata, Pod, PodSpec
from pyrun.spec.resources import Capacity, ResourceList, amounts
from pyrun.spec.value import Value

_DEFAULT_ACCOUNT = "default"


class PodFacts(Value, frozen=True, kw_only=True):
    """What is only known once the Pod's sandbox is made.

    `address` is empty on the host's network, where the Pod's address is `host_address`: the one at which the host is
    reached from a Pod. `capacity` is the host's.
    """

    uid: str = ""
    address: str = ""
    node_name: str = ""
    host_address: str = ""
    capacity: Capacity = Capacity(cpu_millis=0, memory=0)


class PodFields(Value, frozen=True, kw_only=True):
    """What the containers of a Pod can be told."""

    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec(containers=())
    facts: PodFacts = PodFacts()

    def value(self, path: str) -> str:
        """Return what stands at a path of `FIELD_PATHS` or `MAP_PATHS`; a label that is not there is empty."""
        field, key = split_field_path(path)
        if key:
            return self._maps()[field].get(key, "")
        return self._texts()[field]

    def resource(self, container: Container, reference: ResourceReference) -> str:
        """Return a request or limit as `container` is told it: divided, and rounded up.

        A limit that is not set is the Pod's or the host's, a request that is not set is 0.
        """
        of = self.spec.container(reference.container) if reference.container else container
        kind, _, name = reference.resource.partition(".")
        given = of.resources.requests if kind == "requests" else self._limits(of)
        return str(-(-amounts(given).get(name, 0) // reference.divisor))

    def _limits(self, container: Container) -> ResourceList:
        capacity = self.facts.capacity
        host = ResourceList(
            cpu_millis=capacity.cpu_millis,
            memory=capacity.memory,
            ephemeral_storage=capacity.ephemeral_storage,
        )
        return filled(container_limits(self.spec, container), host)

    def _maps(self) -> dict[str, dict[str, str]]:
        return {"metadata.labels": self.metadata.labels, "metadata.annotations": self.metadata.annotations}

    def _texts(self) -> dict[str, str]:
        facts = self.facts
        address = facts.address or facts.host_address
        return {
            "metadata.name": self.metadata.name,
            "metadata.namespace": self.metadata.namespace,
            "metadata.uid": facts.uid,
            "spec.nodeName": facts.node_name,
            "spec.serviceAccountName": self.spec.service_account_name or _DEFAULT_ACCOUNT,
            "status.hostIP": facts.host_address,
            "status.hostIPs": facts.host_address,
            "status.podIP": address,
            "status.podIPs": address,
        }


def fields_of(pod: Pod, facts: PodFacts) -> PodFields:
    """Return what the containers of a Pod can be told."""
    return PodFields(metadata=pod.metadata, spec=pod.spec, facts=facts)


def planned_facts(pod: Pod, uid: str, host: HostFacts) -> PodFacts:
    """Return the facts of a Pod that is not made yet, with a named reference for the address it will get."""
    if pod.spec.host_network:
        return PodFacts(
            uid=uid,
            node_name=host.hostname,
            host_address="<address of the host>",
            capacity=host.capacity,
        )
    return PodFacts(
        uid=uid,
        capacity=host.capacity,
        address=f"<address from {host.network.subnet}>",
        node_name=host.hostname,
        host_address=host.network.gateway,
    )
