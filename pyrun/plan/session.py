"""The plan of an exec session: into all namespaces of a running container, with its rights."""

from __future__ import annotations

import msgspec

from pyrun.namespaces.steps import JoinNamespaces
from pyrun.namespaces.table import Namespace
from pyrun.plan.container import rights
from pyrun.plan.host import HostFacts
from pyrun.plan.resources import set_oom_score
from pyrun.process.control import LastHopFlags
from pyrun.process.execute import ExecuteProgram
from pyrun.process.session import SessionStep
from pyrun.process.terminal import OpenTerminal
from pyrun.spec.container import ContainerConfig, User


class SessionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to run inside a container. None keeps what the container itself has.

    `window` is the size of the terminal, rows and columns.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str | None = None
    user: str | None = None
    terminal: bool = False
    stdin: bool = False
    window: tuple[int, int] | None = None


def plan_session(
    request: SessionRequest, config: ContainerConfig, host: HostFacts
) -> tuple[SessionStep, ...]:
    """Return the steps of a process that joins a container.

    All namespaces but PID are joined by one setns; the PID namespace was entered by being born in it. The
    terminal is opened after that, in the container's devpts.
    """
    process = config.process
    user = process.user if request.user is None else User(name=request.user)
    env = merge_environment(process.env, request.env, terminal=request.terminal)
    changed = msgspec.structs.replace(
        config, process=msgspec.structs.replace(process, user=user, cwd=request.cwd or process.cwd)
    )
    joined = (
        Namespace.CGROUP,
        Namespace.UTS,
        Namespace.IPC,
        Namespace.NETWORK,
        Namespace.TIME,
        Namespace.MOUNT,
    )
    return (
        *set_oom_score(config.resources.oom_score_adj, host),  # while the /proc of the host is there
        JoinNamespaces("init.pidfd", joined),
        *((OpenTerminal(console=False, window=request.window),) if request.terminal else ()),
        *rights(changed, host),
        ExecuteProgram(config.name, request.args, env, LastHopFlags.NO_GATE),
    )


def merge_environment(base: tuple[str, ...], extra: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
    """Return the container's variables, TERM for a terminal, and `extra`; later ones win."""
    merged = dict(variable.split("=", 1) for variable in base)
    if terminal:
        merged.setdefault("TERM", "xterm")
    merged |= dict(variable.split("=", 1) for variable in extra)
    return tuple(f"{name}={value}" for name, value in merged.items())
