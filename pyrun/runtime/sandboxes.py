"""A new sandbox for a Pod whose pause process has died: what outlives a sandbox stays as it is."""

from __future__ import annotations

from pyrun.kernel.operation import Results
from pyrun.plan.convert import sandbox_of
from pyrun.plan.host import HostFacts
from pyrun.runtime.attempts import close_all
from pyrun.runtime.making import Site, make_sandbox
from pyrun.runtime.pods import PodDirectory, pod_lock, refuse_stopped, require_pod, require_sandbox
from pyrun.state import transaction


def rebuild_sandbox(pod: PodDirectory, facts: HostFacts) -> None:
    """Give a Pod a new sandbox when its pause process has died; while that lives, nothing is done.

    1. What is left of its containers is ended, and their attempts are closed. 2. The old sandbox is undone. 3. A
    new one is made; init containers are to run again in it. Name, uid, volumes on disk, records and logs stay,
    the address may be another. Raises Conflict when the Pod is being stopped; when making it fails, the next
    call begins again.
    """
    with pod_lock(pod):
        refuse_stopped(pod)
        old = require_sandbox(pod)
        if old.pause.alive():
            return
        close_all(pod)
        transaction.undo(pod.sandbox_journal())
        manifest = require_pod(pod)
        config = sandbox_of(manifest, pod.uid, facts.capacity)
        results = Results()
        try:
            site = Site.of(pod, facts, config, results)
            make_sandbox(config, site, old.attempt + 1, initialized=not manifest.spec.init_containers)
        finally:
            results.close()
