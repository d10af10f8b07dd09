"""The transactions that a Pod is made of: its sandbox, the creation of one container, its start."""

from __future__ import annotations

import os
import time

import msgspec

from pyrun.kernel.operation import Results
from pyrun.kernel.proc import ProcessIdentity, boot_id
from pyrun.lifecycle.observation import HookState
from pyrun.plan.container import plan_container, plan_start
from pyrun.plan.convert import container_of
from pyrun.plan.downward import PodFacts
from pyrun.plan.host import HostFacts
from pyrun.plan.sandbox import plan_sandbox, sandbox_facts
from pyrun.runtime.clock import now, rfc3339
from pyrun.runtime.pods import ContainerKey, PodDirectory, require_pod
from pyrun.spec.container import ContainerConfig
from pyrun.spec.image import Image
from pyrun.spec.linux import container_resources
from pyrun.spec.pod import Container, Pod
from pyrun.spec.sandbox import SandboxConfig, SandboxFacts
from pyrun.state import transaction
from pyrun.state.records import ContainerRecord, HookRecord, SandboxRecord, write_record


class Site(msgspec.Struct, frozen=True):
    """Where something of a Pod is made. The caller holds the Pod's lock and closes `results`.

    Containers need the result `pause.pidfd`, which `make_sandbox` leaves there.
    """

    pod: PodDirectory
    facts: HostFacts
    sandbox: SandboxFacts
    results: Results

    @classmethod
    def of(cls, pod: PodDirectory, facts: HostFacts, config: SandboxConfig, results: Results) -> Site:
        """Return the site of a sandbox, which need not have been made yet."""
        return cls(pod, facts, sandbox_facts(config, facts), results)


def config_of(
    pod: Pod, container: Container, image: Image, known: PodFacts, facts: HostFacts
) -> ContainerConfig:
    """Return the configuration of a container, which may be told what is `known` of its Pod.

    Raises InputError when neither container nor image names a program.
    """
    config = container_of(pod, container, image, known.uid, facts.layout, known)
    return msgspec.structs.replace(config, resources=container_resources(pod, container, facts.capacity))


def known_facts(uid: str, address: str, facts: HostFacts) -> PodFacts:
    """Return what containers may be told of a Pod whose sandbox is made; no address on the host's network."""
    host_address = facts.network.gateway if address else facts.address
    return PodFacts(
        uid=uid,
        address=address,
        node_name=facts.hostname,
        host_address=host_address,
        capacity=facts.capacity,
    )


def make_sandbox(config: SandboxConfig, site: Site, attempt: int = 0, *, initialized: bool = False) -> str:
    """Run the transaction of a sandbox, record it, and return its address (empty on the host's network)."""
    results = site.results

    def address() -> str:
        return results.text("address") if results.has("address") else ""

    def record() -> None:
        made = SandboxRecord(
            uid=config.uid,
            facts=site.sandbox,
            pause=_identity(results, "pause"),
            address=address(),
            created_at=now(),
            created_ns=time.monotonic_ns(),
            attempt=attempt,
            initialized=initialized,
        )
        write_record(site.pod.sandbox_path, made)

    transaction.run(plan_sandbox(config, site.facts), site.pod.sandbox_journal(), results, record)
    return address()


def create_container(config: ContainerConfig, site: Site, attempt: int = 0, crashes: int = 0) -> None:
    """Run the transaction of one attempt of a container and record it."""
    key: ContainerKey = (config.name, attempt)
    path = site.pod.container_directory(key)
    os.makedirs(path, mode=0o700)

    def record() -> None:
        made = ContainerRecord(
            config=config,
            attempt=attempt,
            init=_identity(site.results, config.name),
            monitor=_identity(site.results, f"{config.name}.monitor"),
            created_at=now(),
            crashes=crashes,
            applied=require_pod(site.pod).spec.container(config.name).resources,
        )
        write_record(f"{path}/container.json", made)

    operations = plan_container(config, site.sandbox, site.facts, attempt)
    transaction.run(operations, site.pod.container_journal(key), site.results, record)


def start_container(config: ContainerConfig, site: Site, attempt: int = 0) -> None:
    """Start a created container and record when."""
    key: ContainerKey = (config.name, attempt)
    began = time.monotonic_ns()  # before: the program may have ended before its start is recorded

    def record() -> None:
        record_start(site.pod, key, rfc3339(site.results.number(f"{config.name}.started_at")), began)

    operations = plan_start(config, site.sandbox, attempt)
    transaction.run(operations, site.pod.container_journal(key), site.results, record)


def record_start(pod: PodDirectory, key: ContainerKey, started_at: str, started_ns: int) -> None:
    """Record since when the program of a container runs: RFC 3339 and CLOCK_MONOTONIC."""
    created = pod.container(key)
    assert created is not None
    started = msgspec.structs.replace(created, started_at=started_at, started_ns=started_ns)
    write_record(f"{pod.container_directory(key)}/container.json", started)


def announce_post_start(pod: PodDirectory, key: ContainerKey) -> None:
    """Record, before a container is started, that its postStart hook is to be run."""
    record = HookRecord(state=HookState.PENDING)
    write_record(f"{pod.container_directory(key)}/post_start.json", record)


def _identity(results: Results, name: str) -> ProcessIdentity:
    return ProcessIdentity(results.number(f"{name}.pid"), results.number(f"{name}.start_time"), boot_id())
