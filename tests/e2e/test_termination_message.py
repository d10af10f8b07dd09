"""The termination message: where it is written, how much of it is kept, and when the log takes its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrun.runtime.pods import PodDirectory
from pyrun.spec.pod import EmptyDir, TerminationMessagePolicy, Volume, VolumeMount
from tests.e2e.conftest import Cli
from tests.e2e.test_attempts import close, start
from tests.e2e.verbs import box, make, wait_until_over

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

FALLBACK = TerminationMessagePolicy.FALLBACK_TO_LOGS_ON_ERROR


def message_of(pod: PodDirectory, name: str = "a") -> str:
    ended = wait_until_over(pod, name).ended
    assert ended is not None
    return ended.message


def test_what_is_written_to_the_file_is_the_message(cli: Cli) -> None:
    pod = make(cli, box("a", "printf 'all is lost' > /dev/termination-log; exit 1"))
    assert message_of(pod) == "all is lost"
    close(pod, "a", 0)
    assert message_of(pod) == "all is lost"
    status = cli.inspect("test")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert status["message"] == "all is lost"


def test_the_file_is_where_the_manifest_says_and_every_user_may_write_it(cli: Cli) -> None:
    from pyrun.spec.pod import SecurityContext

    pod = make(
        cli,
        box(
            "a",
            "test -e /dev/termination-log || printf mine > /var/last/words",
            termination_message_path="/var/last/words",
            security_context=SecurityContext(run_as_user=1000, read_only_root_filesystem=True),
        ),
    )
    assert message_of(pod) == "mine"


def test_every_attempt_has_a_file_of_its_own(cli: Cli) -> None:
    pod = make(cli, box("a", "cat /dev/termination-log; echo text >> /dev/termination-log; exit 1"))
    assert message_of(pod) == "text\n"
    start(cli, pod, "a", 1)
    assert message_of(pod) == "text\n"
    assert not os.path.exists(cli.layout.termination_log(pod.uid, "a", 0))
    assert os.path.exists(cli.layout.termination_log(pod.uid, "a", 1))


@pytest.mark.parametrize(("containers", "kept"), [(1, 4096), (3, 4096), (4, 3072)])
def test_the_end_of_a_long_message_is_kept(cli: Cli, containers: int, kept: int) -> None:
    script = "(head -c 8000 /dev/zero | tr '\\0' x; printf end) > /dev/termination-log"
    pod = make(cli, box("a", script), *(box(f"b{i}") for i in range(containers - 1)))
    text = message_of(pod)
    assert len(text) == kept and text.endswith("xend")


def test_bytes_that_are_no_text_are_shown_as_such(cli: Cli) -> None:
    pod = make(cli, box("a", "printf 'a\\377b' > /dev/termination-log"))
    assert message_of(pod) == "a\ufffdb"


# The log


def test_the_log_takes_the_place_of_an_empty_file_after_an_error(cli: Cli) -> None:
    pod = make(cli, box("a", "echo one; echo two >&2; exit 1", termination_message_policy=FALLBACK))
    assert sorted(message_of(pod).splitlines()) == ["one", "two"]


@pytest.mark.parametrize(
    ("script", "policy", "message"),
    [
        ("echo text; exit 0", FALLBACK, ""),
        ("echo text; exit 1", TerminationMessagePolicy.FILE, ""),
        ("echo text; echo file > /dev/termination-log; exit 1", FALLBACK, "file\n"),
    ],
)
def test_otherwise_it_does_not(cli: Cli, script: str, policy: TerminationMessagePolicy, message: str) -> None:
    assert message_of(make(cli, box("a", script, termination_message_policy=policy))) == message


@pytest.mark.parametrize(
    ("script", "first", "size"),
    [
        ("seq 1 200; exit 1", "121\n", None),
        ("for i in 1 2 3; do head -c 1000 /dev/zero | tr '\\0' x; echo; done; exit 1", "x", 2048),
    ],
)
def test_of_a_long_log_the_end_is_taken(cli: Cli, script: str, first: str, size: int | None) -> None:
    text = message_of(make(cli, box("a", script, termination_message_policy=FALLBACK)))
    assert text.startswith(first)
    assert size is None or len(text) == size
    assert len(text.splitlines()) <= 80


# Malice


def test_no_link_leads_out(cli: Cli, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    script = f"ln -sf {secret} /dev/termination-log; rm -f /dev/termination-log; echo tried > /tried; exit 1"
    pod = make(cli, box("a", script))
    assert message_of(pod) == ""
    path = cli.layout.termination_log(pod.uid, "a", 0)
    os.unlink(path)
    os.symlink(secret, path)
    assert message_of(pod) == ""


def test_a_volume_at_its_path_takes_the_place_of_the_file(cli: Cli) -> None:
    mount = (VolumeMount(name="v", mount_path="/dev/termination-log"),)
    pod = make(
        cli,
        box("a", "test -d /dev/termination-log", volume_mounts=mount),
        volumes=(Volume(name="v", source=EmptyDir()),),
    )
    ended = wait_until_over(pod, "a").ended
    assert ended is not None and (ended.exit_code, ended.message) == (0, "")
