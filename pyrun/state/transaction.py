"""The transaction: applies a plan, journalling each operation before it; undoes it all when one fails.

Removing is undoing the journal; there is no other code path for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from pyrun.errors import OperationFailed, PyrunError
from pyrun.kernel.operation import Operation, Results
from pyrun.state.journal import Journal


def run(plan: Sequence[Operation], journal: Journal, results: Results, record: Callable[[], None]) -> None:
    """Apply a plan, let `record` write what was made, and commit.

    When an operation fails, or the user interrupts, everything is undone in reverse and the one error is
    raised, naming the operation; what could not be undone is added to it as a note, never put in its place.
    """
    try:
        for operation in plan:
            journal.begin(operation)
            apply(operation, results)
        record()
        journal.commit()
    except BaseException as error:
        try:
            undo(journal)
        except PyrunError as failure:
            error.add_note(failure.sentence())
        raise


def apply(operation: Operation, results: Results) -> None:
    """Apply one operation under the eyes of the observer. Raises OperationFailed for an error of the kernel."""
    results.observer.before(operation)
    began = time.monotonic()
    try:
        operation.apply(results)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or os.strerror(error.errno or 0)
        raise OperationFailed(operation.describe(), where + reason, errno=error.errno or 0) from error
    results.observer.after(operation, time.monotonic() - began)


def undo(journal: Journal) -> None:
    """Undo every operation of a journal, last first, and remove the journal.

    All are tried even if one fails; then the failures are raised as one PyrunError and the journal stays, so
    that the next attempt goes on where this one stopped.
    """
    failures: list[str] = []
    for entry in reversed(journal.read()):
        if entry.operation is None:
            continue
        try:
            entry.operation.undo()
        except (OSError, PyrunError) as error:
            failures.append(f"cannot undo {entry.operation.describe()}: {error}")
    if failures:
        raise PyrunError("; ".join(failures), hint="mend the cause and remove the Pod again: pyrun pod rm -f")
    journal.remove()
