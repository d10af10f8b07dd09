"""The machine: QEMU around a guest, its output as it comes, its results, and its end in any case."""

from __future__ import annotations

import dataclasses
import os
import re
import selectors
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from tests.vm.image import Image

TIME_LIMIT = 124
"""The exit code when the time is over, as of timeout(1)."""
DIED = 125
"""The exit code when the guest ended without a result."""
ATTEMPTS = 3
EARLY = 4.0
"""Guest seconds before which a panic is the emulator's: QEMU 7.2 loses an int3 while the kernel patches itself."""
PROBE_TIME = 15
"""Seconds that a kernel gets under KVM to boot and power off; takes one where it works, and for ever elsewhere."""
KERNEL = (
    "console=ttyS0 quiet panic=-1 audit=0 "
    # Time that an emulated processor need not spend.
    "mitigations=off nokaslr rcupdate.rcu_expedited=1 transparent_hugepage=always"
)
SYSTEMD = "vminit=systemd systemd.unit=vm-job.service systemd.show_status=0 systemd.log_target=null"
EMULATED = ("-accel", "tcg,thread=multi", "-cpu", "max")
HARDWARE = ("-accel", "kvm", "-cpu", "host")


@dataclasses.dataclass(frozen=True)
class Machine:
    """How a guest is booted: processors, memory in MiB, `tiny` or `systemd`, seconds until it is ended."""

    image: Image
    init: str
    processors: int
    memory: int
    timeout: float


def run(machine: Machine, work: Path, scratch: Path) -> int:
    """Boot the machine with a work disk, copy its output to stdout, and return the exit code of its job.

    `scratch` receives results.tar and kernel.log.
    """
    deadline = time.monotonic() + machine.timeout
    accelerator = _accelerator(machine, scratch)
    for attempt in range(1, ATTEMPTS + 1):
        code = _boot(_command(machine, accelerator, work, scratch, terminal=False), deadline)
        if code is not None:
            _say(f"the time limit of {machine.timeout:g} s is over", scratch)
            return code
        if (result := _result(scratch)) is not None:
            return result
        if attempt == ATTEMPTS or not _early_panic(scratch):
            break
        print("the kernel did not come up (known of QEMU 7.2); booting again", file=sys.stderr, flush=True)
    _say("the guest ended without a result", scratch)
    return DIED


def shell(machine: Machine, work: Path, scratch: Path) -> int:
    """Boot the machine with a shell on this terminal, until the shell ends."""
    accelerator = _accelerator(machine, scratch)
    process = subprocess.Popen(_command(machine, accelerator, work, scratch, terminal=True))
    try:
        process.wait()
    finally:
        process.kill()
        process.wait()
    return DIED if (result := _result(scratch)) is None else result


def _command(
    machine: Machine, accelerator: tuple[str, ...], work: Path, scratch: Path, *, terminal: bool
) -> list[str]:
    """Return the command line of QEMU."""
    line = f"{KERNEL} {SYSTEMD}" if machine.init == "systemd" else KERNEL
    return [
        *_qemu(machine, accelerator),
        *("-append", line, "-serial", f"file:{scratch}/kernel.log"),
        # Output through a port of virtio is fifteen times faster than through a terminal; a shell needs a terminal.
        *("-chardev", "stdio,id=con,signal=off", "-device", "virtio-serial-pci"),
        *(("-serial", "chardev:con") if terminal else ("-device", "virtserialport,chardev=con,name=console")),
        *(
            "-chardev",
            f"file,id=res,path={scratch}/results.tar",
            "-device",
            "virtserialport,chardev=res,name=results",
        ),
        *("-device", "virtio-rng-pci"),
        *_disk("root", machine.image.disk),
        *_disk("work", work),
    ]


def _qemu(machine: Machine, accelerator: tuple[str, ...]) -> list[str]:
    """Return the part of the command line that every machine has; it ends with the one who started it."""
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-M", "q35", *accelerator),
        *("-smp", str(machine.processors), "-m", str(machine.memory)),
        *("-nodefaults", "-no-reboot", "-display", "none"),
        *("-kernel", str(machine.image.kernel), "-initrd", str(machine.image.initrd)),
    ]


def _disk(name: str, path: Path) -> tuple[str, ...]:
    """Return the options of a disk whose changes are thrown away."""
    drive = f"file={path},format=raw,if=none,id={name},snapshot=on,cache=unsafe"
    return ("-drive", drive, "-device", f"virtio-blk-pci,drive={name}")


def _accelerator(machine: Machine, scratch: Path) -> tuple[str, ...]:
    """Return the options for KVM where that is asked for and boots a kernel, else for emulation.

    /dev/kvm says nothing: it may exist and hang.
    """
    if os.environ.get("PYRUN_VM_KVM") != "1":
        return EMULATED
    log = scratch / "kvm.log"
    command = [*_qemu(machine, HARDWARE), "-append", f"{KERNEL} vminit=none", "-serial", f"file:{log}"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_TIME, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"KVM does not boot a kernel within {PROBE_TIME} s: emulating", file=sys.stderr)
        return EMULATED
    if done.returncode or "Power down" not in log.read_text(errors="replace"):
        print(f"KVM does not work: emulating\n{done.stderr.decode(errors='replace')}", file=sys.stderr)
        return EMULATED
    return HARDWARE


def _boot(command: list[str], deadline: float) -> int | None:
    """Run QEMU and copy what its console says; return TIME_LIMIT if the deadline came first."""
    # At the end of its stdin QEMU closes the console, and the guest waits for ever; so stdin is never written.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                if not selector.select(left):
                    continue
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    return None
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        return TIME_LIMIT
    finally:
        process.kill()
        process.wait()


def _result(scratch: Path) -> int | None:
    """Return the exit code that the guest has left, or None."""
    try:
        with tarfile.open(scratch / "results.tar") as results:
            file = results.extractfile("./code")
            return int(file.read()) if file is not None else None
    except (OSError, KeyError, tarfile.TarError):
        return None


def _early_panic(scratch: Path) -> bool:
    """Whether the kernel panicked before anything of ours ran."""
    found = re.search(r"\[ *([0-9.]+)\].*Kernel panic", _log(scratch))
    return found is not None and float(found[1]) < EARLY


def _log(scratch: Path) -> str:
    log = scratch / "kernel.log"
    return log.read_text(errors="replace") if log.exists() else ""


def _say(what: str, scratch: Path) -> None:
    """Report a failure with the end of what the kernel has said."""
    lines = _log(scratch).splitlines()[-40:]
    print(f"{what}; the kernel's last lines:", *lines, sep="\n  ", file=sys.stderr, flush=True)
