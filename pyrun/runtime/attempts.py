"""Attempts of containers: one is closed before the next one is made, so there are never two at once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from pyrun.cgroups import group
from pyrun.errors import Conflict, ImageError, InputError, ProgramError, PyrunError, Unsupported
from pyrun.kernel.operation import Results
from pyrun.kernel.proc import has_ended
from pyrun.lifecycle.observation import StartFailure
from pyrun.plan.container import plan_start
from pyrun.plan.host import HostFacts
from pyrun.plan.sandbox import container_leaf
from pyrun.process.container import wait_for_exit
from pyrun.rootfs.directories import remove_tree
from pyrun.runtime.clock import now
from pyrun.runtime.images import NeverPulled, NoRootDirectory, stored_image
from pyrun.runtime.making import (
    Site,
    announce_post_start,
    config_of,
    create_container,
    known_facts,
    record_start,
    start_container,
)
from pyrun.runtime.messages import message_limit, termination_message
from pyrun.runtime.observe import end_of
from pyrun.runtime.oom import write_report
from pyrun.runtime.pods import (
    ContainerKey,
    PodDirectory,
    pod_lock,
    refuse_stopped,
    require_pod,
    require_sandbox,
)
from pyrun.spec.image import Image
from pyrun.spec.pod import Container
from pyrun.state import transaction
from pyrun.state.files import list_directory
from pyrun.state.records import ClosedRecord, write_record

END_TIMEOUT = 5.0
"""Seconds for a killed attempt to be gone, and then for its monitor to record its end."""


def start_attempt(pod: PodDirectory, name: str, attempt: int, crashes: int, facts: HostFacts) -> None:
    """Bring an attempt of a container to run; one that runs already is no error.

    1. Its image is found by its policy, before the lock is taken: a pull may take minutes. 2. Earlier attempts
    are closed. 3. It is created. 4. It is started; one that a crash has left created is only started. 5. All but
    it and the previous one are pruned. `crashes` is recorded for the next backoff.

    When it cannot be made nothing of it is left, and the failure is recorded (see `StartFailure`) and raised.
    Raises Conflict when the Pod is being stopped, its sandbox is gone, or the attempt is over or out of turn.
    """
    key: ContainerKey = (name, attempt)
    container = require_pod(pod).spec.container(name)
    try:
        image = None if pod.container(key) else stored_image(facts.layout)(require_pod(pod), container)
    except PyrunError as error:
        with pod_lock(pod):
            _record_failure(pod, key, error)
        raise
    with pod_lock(pod), _site(pod, facts) as site:
        _refuse_out_of_turn(pod, key)
        container = require_pod(pod).spec.container(name)  # its resources may have changed meanwhile
        try:
            if image is not None and pod.container(key) is None:
                _close_earlier(pod, key)
                _run(site, container, image, key, crashes)
            else:
                _go_on(site, container, key)
            _prune(pod, key)
        except (PyrunError, OSError) as error:
            _record_failure(pod, key, error)
            _discard(pod, key, error)
            raise
        except BaseException as error:
            _discard(pod, key, error)
            raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pod.failure_path(name))


@contextmanager
def _site(pod: PodDirectory, facts: HostFacts) -> Iterator[Site]:
    """Give the place in which containers of a Pod are made. Raises Conflict when they must not be."""
    refuse_stopped(pod)
    sandbox = require_sandbox(pod)
    pause = sandbox.pause.open()
    results = Results()
    if pause is not None:
        results.put_fd("pause.pidfd", pause)
    try:
        if pause is None or has_ended(pause):
            raise Conflict(
                f"the sandbox of Pod {require_pod(pod).metadata.name} is gone",
                hint="the supervisor makes a new one",
            )
        yield Site(pod, facts, sandbox.facts, results)
    finally:
        results.close()


def _refuse_out_of_turn(pod: PodDirectory, key: ContainerKey) -> None:
    """Raise Conflict when an attempt is over already, or another one of its container is not."""
    name, attempt = key
    for other in pod.attempts():
        record = pod.container(other) if other[0] == name else None
        if record is None:
            continue
        over = pod.closed(other) is not None or end_of(pod, other, record, leaf_of(pod, name)) is not None
        if other == key and over:
            raise Conflict(f'attempt {attempt} of container "{name}" is over', hint="start the next one")
        if other != key and (not over or other[1] > attempt):
            raise Conflict(
                f'attempt {other[1]} of container "{name}" {"exists" if over else "is not over"}',
                hint=f"attempt {attempt} is not its turn",
            )


def leaf_of(pod: PodDirectory, name: str) -> str:
    """Return the cgroup of a container, the same for all of its attempts."""
    return f"{require_sandbox(pod).facts.cgroup}/{container_leaf(name)}"


def _close_earlier(pod: PodDirectory, key: ContainerKey) -> None:
    """Close what is before an attempt, and forget what is left half made of this one."""
    for other in pod.attempts():
        if other[0] == key[0]:
            close_attempt(pod, other)


def _prune(pod: PodDirectory, key: ContainerKey) -> None:
    """Forget all attempts but this one, which has just been made, and the one before it."""
    for other in pod.attempts():
        if other[0] == key[0] and other[1] < key[1] - 1:
            _forget(pod, other)


def _run(site: Site, container: Container, image: Image, key: ContainerKey, crashes: int) -> None:
    known = known_facts(site.pod.uid, require_sandbox(site.pod).address, site.facts)
    config = config_of(require_pod(site.pod), container, image, known, site.facts)
    create_container(config, site, key[1], crashes)
    _announce(site.pod, container, key)
    start_container(config, site, key[1])


def _go_on(site: Site, container: Container, key: ContainerKey) -> None:
    """Start an attempt that a crash has left created; if it was started, and only the record is missing, record it."""
    pod, created = site.pod, site.pod.container(key)
    if created is None:
        raise Conflict(f'attempt {key[1]} of container "{key[0]}" has been removed', hint="try again")
    if created.started_at:
        return
    began = time.monotonic_ns()
    _announce(pod, container, key)
    # Conflict: the gate is gone, it was opened by one who was killed before he could say so.
    with contextlib.suppress(Conflict):
        for operation in plan_start(created.config, site.sandbox, key[1]):
            operation.apply(site.results)
    record_start(pod, key, now(), began)


def _announce(pod: PodDirectory, container: Container, key: ContainerKey) -> None:
    if container.lifecycle.post_start is not None and pod.post_start(key) is None:
        announce_post_start(pod, key)


def _discard(pod: PodDirectory, key: ContainerKey, error: BaseException) -> None:
    """Leave nothing of an attempt that failed; what cannot be undone is told beside the error."""
    try:
        _forget(pod, key)
    except PyrunError as failure:
        error.add_note(failure.sentence())


def _forget(pod: PodDirectory, key: ContainerKey) -> None:
    """Undo an attempt, and remove its records and its log."""
    name, attempt = key
    transaction.undo(pod.container_journal(key))
    # Out of sight at once: who observes it file by file would miss its end and take its monitor for lost.
    hidden = f"{os.path.dirname(pod.container_directory(key))}/.{attempt}"
    remove_tree(hidden)
    with contextlib.suppress(FileNotFoundError):
        os.rename(pod.container_directory(key), hidden)
    remove_tree(hidden)
    logs = pod.layout.logs(pod.uid, name)
    for entry in list_directory(logs):
        if entry.startswith(f"{attempt}.log"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{logs}/{entry}")


def _record_failure(pod: PodDirectory, key: ContainerKey, error: PyrunError | OSError) -> None:
    """Record why an attempt could not be made; the caller holds the Pod's lock."""
    before = pod.failure(key[0])
    failure = StartFailure(
        reason=_reason(error, created=pod.container(key) is not None),
        message=error.sentence() if isinstance(error, PyrunError) else str(error),
        at_ns=time.monotonic_ns(),
        at=now(),
        count=1 if before is None else before.count + 1,
    )
    os.makedirs(os.path.dirname(pod.failure_path(key[0])), mode=0o700, exist_ok=True)
    write_record(pod.failure_path(key[0]), failure)


