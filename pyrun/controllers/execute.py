"""From what was decided about a Pod to the verbs that do it; runs in a worker."""

from __future__ import annotations

from pyrun.errors import Busy, Conflict, NotFound, PyrunError, StateError
from pyrun.lifecycle.actions import (
    Action,
    CloseSandbox,
    MarkInitialized,
    RebuildSandbox,
    ResizePod,
    RestartAllContainers,
    RunPostStart,
    StartContainer,
    StopContainer,
    TerminatePod,
)
from pyrun.lifecycle.resize import Resources
from pyrun.plan.host import HostFacts
from pyrun.runtime.attempts import mark_initialized, restart_all, start_attempt
from pyrun.runtime.hooks import run_post_start
from pyrun.runtime.pods import PodDirectory, require_pod
from pyrun.runtime.resize import Resized, continue_resize, resize_pod
from pyrun.runtime.sandboxes import rebuild_sandbox
from pyrun.runtime.stop import request_container_stop, request_stop
from pyrun.runtime.terminate import HookFailure, close_sandbox, stop_attempt, terminate_pod
from pyrun.state.events import EventLog, Reason, about_pod, happened

SOURCE = "supervisor"


class Jobs:
    """Carries out actions on one Pod, in order; the first that fails ends the row, and the Pod is looked at anew."""

    def __init__(self, facts: HostFacts, directory: PodDirectory) -> None:
        self._facts = facts
        self._directory = directory

    def run(self, actions: tuple[Action, ...]) -> None:
        """Carry out actions. Raises what the verbs raise.

        One container that cannot be started does not keep the others from it: that is told and in its record, so
        it is decided about anew after its back-off. What is not its own failure (the Pod is being stopped, or
        locked) or could not be recorded ends the row.
        """
        for action in actions:
            try:
                self._one(action)
            except (Conflict, NotFound, Busy, StateError):
                raise
            except PyrunError as error:
                if not isinstance(action, StartContainer):
                    raise
                self._tell(action.container, Reason.FAILED, error.sentence())

    def _one(self, action: Action) -> None:
        directory, facts = self._directory, self._facts
        match action:
            case StartContainer():
                start_attempt(directory, action.container, action.attempt, action.crashes, facts)
                text = f"Started container {action.container} (attempt {action.attempt})"
                self._tell(
                    action.container, Reason.STARTED, f"{text}: {action.message}" if action.message else text
                )
            case RunPostStart():
                result = run_post_start(directory, (action.container, action.attempt), facts)
                if not result.ok:
                    self._tell(action.container, Reason.FAILED_POST_START, result.message)
            case StopContainer():
                key = (action.container, action.attempt)
                if directory.container_stop(key) is None:
                    self._tell(action.container, Reason.KILLING, action.message)
                request_container_stop(directory, key, action.grace_seconds, action.reason, action.message)
                self._hooks(stop_attempt(directory, key, facts))
            case RebuildSandbox():
                self._tell("", Reason.SANDBOX_CHANGED, action.message)
                rebuild_sandbox(directory, facts)
            case RestartAllContainers():
                self._tell(action.container, Reason.RESTART_ALL, action.message)
                restart_all(directory)
            case MarkInitialized():
                mark_initialized(directory)
            case ResizePod():
                self.go_on_resizing()
            case TerminatePod():
                if directory.stop() is None:
                    self._tell("", Reason(action.reason), action.message)
                    request_stop(directory, action.grace_seconds, action.reason, action.message, remove=False)
                self._hooks(terminate_pod(directory, facts))
            case CloseSandbox():
                self._hooks(close_sandbox(directory, facts))

    def resize(self, wanted: Resources, generation: int) -> None:
        """Give the Pod the resources that a generation of its object has. Raises like `resize_pod`."""
        self._tell_resize(resize_pod(self._directory, wanted, self._facts, generation=generation))

    def go_on_resizing(self) -> None:
        """Go on with a resize, one that was deferred too. Raises like `continue_resize`."""
        self._tell_resize(continue_resize(self._directory, self._facts))

    def _tell_resize(self, resized: Resized) -> None:
        """Record what is new of a resize."""
        for told in resized.told:
            self._tell(told.container, told.reason, told.message)

    def _hooks(self, failures: tuple[HookFailure, ...]) -> None:
        for failure in failures:
            self._tell(failure.container, Reason.FAILED_PRE_STOP, failure.message)

    def _tell(self, container: str, reason: Reason, message: str) -> None:
        about = about_pod(self._directory.uid, require_pod(self._directory), container)
        EventLog(self._facts.layout.root).append(happened(about, reason, message, SOURCE))
