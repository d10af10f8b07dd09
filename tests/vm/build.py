"""How the guest's disk is made: mmdebstrap, a hook that adds what is no package, and a file system of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).resolve().parent / "guest"
MIRROR = "http://deb.debian.org/debian"
SYSTEM_PACKAGES = (
    *("apt", "ca-certificates", "dbus", "e2fsprogs", "git", "iproute2", "iputils-ping", "kmod"),
    *("libcap2-bin", "make", "mount", "netcat-openbsd", "systemd", "systemd-sysv", "udev"),
)
"""What makes a machine of it; the rest of the packages is what the Makefile needs to build, run and test."""
ISOLATED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Whatever ends a command that begins so, its mounts and processes end with it."""
MMDEBSTRAP = (
    *(*ISOLATED, "mmdebstrap", "--mode=root", "--variant=apt"),
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
)
MKE2FS = ("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d")
DISK = "6G"
PASSED_TO_PIP = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL")
BUNDLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class VmError(Exception):
    """The machine cannot be made or started; the message says why."""


def key(suite: str) -> str:
    """Return what an image depends on; packages by the month, so that a new month fetches their updates."""
    parts = (suite, time.strftime("%Y-%m"), _packages(), _requirements(), MMDEBSTRAP, MKE2FS, DISK)
    digest = hashlib.sha256(repr(parts).encode())
    for name in ("setup", "initrd-init"):
        digest.update((GUEST / name).read_bytes())
    return digest.hexdigest()[:12]


def build(suite: str, directory: Path) -> None:
    """Make the tree `root`, its file system `root.ext4`, `vmlinuz` and `initrd` in a new directory."""
    if os.geteuid() != 0:
        raise VmError("the files of the guest belong to root: run as root")
    directory.mkdir()
    root = directory / "root"
    with tempfile.TemporaryDirectory(prefix="pyrun-vm-") as scratch:
        for name, text in _requirements().items():
            (Path(scratch) / name).write_text(text)
        variables = {
            "GUEST": str(GUEST),
            "REQUIREMENTS": scratch,
            "CA_BUNDLE": _bundle(),
            "PASS": " ".join(f"{name}={os.environ[name]}" for name in PASSED_TO_PIP if name in os.environ),
        }
        wanted = (f"--include={','.join(_packages())}", f"--customize-hook={GUEST / 'setup'}")
        log(directory, [*MMDEBSTRAP, *wanted, suite, str(root), *sources(suite)], variables)
    for name in ("vmlinuz", "initrd"):
        (root / "boot" / name).rename(directory / name)
    log(directory, [*MKE2FS, str(root), f"{root}.ext4", DISK], {})


def log(directory: Path, command: list[str], variables: Mapping[str, str]) -> None:
    """Run a command with its output in the log; raise VmError with the end of it when it fails."""
    path = directory / "log"
    environment = {**os.environ, **variables}
    with path.open("ab") as file:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False, env=environment
        )
    if done.returncode:
        raise VmError(f"the machine cannot be built, see {path}:\n{path.read_text(errors='replace')[-3000:]}")


def _packages() -> list[str]:
    """Return the packages of the guest, sorted."""
    command = ["make", "-s", "--no-print-directory", "-C", str(TREE), "print-packages"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return sorted({*SYSTEM_PACKAGES, *done.stdout.split()})


def _requirements() -> dict[str, str]:
    """Return two files of pip's: what pyrun is built with and needs, and what its tests need."""

    def of(*groups: str) -> str:
        command = [str(TREE / "tools/requirements"), *groups]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return {"run": of("build", "runtime"), "test": of("test")}


def _bundle() -> str:
    """Return the file of the certificates that this machine trusts."""
    files = (os.environ.get(name, "") for name in BUNDLES)
    return next((file for file in files if os.path.isfile(file)), "/etc/ssl/certs/ca-certificates.crt")


def sources(suite: str) -> list[str]:
    """Return the sources of a suite with its updates, on the mirrors this machine itself uses."""
    wanted = ("--format", "$(REPO_URI) $(RELEASE)", "Identifier: Packages", "Origin: Debian")
    done = subprocess.run(["apt-get", "indextargets", *wanted], capture_output=True, text=True, check=False)
    found = (line.split() for line in done.stdout.splitlines())
    uris = {release.partition("-")[2]: uri for uri, release in found}
    main, security = uris.get("", MIRROR), uris.get("security", f"{MIRROR}-security")
    return [
        f"deb {main} {suite} main",
        f"deb {main} {suite}-updates main",
        f"deb {security} {suite}-security main",
    ]