def _reason(error: Exception, *, created: bool) -> str:
    """Return the waiting reason of Kubernetes for an error."""
    if isinstance(error, NeverPulled):
        return "ErrImageNeverPull"
    if isinstance(error, ImageError) and not isinstance(error, NoRootDirectory):
        return "InvalidImageName" if isinstance(error, InputError) else "ErrImagePull"
    if created or isinstance(error, ProgramError):
        return "RunContainerError"
    if isinstance(error, NoRootDirectory | InputError | Unsupported):
        return "CreateContainerConfigError"
    return "CreateContainerError"


def close_attempt(pod: PodDirectory, key: ContainerKey) -> None:
    """End an attempt for good: kill it by its cgroup, keep what is to be told of it, undo its journal.

    The caller holds the Pod's lock. Closing a closed one, or one that is half made, is no error. Raises PyrunError
    when its processes do not go, or its monitor does not record its end.
    """
    record = pod.container(key)
    if record is None:
        _forget(pod, key)
        return
    if pod.closed(key) is None:
        leaf = leaf_of(pod, key[0])
        group.kill(leaf)
        if not group.wait_until_empty(leaf, END_TIMEOUT):
            raise PyrunError(
                f"cgroup {leaf} still holds processes {END_TIMEOUT:g} s after cgroup.kill",
                hint="look at their state with ps; one in D state waits for a device or a file server",
            )
        wait_for_exit(pod.container_directory(key), time.monotonic() + END_TIMEOUT)
        end = end_of(pod, key, record, leaf)
        if end is None:
            raise PyrunError(
                f'container "{key[0]}" has ended, but its monitor does not record it',
                hint=f"see what holds process {record.monitor.pid} up",
            )
        write_record(f"{pod.container_directory(key)}/closed.json", _last_words(pod, key, end.exit_code))
    transaction.undo(pod.container_journal(key))


