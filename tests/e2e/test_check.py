"""`pyrun check` on hosts that lack something; each lack is a real one, made in namespaces of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pyrun.runtime.check import Finding, Report, Verdict
from tests.e2e.conftest import SLOW, Cli
from tests.unprivileged import run_as_nobody

pytestmark = pytest.mark.requires("pods", "nftables")

Check = Callable[..., tuple[Report, int]]


@pytest.fixture
def check(cli: Cli) -> Check:
    """Run `pyrun check -o json` behind a shell line that takes something away, given as `"$@"`'s prefix."""

    def run(prepare: str = "", wrapper: str = "", *options: str) -> tuple[Report, int]:
        command = [*cli.command, *options, "check", "-o", "json"]
        line = f'{prepare}\nexec {wrapper} "$@"' if prepare else f'exec {wrapper} "$@"'
        result = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", line, "sh", *command],
            capture_output=True,
            text=True,
            env=cli.environment,
            timeout=60 * SLOW,
            check=False,
        )
        assert result.stderr == "", result.stderr
        return msgspec.json.decode(result.stdout, type=Report), result.returncode

    return run


def of(report: Report, subject: str) -> Finding:
    (found,) = (finding for finding in report.findings if subject in finding.subject)
    return found


def traces(cli: Cli) -> tuple[object, ...]:
    """All that a check could leave behind."""
    groups = [path for path, _, _ in os.walk("/sys/fs/cgroup") if "check" in path]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    tables = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    files = sorted(str(path) for path in cli.directory.rglob("*") if cli.rootfs not in path.parents)
    return Path("/proc/self/mountinfo").read_text(), groups, links, tables, files


def test_a_good_host(cli: Cli, check: Check) -> None:
    before = traces(cli)
    report, code = check()
    assert (report.pods, code) == (True, 0)
    subjects = {finding.subject for finding in report.findings}
    assert {
        "kernel",
        "namespace time",
        "cgroup v2",
        "openat2",
        "pidfd",
        "mount interface",
        "orphans",
    } <= subjects
    assert traces(cli) == before
    assert not cli.root.exists() and not cli.state.exists()


def test_text_has_a_line_for_each_finding_and_a_remedy_for_each_lack(cli: Cli) -> None:
    text = cli.ok("check")
    findings = json.loads(cli.ok("check", "-o", "json"))["findings"]
    for finding in findings:
        assert any(
            line.startswith(finding["verdict"]) and finding["subject"] in line for line in text.splitlines()
        )
        assert (finding["verdict"] == "ok") or finding["remedy"] in text
    assert text.splitlines()[-1] == "Pods can be made."


def test_without_root_it_says_what_it_could_not_try(cli: Cli) -> None:
    result = run_as_nobody([*cli.command, "check", "-o", "json"], cli.environment)
    assert (result.returncode, result.stderr) == (1, "")
    report = msgspec.json.decode(result.stdout, type=Report)
    assert not report.pods
    assert of(report, "user").verdict is Verdict.MISSING
    assert of(report, "namespace mnt").verdict is Verdict.UNTRIED
    assert of(report, "bridge and veth").verdict is Verdict.UNTRIED
    assert of(report, "openat2").verdict is Verdict.OK
    missing = [finding.subject for finding in report.findings if finding.verdict is Verdict.MISSING]
    assert missing == ["user"]
    text = run_as_nobody([*cli.command, "check"], cli.environment).stdout.splitlines()[-1]
    assert text.startswith("Pods cannot be made. Missing: user (") and "without root" in text


def missing(report: Report, code: int, subject: str, *words: str) -> None:
    """Assert that the subject is missing, with these words in detail and remedy, and that no Pods can be made."""
    finding = of(report, subject)
    assert finding.verdict is Verdict.MISSING, finding
    assert (report.pods, code) == (False, 1)
    for word in words:
        assert word in f"{finding.detail} {finding.remedy}", finding


def test_no_unified_hierarchy(check: Check) -> None:
    from pyrun.cgroups.files import unified_mount

    report, code = check(f"umount {unified_mount()}")
    missing(report, code, "cgroup v2", "mount -t cgroup2")


def test_a_hybrid_host_is_named(check: Check) -> None:
    from pyrun.cgroups import files
    from pyrun.cgroups.controllers import CONTROLLERS

    report, code = check()
    assert of(report, "cgroup v2").detail == files.unified_mount()
    held = files.controllers(files.unified_mount())
    for name in CONTROLLERS:
        finding = of(report, f"controller {name}")
        assert (finding.verdict is Verdict.LIMITED) is (name not in held)
        assert bool(finding.remedy) is (name not in held)
    assert code == 0


