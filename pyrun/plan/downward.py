"""The downward API: what field references in a container's environment stand for.

Source: Kubernetes documentation "Downward API"; pkg/kubelet podFieldSelectorRuntimeValue.
"""

from __future__ import annotations

from pyrun.plan.host import HostFacts
from pyrun.spec.downward import split_field_path
from pyrun.spec.pod import Metadata, Pod
from pyrun.spec.value import Value

_DEFAULT_ACCOUNT = "default"


class PodFacts(Value, frozen=True, kw_only=True):
    """What is only known once the Pod's sandbox is made.

    `address` is empty on the host's network, where the Pod's address is `host_address`: the one at which the host is
    reached from a Pod.
    """

    uid: str = ""
    address: str = ""
    node_name: str = ""
    host_address: str = ""


class PodFields(Value, frozen=True, kw_only=True):
    """The fields of a Pod that its containers can be told."""

    metadata: Metadata = Metadata()
    service_account_name: str = ""
    facts: PodFacts = PodFacts()

    def value(self, path: str) -> str:
        """Return what stands at a path of `FIELD_PATHS` or `MAP_PATHS`; a label that is not there is empty."""
        field, key = split_field_path(path)
        if key:
            return self._maps()[field].get(key, "")
        return self._texts()[field]

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
            "spec.serviceAccountName": self.service_account_name or _DEFAULT_ACCOUNT,
            "status.hostIP": facts.host_address,
            "status.hostIPs": facts.host_address,
            "status.podIP": address,
            "status.podIPs": address,
        }


def fields_of(pod: Pod, facts: PodFacts) -> PodFields:
    """Return the fields of a Pod."""
    return PodFields(metadata=pod.metadata, service_account_name=pod.spec.service_account_name, facts=facts)


def planned_facts(pod: Pod, uid: str, host: HostFacts) -> PodFacts:
    """Return the facts of a Pod that is not made yet, with a named reference for the address it will get."""
    if pod.spec.host_network:
        return PodFacts(uid=uid, node_name=host.hostname, host_address="<address of the host>")
    return PodFacts(
        uid=uid,
        address=f"<address from {host.network.subnet}>",
        node_name=host.hostname,
        host_address=host.network.gateway,
    )


def made_facts(uid: str, address: str, host: HostFacts) -> PodFacts:
    """Return the facts of a Pod whose sandbox was made; `address` is empty on the host's network."""
    return PodFacts(
        uid=uid,
        address=address,
        node_name=host.hostname,
        host_address=host.network.gateway if address else host.address,
    )
