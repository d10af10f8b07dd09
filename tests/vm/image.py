"""The guest's disk: a Debian made by mmdebstrap from Debian's packages, built once and kept.

Below the cache directory every image is a directory of its own, named by what it was made from: `root` is the
tree (things are compiled in it, natively), `root.ext4` the disk, `vmlinuz` and `initrd` what QEMU boots, and the
file `ok` appears last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).resolve().parent / "guest"
SUITES = ("trixie", "bookworm")
MIRROR = "http://deb.debian.org/debian"
SYSTEM_PACKAGES = (
    *(
        "apt",
        "ca-certificates",
        "dbus",
        "e2fsprogs",
        "iproute2",
        "iputils-ping",
        "kmod",
        "libcap2-bin",
        "make",
    ),
    *("mount", "netcat-openbsd", "systemd", "systemd-sysv", "udev"),
)
"""What makes a machine of it; the rest of the packages is what the Makefile needs to build, run and test."""
RECIPE = (
    *("--mode=root", "--variant=apt"),
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
)
DISK = "6G"
PASSED_TO_PIP = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL")
BUNDLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
IN_THE_GUEST = (
    "env",
    "-i",
    "PATH=/opt/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
)


class VmError(Exception):
    """The machine cannot be made or started; the message says why."""


@dataclasses.dataclass(frozen=True)
class Image:
    """A guest that can be booted."""

    directory: Path

    @property
    def root(self) -> Path:
        """The tree of the guest's root, to run its programs in natively."""
        return self.directory / "root"

    @property
    def disk(self) -> Path:
        """The file system of the guest's root."""
        return self.directory / "root.ext4"

    @property
    def kernel(self) -> Path:
        """Debian's cloud kernel."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial root."""
        return self.directory / "initrd"

    def run(self, *command: str, directory: str = "/") -> None:
        """Run a program of the guest on this machine, in the guest's root; raise VmError when it fails."""
        line = [
            "chroot",
            str(self.root),
            *IN_THE_GUEST,
            "sh",
            "-ec",
            'cd "$1"; shift; exec "$@"',
            "sh",
            directory,
        ]
        done = subprocess.run(
            [*line, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise VmError(f"{' '.join(command)} failed in {self.root}:\n{done.stdout}{done.stderr}")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from using the tree for a while."""
        with locked(self.directory / "lock"):
            yield


def image(suite: str, cache: Path) -> Image:
    """Return the image of a suite, built now if there is none that is up to date."""
    cache.mkdir(parents=True, exist_ok=True)
    packages = _packages()
    requirements = {"run": _requirements("build", "runtime"), "test": _requirements("test")}
    directory = cache / f"{suite}-{_key(suite, packages, requirements)}"
    with locked(cache / f"{suite}.lock"):
        if not (directory / "ok").exists():
            for old in cache.glob(f"{suite}-*"):
                shutil.rmtree(old)
            started = time.monotonic()
            print(f"building the {suite} guest, once; log in {directory}/log", flush=True)
            _build(suite, directory, packages, requirements)
            print(f"built in {time.monotonic() - started:.0f} s", flush=True)
    return Image(directory)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock of the machine, named by a file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _packages() -> list[str]:
    """Return the packages of the guest, sorted."""
    command = ["make", "-s", "--no-print-directory", "-C", str(TREE), "print-packages"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return sorted({*SYSTEM_PACKAGES, *done.stdout.split()})


def _requirements(*groups: str) -> str:
    """Return the requirements of groups of pyproject.toml, as a file of pip's."""
    command = [str(TREE / "tools/requirements"), *groups]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _key(suite: str, packages: list[str], requirements: dict[str, str]) -> str:
    """Return what the image depends on; packages by the month, so that a new month fetches their updates."""
    digest = hashlib.sha256(
        f"{suite} {time.strftime('%Y-%m')} {packages} {requirements} {RECIPE} {DISK}\n".encode()
    )
    for path in (GUEST / "setup", GUEST / "initrd-init"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _build(suite: str, directory: Path, packages: list[str], requirements: dict[str, str]) -> None:
    """Make the tree, and the file system of it."""
    if os.geteuid() != 0:
        raise VmError("the files of the guest belong to root: run as root")
    directory.mkdir()
    with tempfile.TemporaryDirectory(prefix="pyrun-vm-") as scratch, (directory / "log").open("wb") as log:
        for name, text in requirements.items():
            (Path(scratch) / name).write_text(text)
        bundles = (os.environ.get(name, "") for name in BUNDLES)
        bundle = next(
            (path for path in bundles if Path(path).is_file()), "/etc/ssl/certs/ca-certificates.crt"
        )
        passed = [f"{name}={os.environ[name]}" for name in PASSED_TO_PIP if name in os.environ]
        variables = {
            "GUEST": str(GUEST),
            "REQUIREMENTS": scratch,
            "CA_BUNDLE": bundle,
            "PASS": " ".join(passed),
        }
        root = directory / "root"
        for command in (
            [
                *(
                    "mmdebstrap",
                    *RECIPE,
                    f"--include={','.join(packages)}",
                    f"--customize-hook={GUEST / 'setup'}",
                ),
                *(suite, str(root), *_sources(suite)),
            ],
            ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(root), f"{root}.ext4", DISK],
        ):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                env={**os.environ, **variables},
            )
            if done.returncode:
                tail = (directory / "log").read_text(errors="replace")[-3000:]
                raise VmError(f"{command[0]} failed:\n{tail}")
    for name in ("vmlinuz", "initrd"):
        (root / "boot" / name).rename(directory / name)
    (directory / "ok").touch()


def _sources(suite: str) -> list[str]:
    """Return the sources of a suite with its updates, on the mirrors this machine itself uses."""
    command = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Identifier: Packages",
        "Origin: Debian",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    uris = {
        release.partition("-")[2]: uri for uri, release in (line.split() for line in done.stdout.splitlines())
    }
    main, security = uris.get("", MIRROR), uris.get("security", f"{MIRROR}-security")
    return [
        f"deb {main} {suite} main",
        f"deb {main} {suite}-updates main",
        f"deb {security} {suite}-security main",
    ]
