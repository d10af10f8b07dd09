"""What a controller has begun and not seen the end of: kept by the caller from one decision to the next.

Kubernetes calls this expectations: because of them a view that is behind never leads to a second creation.
Nothing of it is written down; a supervisor that starts again has begun nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pyrun.spec.value import Value

FIRST_DELAY_NS = 1_000_000_000
LONGEST_DELAY_NS = 60_000_000_000


class Backoff(Value, frozen=True, kw_only=True):
    """Failures in a row, what the last one said, and when the next attempt may be made."""

    failures: int = 0
    message: str = ""
    not_before_ns: int = 0

    def failed(self, message: str, now_ns: int) -> Backoff:
        """One more failure: 1 s until the next attempt, doubling to 60 s."""
        delay = min(FIRST_DELAY_NS << min(self.failures, 16), LONGEST_DELAY_NS)
        return Backoff(failures=self.failures + 1, message=message, not_before_ns=now_ns + delay)


class Work(Value, frozen=True, kw_only=True):
    """The creations and deletions of one ReplicaSet that are in flight.

    `creating` are names of Pods, `deleting` uids. An entry leaves (by one of the methods below) when its worker
    has ended *and* the next view was taken after that. `batch` is the size of the last batch of the round of
    creations that is going on, 0 between rounds; `missing` is what was missing when it was begun. `generation`
    is the one of the set that the round is for.
    """

    creating: frozenset[str] = frozenset()
    deleting: frozenset[str] = frozenset()
    batch: int = 0
    missing: int = 0
    generation: int = 0
    creation: Backoff = Backoff()
    deletion: Backoff = Backoff()

    def begun(self, names: Iterable[str]) -> Work:
        """The creations that a decision asked for were begun, under these names."""
        return msgspec.structs.replace(self, creating=self.creating | frozenset(names))

    def created(self, name: str) -> Work:
        """A creation has succeeded."""
        return msgspec.structs.replace(self, creating=self.creating - {name})

    def create_failed(self, name: str, message: str, now_ns: int) -> Work:
        """A creation has failed: the round is over. Others of its batch that fail as well count as one."""
        rest = self.creating - {name}
        if self.batch == 0:
            again = msgspec.structs.replace(self.creation, message=message)
        else:
            again = self.creation.failed(message, now_ns)
        return msgspec.structs.replace(self, creating=rest, batch=0, creation=again)

    def deleted(self, uid: str) -> Work:
        """A deletion has succeeded."""
        return msgspec.structs.replace(self, deleting=self.deleting - {uid})

    def delete_failed(self, uid: str, message: str, now_ns: int) -> Work:
        """A deletion has failed; those that fail before the next attempt count as one."""
        if now_ns < self.deletion.not_before_ns:
            again = msgspec.structs.replace(self.deletion, message=message)
        else:
            again = self.deletion.failed(message, now_ns)
        return msgspec.structs.replace(self, deleting=self.deleting - {uid}, deletion=again)