def test_a_read_only_cgroup_mount(check: Check) -> None:
    from pyrun.cgroups.files import unified_mount

    report, code = check(f"mount -o remount,bind,ro {unified_mount()}")
    missing(report, code, "clone into a cgroup", "Read-only", "writable")


def test_a_root_directory_that_lies_on_an_overlay(check: Check, tmp_path: Path) -> None:
    for name in ("l", "u", "w", "m"):
        (tmp_path / "o" / name).mkdir(parents=True)
    at = f"{tmp_path}/o"
    report, code = check(
        f"mount -t overlay o {at}/m -o lowerdir={at}/l,upperdir={at}/u,workdir={at}/w",
        "",
        "--root",
        f"{at}/m/root",
    )
    missing(report, code, "overlay on", "overlay cannot hold its layers", "--root")
    assert list((tmp_path / "o/u").iterdir()) == []


def test_a_root_directory_that_is_read_only(check: Check, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    prepare = f"mount -t tmpfs -o ro r {tmp_path}/r"
    report, code = check(prepare, "", "--root", f"{tmp_path}/r/root")
    missing(report, code, "space in", "read-only")
    missing(report, code, "overlay on", "Read-only", "--root")


def test_little_space_is_told(check: Check, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    report, code = check(f"mount -t tmpfs -o size=8m r {tmp_path}/r", "", "--root", f"{tmp_path}/r/root")
    finding = of(report, "space in")
    assert (finding.verdict, code) == (Verdict.LIMITED, 0)
    assert "8 MiB free on tmpfs" in finding.detail and "--root" in finding.remedy


def test_missing_programs(check: Check) -> None:
    from pyrun.process.programs import location

    report, code = check(f"mount -t tmpfs p {os.path.dirname(location('pause'))}")
    missing(report, code, "compiled programs", "pause is missing", "pip")


def test_a_bounding_set_without_a_capability(check: Check) -> None:
    report, code = check("", "setpriv --bounding-set -sys_boot,-mac_admin")
    finding = of(report, "capabilities")
    assert (finding.verdict, code) == (Verdict.LIMITED, 0)
    assert "SYS_BOOT" in finding.detail and "MAC_ADMIN" in finding.detail


def test_root_without_the_right_to_make_namespaces(check: Check) -> None:
    report, code = check("", "setpriv --bounding-set -sys_admin")
    for kind in ("mnt", "uts", "ipc", "net", "pid", "cgroup", "time"):
        missing(report, code, f"namespace {kind}", "not permitted", "--privileged")
    missing(report, code, "kernel file systems", "--privileged")


def test_root_without_the_right_to_make_links(check: Check) -> None:
    report, code = check("", "setpriv --bounding-set -net_admin")
    missing(report, code, "bridge and veth", "CAP_NET_ADMIN")


def test_an_old_kernel(check: Check) -> None:
    report, code = check("", "setarch --uname-2.6")
    finding = next(finding for finding in report.findings if finding.subject == "kernel")
    assert (finding.verdict, code) == (Verdict.MISSING, 1)
    assert "older than 5.14" in finding.detail and "cgroup.kill" in finding.remedy


def test_a_subnet_that_is_taken(check: Check) -> None:
    subprocess.run(["ip", "address", "add", "10.211.7.1/24", "dev", "lo"], check=True)
    try:
        report, code = check("", "", "--subnet", "10.211.0.0/16")
    finally:
        subprocess.run(["ip", "address", "delete", "10.211.7.1/24", "dev", "lo"], check=True)
    missing(report, code, "Pod subnet", "10.211.7.1/24", "--subnet")


def test_a_parent_that_does_not_reap_orphans(check: Check) -> None:
    # A subreaper takes the place of PID 1; this one runs the check and waits for nothing else.
    subreaper = (
        "import subprocess, sys; from pyrun.kernel.syscalls import prctl; prctl(36, 1); "
        "sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    )
    report, code = check("", f"{sys.executable} -c '{subreaper}'")
    finding = of(report, "orphans")
    assert (finding.verdict, code) == (Verdict.LIMITED, 0)
    assert "does not reap" in finding.detail and "tini" in finding.remedy
