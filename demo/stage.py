"""What the demonstration stands on: the screen, the signals, and an instance of pyrun of its own."""

# ruff: noqa: T201

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import ipaddress
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

TREE = Path(__file__).resolve().parent.parent
SUBNETS = ("10.136.0.0/24", "172.30.136.0/24", "192.168.136.0/24", "100.64.136.0/24")
PATIENCE = 30.0
"""Seconds until what a step promises must be seen."""
LONGEST_COMMAND = 120.0
"""Seconds a command may take; on a slow disk, unpacking an image takes most."""


class Failed(Exception):
    """A step has not shown what it says."""


class Stopped(Exception):
    """A signal has asked the demonstration to end."""


class Stop:
    """Ctrl-C, SIGTERM and SIGHUP. They interrupt only where it is `welcome`: never a removal."""

    def __init__(self) -> None:
        self.number = 0
        self._welcome = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._welcome:
            self._welcome = False
            raise Stopped

    @contextlib.contextmanager
    def welcome(self) -> Iterator[None]:
        """Let a signal, also one that has come already, raise Stopped inside the block."""
        self._welcome = True
        try:
            if self.number:
                raise Stopped
            yield
        finally:
            self._welcome = False


class Screen:
    """What the audience sees; coloured only on a terminal."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._width = min(shutil.get_terminal_size((120, 24)).columns, 120)
        self._chapter = 0

    def title(self, text: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        self._print("\n" + self._style("1", f"{self._chapter}. {text}"))

    def say(self, *lines: str) -> None:
        """Explain."""
        self._print("\n".join(lines))

    def command(self, *words: str) -> None:
        """Show a command line."""
        self._print(self._style("36", f"$ {shlex.join(words)}"))

    def output(self, text: str) -> None:
        """Show what a command has printed, indented, lines cut at the edge."""
        room = self._width - 2
        for line in text.rstrip("\n").splitlines():
            self._print("  " + (line if len(line) <= room else line[: room - 1] + "…"))

    def table(self, rows: list[tuple[str, ...]]) -> None:
        """Show columns; the first row is their heading."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        self._print("  " + self._style("1", lines[0]))
        self.output("\n".join(lines[1:]))

    def _style(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._coloured else text

    def _print(self, text: str) -> None:
        print(text, flush=True)


@dataclasses.dataclass(frozen=True)
class Done:
    """A command that has ended."""

    stdout: str
    stderr: str


class Stage:
    """The instance of pyrun that belongs to the demonstration alone, and the commands that are run on it."""

    def __init__(self, name: str, program: str, stop: Stop, screen: Screen) -> None:
        self.root = Path("/var/lib") / name
        self.state = Path("/run") / name
        self.screen = screen
        self.stop = stop
        self._program = program
        self._lock = -1
        self.environment = {**os.environ, "PYRUN_ROOT": str(self.root), "PYRUN_STATE": str(self.state)}

    def enter(self) -> None:
        """Take the instance for this process, and remove what a demonstration that was killed has left."""
        deadline = time.monotonic() + PATIENCE
        while not self._try_lock():
            if time.monotonic() > deadline:
                raise Failed(f"another demonstration is running: it holds {self.state}")
            self.pause()
        if self.root.exists() or any(self.state.iterdir()):
            self.screen.say("Removing what an earlier demonstration has left.", "")
            self._clear()
        self.environment["PYRUN_SUBNET"] = self._subnet()

    def leave(self) -> None:
        """Remove everything; nothing interrupts this."""
        if self._lock >= 0:
            self._clear()
            self.state.rmdir()

    def pyrun(self, *words: str, hidden: bool = False) -> Done:
        """Run pyrun, which must succeed, and show the command and what it prints on stdout."""
        return self.run((self._program, *words), ("pyrun", *words), hidden=hidden)

    def run(self, words: tuple[str, ...], shown: tuple[str, ...] = (), *, hidden: bool = False) -> Done:
        """Run a command, which must succeed; unless `hidden`, show it and what it prints on stdout."""
        if not hidden:
            self.screen.command(*(shown or words))
        # A session of its own: Ctrl-C reaches this process alone, which then asks the command to end. The
        # lock stays held until the command has ended, even if this process is killed.
        child = subprocess.Popen(
            words,
            cwd=TREE,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            pass_fds=(self._lock,),
        )
        try:
            with self.stop.welcome():
                stdout, stderr = child.communicate(timeout=LONGEST_COMMAND)
        except BaseException:
            _end(child)
            raise
        if child.returncode != 0:
            raise Failed(
                f"{shlex.join(shown or words)} ended with code {child.returncode}\n{stderr.rstrip()}"
            )
        if not hidden:
            self.screen.output(stdout)
        return Done(stdout, stderr)

    def until(self, what: str, check: Callable[[], bool]) -> float:
        """Wait until a check holds; return the seconds it took."""
        begun = time.monotonic()
        while not check():
            if time.monotonic() - begun > PATIENCE:
                raise Failed(f"within {PATIENCE:g} s, {what} was not seen")
            self.pause()
        return time.monotonic() - begun

    def pause(self) -> None:
        """Wait a moment between two looks."""
        with self.stop.welcome():
            time.sleep(0.02)

    def _try_lock(self) -> bool:
        self.state.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed the directory meanwhile: then this is not the one of that name.
            mine = self.state.exists() and os.path.samestat(os.fstat(descriptor), self.state.stat())
        except BlockingIOError:
            mine = False
        if mine:
            self._lock = descriptor
        else:
            os.close(descriptor)
        return mine

    def _clear(self) -> None:
        done = subprocess.run(
            [self._program, "pod", "rm", "--all", "--force"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"the Pods of {self.state} cannot be removed: {done.stderr.strip()}")
        for path in (self.root, *self.state.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _subnet(self) -> str:
        """Return the user's choice, or the first subnet that no route of this host overlaps."""
        if chosen := os.environ.get("PYRUN_SUBNET"):
            return chosen
        words = ("ip", "-4", "route", "show", "table", "all")
        found = re.findall(r"^(?:[a-z]+ )?([\d.]+(?:/\d+)?)", self.run(words, hidden=True).stdout, re.M)
        routes = [ipaddress.ip_network(text, strict=False) for text in found]
        taken = [route for route in routes if route.prefixlen > 1]
        for subnet in SUBNETS:
            if not any(ipaddress.ip_network(subnet).overlaps(route) for route in taken):
                return subnet
        raise Failed("no subnet is free for the Pod: choose one with PYRUN_SUBNET")


def _end(child: subprocess.Popen[str]) -> None:
    """Ask a command to undo what it has half made, and wait for it."""
    child.terminate()
    try:
        child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