def _last_words(pod: PodDirectory, key: ContainerKey, exit_code: int) -> ClosedRecord:
    spec = require_pod(pod).spec
    message = termination_message(pod, key, spec.container(key[0]), exit_code, message_limit(spec))
    kills = group.oom_kills(leaf_of(pod, key[0]))
    if kills:
        write_report(pod, key, kills)
    return ClosedRecord(oom_kills=kills, message=message)


def close_all(pod: PodDirectory) -> None:
    """Close every attempt of a Pod, all killed at once; the caller holds its lock. Raises like `close_attempt`."""
    keys = [key for key in pod.attempts() if pod.closed(key) is None]
    for name, _ in keys:
        group.kill(leaf_of(pod, name))
    for key in reversed(keys):
        close_attempt(pod, key)


def restart_all(pod: PodDirectory) -> None:
    """Kill all containers of a Pod without grace and without preStop, for all to run again from the first.

    Sandbox, address and volumes stay. Raises Conflict when the Pod is being stopped.
    """
    with pod_lock(pod):
        refuse_stopped(pod)
        close_all(pod)
        # Last: who is killed before has closed some attempts, and closing is repeated without harm.
        sandbox = msgspec.structs.replace(
            require_sandbox(pod), initialized=False, restarting=True, restarted_ns=time.monotonic_ns()
        )
        write_record(pod.sandbox_path, sandbox)


def mark_initialized(pod: PodDirectory) -> None:
    """Record that the init containers have come to their end in this sandbox; a restart of all is over then."""
    with pod_lock(pod):
        sandbox = msgspec.structs.replace(require_sandbox(pod), initialized=True, restarting=False)
        write_record(pod.sandbox_path, sandbox)
