"""Making a Pod whole, or not at all."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from pyrun.errors import ImageError, PyrunError, Unsupported
from pyrun.kernel.observer import Observer
from pyrun.kernel.operation import Operation, Results
from pyrun.kernel.proc import ProcessIdentity, boot_id
from pyrun.plan.container import plan_container, plan_start
from pyrun.plan.convert import container_of, image_from_directory, root_directory, sandbox_of
from pyrun.plan.downward import planned_facts
from pyrun.plan.host import HostFacts
from pyrun.plan.sandbox import plan_pod as plan_pod_files
from pyrun.plan.sandbox import plan_sandbox, sandbox_facts
from pyrun.runtime.clock import now, rfc3339
from pyrun.runtime.one import RunRequest, pod_of
from pyrun.runtime.pods import ContainerKey, PodDirectory, new_pod, require_pod
from pyrun.runtime.remove import recover, remove_locked, remove_pod
from pyrun.spec.capability import named_set
from pyrun.spec.container import ContainerConfig
from pyrun.spec.image import Image
from pyrun.spec.layout import Layout
from pyrun.spec.pod import Container, Pod, PullPolicy
from pyrun.spec.sandbox import SandboxConfig
from pyrun.state import transaction
from pyrun.state.files import write_atomically
from pyrun.state.records import ContainerRecord, PodRecord, SandboxRecord, write_record

if TYPE_CHECKING:
    from pyrun.images.store import ImageStore

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of generated names: Kubernetes' own, from which no word can be formed."""


ImageFinder = Callable[[Pod, Container], Image]
Created = Callable[[PodDirectory], None]


class PodPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All of a Pod that is known before the first effect."""

    pod: Pod
    uid: str
    sandbox: SandboxConfig
    containers: tuple[ContainerConfig, ...]
    facts: HostFacts

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

    def all_operations(self) -> tuple[Operation, ...]:
        """Every operation in the order of application."""
        return (
            *self.pod_operations(),
            *self.sandbox_operations(),
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
    """Return the plan of a Pod. `images` finds the image of a container."""
    return PodPlan(
        pod=pod,
        uid=uid,
        sandbox=sandbox_of(pod, uid),
        containers=tuple(
            container_of(pod, c, images(pod, c), uid, facts.layout, planned_facts(pod, uid, facts))
            for c in pod.spec.containers
        ),
        facts=facts,
    )


def stored_image(layout: Layout) -> ImageFinder:
    """Return a finder of images in the store of an instance, which pulls by the container's policy."""
    from pyrun.images.store import ImageStore

    store = ImageStore(layout.images)

    def find(pod: Pod, container: Container) -> Image:
        directory = root_directory(pod, container)
        if directory is not None:
            if not os.path.isdir(directory):
                raise ImageError(
                    f'container "{container.name}": root file system {directory} is not a directory',
                    hint="correct its rootfs.pyrun.io annotation",
                )
            return image_from_directory(directory)
        return _by_policy(store, container)

    return find


def _by_policy(store: ImageStore, container: Container) -> Image:
    """Find an image by the container's imagePullPolicy.

    Always asks the registry each time, but for an image that came from none: one that was loaded or imported
    here is what it is.
    """
    try:
        image = store.resolve(container.image)
    except ImageError as error:
        if container.image_pull_policy is PullPolicy.NEVER:
            raise ImageError(
                f'container "{container.name}": {error}, and its imagePullPolicy is Never', hint=error.hint
            ) from None
        return store.pull(container.image)
    if container.image_pull_policy is PullPolicy.ALWAYS and image.from_registry:
        return store.pull(container.image)
    return image


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
) -> PodDirectory:
    """Make a Pod and start its containers; when anything fails nothing of it is left.

    `created` is called when all containers have been created and none has been started.

    1. What earlier crashes left half made is undone.
    2. Name, images and rights are settled: input errors end here, before any effect.
    3. The sandbox is made. 4. Each container is created. 5. Each is started. 6. The Pod is marked complete.
    """
    recover(facts.layout)
    pod = named(pod)
    plan = plan_pod(pod, str(uuid.uuid4()), facts, images or stored_image(facts.layout))
    refuse_missing_capabilities(plan)
    directory = PodDirectory(facts.layout, plan.uid)
    with new_pod(directory):
        try:
            record = PodRecord(uid=plan.uid, pod=pod, created_at=now(), created_ns=time.monotonic_ns())
            write_record(f"{directory.path}/pod.json", record)
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
    for container in plan.pod.spec.containers:
        context = container.security_context
        asked = named_set(context.capabilities.add, context.capabilities.drop)
        missing = [name for name in asked if name not in plan.facts.capabilities]
        if missing and not context.privileged:
            raise Unsupported(
                f'container "{container.name}" asks for capabilities this host does not have: {", ".join(missing)}',
                hint="drop them, or give them to pyrun's own bounding set",
            )


def _make(plan: PodPlan, directory: PodDirectory, results: Results, created: Created | None) -> None:
    try:
        transaction.run(plan.pod_operations(), directory.pod_journal(), results, lambda: None)
        make_sandbox(plan, directory, results)
        for config in plan.containers:
            create_container(plan, config, directory, results)
        if created is not None:
            created(directory)
        for config in plan.containers:
            start_container(plan, config, directory, results)
        write_atomically(directory.complete_path, b"")
    finally:
        results.close()


def make_sandbox(plan: PodPlan, directory: PodDirectory, results: Results) -> None:
    """Run the transaction of the sandbox and record it."""

    def record() -> None:
        write_record(
            f"{directory.path}/sandbox.json",
            SandboxRecord(
                uid=plan.uid,
                facts=sandbox_facts(plan.sandbox, plan.facts),
                pause=_identity(results, "pause"),
                address=results.text("address") if results.has("address") else "",
                created_at=now(),
            ),
        )

    transaction.run(plan.sandbox_operations(), directory.sandbox_journal(), results, record)


def create_container(
    plan: PodPlan, config: ContainerConfig, directory: PodDirectory, results: Results, attempt: int = 0
) -> None:
    """Run the transaction of one attempt of a container and record it."""
    key: ContainerKey = (config.name, attempt)
    path = directory.container_directory(key)
    os.makedirs(path, mode=0o700)

    def record() -> None:
        write_record(
            f"{path}/container.json",
            ContainerRecord(
                config=config,
                attempt=attempt,
                init=_identity(results, config.name),
                monitor=_identity(results, f"{config.name}.monitor"),
                created_at=now(),
            ),
        )

    operations = plan.container_operations(config, attempt)
    transaction.run(operations, directory.container_journal(key), results, record)


def start_container(
    plan: PodPlan, config: ContainerConfig, directory: PodDirectory, results: Results, attempt: int = 0
) -> None:
    """Start a created container and record when."""
    key: ContainerKey = (config.name, attempt)

    def record() -> None:
        created = directory.container(key)
        assert created is not None
        started = rfc3339(results.number(f"{config.name}.started_at"))
        path = f"{directory.container_directory(key)}/container.json"
        write_record(path, msgspec.structs.replace(created, started_at=started))

    operations = plan.start_operations(config, attempt)
    transaction.run(operations, directory.container_journal(key), results, record)


def _identity(results: Results, name: str) -> ProcessIdentity:
    return ProcessIdentity(results.number(f"{name}.pid"), results.number(f"{name}.start_time"), boot_id())


def create_pods(
    pods: Sequence[Pod], facts: HostFacts, observer: Observer | None = None
) -> list[tuple[PodDirectory, Pod]]:
    """Make the Pods of one manifest; when one fails, those made before it are removed again."""
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
