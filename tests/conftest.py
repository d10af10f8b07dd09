"""Shared by all tests: the namespaces that play the host, and capability words.

Before any test runs, this process leaves the machine's network for a new namespace without an uplink; every
process a test starts inherits it. So no packet of a test can leave the machine. It leaves the machine's mounts
too, for a copy in which nobody else mounts and whose mounts are shared, as systemd makes them: what would leak
into the mount table of an ordinary host leaks into this one.
"""

from __future__ import annotations

import os

import pytest

from tests.probes import PROBES

MS_SHARED = 1 << 20


def pytest_configure(config: pytest.Config) -> None:
    """Leave the machine's network and mounts, where that is possible."""
    if os.environ.get("PYRUN_TEST_OWN_NETWORK") != "1":
        try:
            from pyrun.kernel import syscalls
            from pyrun.kernel.operation import Results
            from pyrun.network.loopback import LoopbackUp

            syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
            for propagation in (syscalls.MS_PRIVATE, MS_SHARED):
                syscalls.mount_setattr(syscalls.AT_FDCWD, "/", syscalls.AT_RECURSIVE, propagation=propagation)
            LoopbackUp().apply(Results())
        except PermissionError:
            config.stash[_NO_NETWORK] = "namespaces cannot be made (not root)"


_NO_NETWORK = pytest.StashKey[str]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the machine cannot do, with the reason; an unknown word is an error of the test.

    With PYRUN_MUST_WORK=1 a skip becomes a failure, so that a run cannot be green by skipping.
    """
    words = [word for marker in item.iter_markers("requires") for word in marker.args]
    if words and (reason := item.config.stash.get(_NO_NETWORK, None)):
        pytest.skip(reason)
    for word in words:
        if word not in PROBES:
            pytest.fail(f"unknown word {word!r} in @pytest.mark.requires; known: {', '.join(sorted(PROBES))}")
        reason = PROBES[word]()
        if reason and os.environ.get("PYRUN_MUST_WORK") == "1":
            pytest.fail(f"PYRUN_MUST_WORK=1 and {word} does not work: {reason}")
        if reason:
            pytest.skip(f"{word}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what this machine could not run, and why."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = text.removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    listed = "; ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
    terminalreporter.write_line(f"not run on this machine: {listed or 'nothing, everything was run'}")
