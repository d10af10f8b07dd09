"""Making a Pod whole, or not at all."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence

import msgspec

from pyrun.cgroups.delegation import remedy
from pyrun.errors import ControllersMissing, PyrunError, Unsupported
from pyrun.kernel.observer import Observer
from pyrun.kernel.operation import Operation, Results
from pyrun.plan.container import plan_container, plan_start
from pyrun.plan.convert import sandbox_of
from pyrun.plan.downward import PodFacts, planned_facts
from pyrun.plan.host import HostFacts
from pyrun.plan.resources import LeftOut, left_out
from pyrun.plan.sandbox import plan_pod as plan_pod_files
from pyrun.plan.sandbox import plan_sandbox, sandbox_facts
from pyrun.runtime.admission import refuse, reserve, shortages
from pyrun.runtime.clock import now
from pyrun.runtime.images import ImageFinder, stored_image
from pyrun.runtime.making import (
    Site,
    announce_post_start,
    config_of,
    create_container,
    known_facts,
    make_sandbox,
    start_container,
)
from pyrun.runtime.one import RunRequest, pod_of
from pyrun.runtime.pods import PodDirectory, new_pod, require_pod
from pyrun.runtime.remove import recover, remove_locked, remove_pod
from pyrun.spec.annotations import takes_best_effort
from pyrun.spec.capability import named_set
from pyrun.spec.container import ContainerConfig
from pyrun.spec.effective import effective_request, sum_of
from pyrun.spec.image import Image
from pyrun.spec.pod import Container, Pod
from pyrun.spec.sandbox import SandboxConfig
from pyrun.state import transaction
from pyrun.state.files import write_atomically
from pyrun.state.records import PodRecord

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of generated names: Kubernetes' own, from which no word can be formed."""


Created = Callable[[PodDirectory], None]


class PodPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All of a Pod that is known before the first effect.

    `images` are those of all containers in their order. `known` is what containers may be told of their Pod; its
    address is known only when it has been leased, and until then a reference stands for it.
    """

    pod: Pod
    uid: str
    sandbox: SandboxConfig
    images: tuple[Image, ...]
    facts: HostFacts
    known: PodFacts

    @property
    def init_containers(self) -> tuple[ContainerConfig, ...]:
        """The init containers, sidecars among them."""
        return self._configs()[: len(self.pod.spec.init_containers)]

    @property
    def containers(self) -> tuple[ContainerConfig, ...]:
        """The application containers."""
        return self._configs()[len(self.pod.spec.init_containers) :]

    def _configs(self) -> tuple[ContainerConfig, ...]:
        pairs = zip(self.pod.spec.all_containers(), self.images, strict=True)
        return tuple(
            config_of(self.pod, container, image, self.known, self.facts) for container, image in pairs
        )

    def left_out(self) -> tuple[LeftOut, ...]:
        """The limits of the Pod and its containers that this host cannot give."""
        return left_out(self.sandbox, self._configs(), self.facts.controllers)

    def pod_operations(self) -> tuple[Operation, ...]:
        """The operations of what outlives a sandbox."""
        return plan_pod_files(self.sandbox, self.facts)

    def sandbox_operations(self) -> tuple[Operation, ...]:
        """The operations of the sandbox."""
        return plan_sandbox(self.sandbox, self.facts)

    def container_operations(self, config: ContainerConfig, attempt: int = 0) -> tuple[Operation, ...]:
        """The operations that create one container."""
        return plan_container(config, sandbox_facts(self.sandbox, self.facts), self.facts, attempt)

    def start_operations(self, config: ContainerConfig, attempt: int = 0) -> tuple[Operation, ...]:
        """The operation that starts one container."""
        return plan_start(config, sandbox_facts(self.sandbox, self.facts), attempt)

    def _run_operations(self, config: ContainerConfig) -> tuple[Operation, ...]:
        return (*self.container_operations(config), *self.start_operations(config))

    def all_operations(self) -> tuple[Operation, ...]:
        """Every operation in the order of application."""
        return (
            *self.pod_operations(),
            *self.sandbox_operations(),
            *(o for config in self.init_containers for o in self._run_operations(config)),
            *(o for config in self.containers for o in self.container_operations(config)),
            *(o for config in self.containers for o in self.start_operations(config)),
        )


def named(pod: Pod) -> Pod:
    """Return the Pod with a name: five random letters after `generateName` when it has none."""
    metadata = pod.metadata
    if metadata.name:
        return pod
    suffix = "".join(_SUFFIX[byte % len(_SUFFIX)] for byte in os.urandom(5))
    return msgspec.structs.replace(
        pod, metadata=msgspec.structs.replace(metadata, name=f"{metadata.generate_name[:58]}{suffix}")
    )


def plan_pod(pod: Pod, uid: str, facts: HostFacts, images: ImageFinder) -> PodPlan:
    """Return the plan of a Pod. `images` finds the image of a container.

    Raises ImageError, and InputError when neither a container nor its image names a program.
    """
    plan = PodPlan(
        pod=pod,
        uid=uid,
        sandbox=sandbox_of(pod, uid, facts.capacity),
        images=tuple(images(pod, container) for container in pod.spec.all_containers()),
        facts=facts,
        known=planned_facts(pod, uid, facts),
    )
    plan.all_operations()
    return plan


def create_one(
    request: RunRequest, user: str | None, facts: HostFacts, created: Created | None = None
) -> PodDirectory:
    """Make the Pod of a `run`; `user` takes the place of the image's, by name or number."""
    find = stored_image(facts.layout)

    def with_user(pod: Pod, container: Container) -> Image:
        image = find(pod, container)
        config = image.config if user is None else msgspec.structs.replace(image.config, user=user)
        return msgspec.structs.replace(image, config=config)

    return create_pod(pod_of(request), facts, images=with_user, created=created)


