"""Shared by all tests: the namespaces that play the host, and capability words.

Before any test runs, this process leaves the machine's network for a new namespace without an uplink; every
process a test starts inherits it. So no packet of a test can leave the machine. It leaves the machine's mounts
too, for a copy in which nobody else mounts and whose mounts are shared, as systemd makes them: what would leak
into the mount table of an ordinary host leaks into this one.
"""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path

import pytest

from tests.probes import GUEST_WORDS, PROBES

MS_SHARED = 1 << 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run be only of the tests that need something of the machine."""
    parser.addoption(
        "--only-requires",
        default="",
        metavar="WORDS",
        help=f"only tests that require one of these words; 'guest': {', '.join(GUEST_WORDS)}, or marked guest",
    )


def wanted_words(config: pytest.Config) -> frozenset[str]:
    """Return the words of --only-requires."""
    given = config.getoption("--only-requires").split()
    return frozenset(
        word for name in given for word in ((name, *GUEST_WORDS) if name == "guest" else (name,))
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file that mentions none of the words: importing all takes minutes in the guest."""
    words = wanted_words(config)
    if not words or not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text()
    return None if any(f'"{word}"' in text or f"mark.{word}\n" in text for word in words) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that --only-requires asks for."""
    if words := wanted_words(config):
        left_out = [item for item in items if not words & words_of(item)]
        # Those that change the machine take longest: they begin first, so that the workers end together.
        kept = [item for item in items if words & words_of(item)]
        items[:] = sorted(kept, key=lambda item: "disposable" not in required_words(item))
        config.hook.pytest_deselected(items=left_out)


def words_of(item: pytest.Item) -> set[str]:
    """Return what a test can be asked for by --only-requires."""
    marked = {"guest"} if item.get_closest_marker("guest") is not None else set()
    return {*required_words(item), *marked}


def required_words(item: pytest.Item) -> list[str]:
    """Return what a test requires of the machine."""
    return [word for marker in item.iter_markers("requires") for word in marker.args]


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
    words = required_words(item)
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
    """Say what this machine could not run and why, and what of it the guest of tests/vm can."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = text.removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    left = {reason for reason in reasons if reason.partition(":")[0] in GUEST_WORDS}
    if left:
        terminalreporter.write_line(f"left to the guest (make vm-test): {listed(reasons, left)}")
    others = listed(reasons, reasons.keys() - left) or (
        "nothing else" if left else "nothing, everything was run"
    )
    terminalreporter.write_line(f"not run on this machine: {others}")


def listed(reasons: dict[str, int], which: Set[str]) -> str:
    """Return some of the reasons in one line, each with the number of its tests."""
    return "; ".join(f"{reason} ({reasons[reason]})" for reason in sorted(which))
