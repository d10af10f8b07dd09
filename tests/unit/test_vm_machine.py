"""The end of a virtual machine, whatever it is, with a program in QEMU's place."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import eventually
from tests.vm import machine
from tests.vm.emulator import Emulator
from tests.vm.image import Image

SLOW = float(os.environ.get("PYRUN_TEST_SLOW", "1"))
HEAD = """#!/bin/sh
for word; do
    case $word in
    file:*/kernel.log) log=${word#file:} ;;
    file:*/kvm.log) kvm=${word#file:} ;;
    file,id=res,path=*) results=${word#*path=} ;;
    esac
done
echo boot >>"$BOOTS"
finish() { d=$(mktemp -d); echo "$1" >"$d/code"; tar -C "$d" -cf "$results" .; rm -r "$d"; }
"""
"""The beginning of such a program."""
QEMU = Emulator(("qemu-system-x86_64",))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `bin` in front of the PATH, and nothing asked of KVM."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("BOOTS", str(tmp_path / "boots"))
    monkeypatch.delenv("PYRUN_VM_KVM", raising=False)
    return tmp_path


def qemu(scratch: Path, script: str) -> None:
    """Put a shell script into QEMU's place."""
    program = scratch / "bin/qemu-system-x86_64"
    program.write_text(HEAD + script)
    program.chmod(0o755)


def boots(scratch: Path) -> int:
    return len((scratch / "boots").read_text().splitlines())


def run(scratch: Path, timeout: float = 30) -> int:
    guest = machine.Machine(QEMU, Image(scratch), "tiny", 1, 512, timeout * SLOW)
    return machine.run(guest, scratch / "work.ext4", scratch)


@pytest.mark.parametrize("code", [0, 1, 5, 127])
def test_the_code_of_the_job_comes_back(code: int, scratch: Path) -> None:
    qemu(scratch, f"finish {code}\n")
    assert run(scratch) == code


def running(scratch: Path) -> subprocess.Popen[bytes]:
    """Run a machine in a process of its own."""
    code = (
        "from pathlib import Path\n"
        "from tests.vm import machine\n"
        "from tests.vm.emulator import Emulator\n"
        "from tests.vm.image import Image\n"
        f"scratch = Path({str(scratch)!r})\n"
        "qemu = Emulator(('qemu-system-x86_64',))\n"
        "machine.run(machine.Machine(qemu, Image(scratch), 'tiny', 1, 512, 60), scratch / 'work', scratch)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


def test_what_the_console_says_is_said_at_once(scratch: Path) -> None:
    qemu(scratch, f"echo 'a line'; until [ -e {scratch}/seen ]; do sleep 0.02; done; finish 0\n")
    with running(scratch) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"a line\n"
        (scratch / "seen").touch()


def test_the_machine_ends_with_the_one_who_started_it(scratch: Path) -> None:
    qemu(scratch, "echo $$; exec sleep 1000\n")
    with running(scratch) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    # An orphan is reaped by whoever does that on this machine, at its leisure.
    eventually(
        lambda: not Path(f"/proc/{pid}").exists() or "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    )


def test_a_guest_without_a_result_has_died_and_its_log_is_shown(
    scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qemu(scratch, "echo '[   42.000000] Kernel panic - not syncing: sysrq' >\"$log\"\n")
    assert run(scratch) == machine.DIED
    assert "not syncing: sysrq" in capsys.readouterr().err
    assert boots(scratch) == 1


def test_an_early_panic_is_booted_again(scratch: Path) -> None:
    panic = "echo '[    1.250000] Kernel panic - not syncing: Fatal exception' >\"$log\""
    qemu(scratch, f'[ "$(wc -l <"$BOOTS")" -lt 3 ] && {{ {panic}; exit 0; }}\nfinish 3\n')
    assert run(scratch) == 3
    assert boots(scratch) == 3


def test_early_panics_without_end_are_a_death(scratch: Path) -> None:
    qemu(scratch, "echo '[    1.250000] Kernel panic - not syncing: Fatal exception' >\"$log\"\n")
    assert run(scratch) == machine.DIED
    assert boots(scratch) == machine.ATTEMPTS


def test_when_the_time_is_over_the_machine_is_ended(scratch: Path) -> None:
    qemu(scratch, f"echo $$ >{scratch}/pid; exec sleep 1000\n")
    # Not multiplied: it shall run out.
    guest = machine.Machine(QEMU, Image(scratch), "tiny", 1, 512, 1 * SLOW)
    started = time.monotonic()
    assert machine.run(guest, scratch / "work.ext4", scratch) == machine.TIME_LIMIT
    assert time.monotonic() - started < 500
    assert not Path(f"/proc/{(scratch / 'pid').read_text().strip()}").exists()


def accelerators(scratch: Path) -> list[str]:
    return (scratch / "accelerators").read_text().split()


KVM = 'for word; do case $word in kvm|tcg*) echo "$word" >>"$(dirname "$BOOTS")/accelerators" ;; esac; done\n'


def test_kvm_is_not_even_tried_unless_asked_for(scratch: Path) -> None:
    qemu(scratch, KVM + "finish 0\n")
    assert run(scratch) == 0
    assert accelerators(scratch) == ["tcg,thread=multi"]


def test_kvm_that_boots_a_kernel_is_used(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRUN_VM_KVM", "1")
    qemu(scratch, KVM + '[ -z "$kvm" ] || { echo "reboot: Power down" >"$kvm"; exit 0; }\nfinish 0\n')
    assert run(scratch) == 0
    assert accelerators(scratch) == ["kvm", "kvm"]


@pytest.mark.parametrize("failure", ["exit 1", "exec sleep 1000", "exit 0"])
def test_kvm_that_fails_or_hangs_or_boots_nothing_is_not_used(
    failure: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRUN_VM_KVM", "1")
    monkeypatch.setattr(machine, "PROBE_TIME", 1)
    qemu(scratch, KVM + f'[ -z "$kvm" ] || {failure}\nfinish 0\n')
    assert run(scratch) == 0
    assert accelerators(scratch)[-1] == "tcg,thread=multi"