def create_pod(
    pod: Pod,
    facts: HostFacts,
    observer: Observer | None = None,
    *,
    images: ImageFinder | None = None,
    created: Created | None = None,
    uid: str | None = None,
) -> PodDirectory:
    """Make a Pod and start its containers; when anything fails nothing of it is left.

    `created` is called when all containers have been created and none has been started; `uid` is a new one when
    it is None. Of a Pod with init containers only the sandbox is made: its containers come one after the other,
    by `start_attempt`. A postStart hook is announced, and run by whoever supervises the Pod.

    1. What earlier crashes left half made is undone.
    2. Name, images and rights are settled: input errors end here, before any effect.
    3. The record is written, which reserves what the Pod requests; Unschedulable ends it here, before any other effect.
    4. The sandbox is made. 5. Each container is created. 6. Each is started. 7. The Pod is marked complete.
    (5 and 6 only without init containers.)
    """
    recover(facts.layout)
    pod = named(pod)
    plan = plan_pod(pod, uid or str(uuid.uuid4()), facts, images or stored_image(facts.layout))
    refuse_missing_capabilities(plan)
    refuse_missing_controllers(plan)
    directory = PodDirectory(facts.layout, plan.uid)
    with new_pod(directory):
        try:
            record = PodRecord(
                uid=plan.uid,
                pod=pod,
                created_at=now(),
                created_ns=time.monotonic_ns(),
                left_out=tuple(map(str, plan.left_out())),
            )
            reserve(directory, record, facts.capacity)
            _make(plan, directory, Results(observer), created)
        except BaseException as error:
            try:
                remove_locked(directory)
            except PyrunError as failure:  # told beside the first error, never instead of it
                error.add_note(failure.sentence())
            raise
    return directory


def refuse_missing_capabilities(plan: PodPlan) -> None:
    """Raise Unsupported when a container asks for a capability that this host cannot give.

    A privileged container asks for what there is, and is not refused.
    """
    for container in plan.pod.spec.all_containers():
        context = container.security_context
        asked = named_set(context.capabilities.add, context.capabilities.drop)
        missing = [name for name in asked if name not in plan.facts.capabilities]
        if missing and not context.privileged:
            raise Unsupported(
                f'container "{container.name}" asks for capabilities this host does not have: {", ".join(missing)}',
                hint="drop them, or give them to pyrun's own bounding set",
            )


def refuse_missing_controllers(plan: PodPlan) -> None:
    """Raise ControllersMissing when this host cannot give all limits, unless the Pod takes what it can get."""
    missing = plan.left_out()
    if not missing or takes_best_effort(plan.pod):
        return
    names = dict.fromkeys(one.setting.controller for one in missing)
    remedies = "; ".join(f"{name}: {remedy(plan.facts.place, name)}" for name in names)
    raise ControllersMissing(
        f'this host cannot give Pod "{plan.pod.metadata.name}" its limits: {"; ".join(map(str, missing))}',
        hint=f"{remedies}; or run it without them: --best-effort",
    )


def _make(plan: PodPlan, directory: PodDirectory, results: Results, created: Created | None) -> None:
    try:
        transaction.run(plan.pod_operations(), directory.pod_journal(), results, lambda: None)
        site = Site.of(directory, plan.facts, plan.sandbox, results)
        in_order = bool(plan.pod.spec.init_containers)
        address = make_sandbox(plan.sandbox, site, initialized=not in_order)
        if not in_order:
            known = known_facts(plan.uid, address, plan.facts)
            _make_containers(msgspec.structs.replace(plan, known=known), site, created)
        write_atomically(directory.complete_path, b"")
    finally:
        results.close()


def _make_containers(plan: PodPlan, site: Site, created: Created | None) -> None:
    configs = plan.containers
    for config in configs:
        create_container(config, site)
    if created is not None:
        created(site.pod)
    for container, config in zip(plan.pod.spec.containers, configs, strict=True):
        if container.lifecycle.post_start is not None:
            announce_post_start(site.pod, (config.name, 0))
        start_container(config, site)


def create_pods(
    pods: Sequence[Pod], facts: HostFacts, observer: Observer | None = None
) -> list[tuple[PodDirectory, Pod]]:
    """Make the Pods of one manifest; when one fails, those made before it are removed again.

    Raises Unschedulable before any effect when there is no room for all of them together.
    """
    counted = [pod for pod in pods if not takes_best_effort(pod)]
    if counted and len(pods) > 1:
        recover(facts.layout)
        together = sum_of(effective_request(pod.spec) for pod in counted)
        refuse(counted, shortages(together, facts.capacity, facts.layout), facts.layout)
    made: list[tuple[PodDirectory, Pod]] = []
    try:
        for pod in pods:
            directory = create_pod(pod, facts, observer)
            made.append((directory, require_pod(directory)))
    except BaseException:
        for directory, _ in reversed(made):
            remove_pod(directory, force=True)
        raise
    return made
