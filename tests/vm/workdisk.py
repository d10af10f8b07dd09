"""The second disk of the guest: the working tree, compiled for the guest, and what it shall run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.vm.build import GUEST, MKE2FS, TREE, VmError
from tests.vm.image import Image

SIZE = "2G"
COMPILED = ("pyrun/kernel/_kernel*.so", "pyrun/network/_nftables.py", "pyrun/libexec/*")
BUILT_FROM = ("meson*", "csrc/*", "pyrun/*/build_*.py")


@dataclasses.dataclass(frozen=True)
class Job:
    """What the guest shall run: a command line, or nothing but a shell on a terminal."""

    command: tuple[str, ...]
    environment: dict[str, str]


def workdisk(image: Image, job: Job, images: Path, disk: Path) -> None:
    """Make the file system `disk` of the files that git knows or does not ignore, and the container images."""
    with image.locked():
        stage = image.root / "src"
        shutil.rmtree(stage)
        for name in _files():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, stage / name, follow_symlinks=False)
        # Tests ask git which files belong to the tree.
        image.run("sh", "-ec", "git init -q; git add -A; echo .vm >>.git/info/exclude", directory="/src")
        _compile(image, stage)
        _images(images, stage / ".cache/images")
        _job(job, stage / ".vm")
        command = [*MKE2FS, str(stage), str(disk), SIZE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise VmError(f"the work disk cannot be made: {done.stderr.strip()}")


def _files() -> list[str]:
    """Return the files of the working tree as they are now."""
    command = ["git", "-c", f"safe.directory={TREE}", "ls-files", "-coz", "--exclude-standard"]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VmError(f"git cannot list the working tree: {done.stderr.strip()}")
    return [name for name in done.stdout.split("\0") if name and os.path.lexists(TREE / name)]


def _compile(image: Image, stage: Path) -> None:
    """Put the compiled parts into the tree, and the bytecode: each process of the guest would make it again."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in BUILT_FROM for path in stage.glob(pattern)):
        digest.update(f"{path.relative_to(stage)}\n".encode() + path.read_bytes())
    kept = image.directory / f"compiled-{digest.hexdigest()[:12]}"
    if not kept.exists():
        image.run("meson", "setup", "/tmp/build", "/src")
        image.run("meson", "compile", "-C", "/tmp/build", "in-place")
        shutil.rmtree(image.root / "tmp/build")
        new = image.directory / "compiled.new"
        shutil.rmtree(new, ignore_errors=True)
        for path in (path for pattern in COMPILED for path in stage.glob(pattern)):
            (new / path.relative_to(stage)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / path.relative_to(stage))
        new.rename(kept)
    shutil.copytree(kept, stage, dirs_exist_ok=True)
    image.run(
        "python",
        "-m",
        "compileall",
        "-q",
        "-j0",
        "--invalidation-mode",
        "unchecked-hash",
        "pyrun",
        "tests",
        directory="/src",
    )


def _images(images: Path, target: Path) -> None:
    """Take along the archives of container images that are there."""
    target.mkdir(parents=True)
    for archive in images.glob("*.tar"):
        shutil.copy2(archive, target)


def _job(job: Job, target: Path) -> None:
    """Write what the guest's init runs."""
    (target / "bin").mkdir(parents=True)
    for name, place in (("init", "."), ("job", "."), ("job.service", "."), ("pyrun", "bin")):
        shutil.copy2(GUEST / name, target / place)
    (target / "command").write_text(f"exec {shlex.join(job.command)}\n" if job.command else "")
    variables = {
        "VM_CONSOLE": "port" if job.command else "terminal",
        "PYRUN_TEST_IMAGES": "/src/.cache/images",
        **job.environment,
    }
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    (target / "environment").write_text("".join(lines))
