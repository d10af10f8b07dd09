"""`pyrun stats`: what Pods and their containers use."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from pyrun.cli.application import Application
from pyrun.cli.complete import complete_pods
from pyrun.cli.output import complain, print_json, print_table
from pyrun.errors import InputError

if TYPE_CHECKING:
    from pyrun.errors import StateError
    from pyrun.runtime.pods import PodDirectory
    from pyrun.runtime.stats import PodStats, Usage

HEADERS = (
    "POD",
    "CONTAINER",
    "CPU",
    "THROTTLED",
    "MEMORY/LIMIT",
    "WORKING SET",
    "OOM",
    "PIDS/LIMIT",
    "READ/s",
    "WRITE/s",
    "RECV/s",
    "SENT/s",
    "PSI CPU",
    "MEM",
    "IO",
)
"""The columns: thousandths of a CPU, the share of periods without any; PSI is percent of the last ten seconds."""

UNKNOWN = "-"
SHORTEST = 0.05
"""The shortest interval in seconds; what is used in less says little."""
_TOP_OF_SCREEN = "\033[H\033[J"


@click.command()
@click.argument("names", nargs=-1, metavar="[POD...]", shell_complete=complete_pods)
@click.option("-w", "--watch", is_flag=True, help="Go on until Ctrl-C; a table is drawn anew on a terminal.")
@click.option(
    "--interval",
    default="1s",
    show_default=True,
    metavar="DURATION",
    help="The time between two looks, for which CPU, IO and network are told.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--prometheus", is_flag=True, help="Print counters in the text format of Prometheus, at once.")
@click.pass_obj
def stats(
    application: Application,
    names: tuple[str, ...],
    watch: bool,
    interval: str,
    output: str,
    prometheus: bool,
) -> int:
    """Print what Pods and their containers use, of all that run or of those that are named.

    CPU is in thousandths of a CPU; of the network a Pod is told, whose containers share it. With --watch json is a
    line each time. --prometheus prints the names that cAdvisor has, for a collector that runs this command.
    """
    seconds = _seconds(interval)
    if prometheus and (watch or output != "table"):
        raise InputError("--prometheus is a format of its own, printed once", hint="leave out -w and -o")
    application.require_root()
    pods = _chooser(application, names)
    if prometheus:
        _print_prometheus(pods())
        return 0
    try:
        for found in _readings(pods, seconds):
            shown = [pod for pod in found if pod.running or names]
            if output == "json":
                _print_json(shown, pretty=not watch)
            else:
                click.echo(_TOP_OF_SCREEN if watch and sys.stdout.isatty() else "", nl=False)
                _print_table(shown)
            if not watch:
                break
    except KeyboardInterrupt:
        return 130
    return 0


def _seconds(interval: str) -> float:
    from pyrun.cli.durations import FOREVER, parse_duration

    found = parse_duration(interval)
    if not SHORTEST <= found < FOREVER:
        raise InputError(
            f'"--interval {interval}" is not between {SHORTEST:g}s and a week', hint="1s is usual"
        )
    return found


def _chooser(application: Application, names: tuple[str, ...]) -> Callable[[], Sequence[PodDirectory]]:
    """Return what says which Pods are looked at: the named ones, or all that there are by then. NotFound."""
    from pyrun.runtime.pods import find, pod_directories

    if not names:
        return lambda: pod_directories(application.layout)
    found = list({pod.uid: pod for pod in (find(application.layout, name) for name in names)}.values())
    return lambda: found


def _readings(pods: Callable[[], Sequence[PodDirectory]], interval: float) -> Iterator[Sequence[PodStats]]:
    """Yield what Pods use, for ever, after each interval."""
    from pyrun.runtime.stats import Meter

    told: set[str] = set()

    def tell_once(error: StateError) -> None:
        if str(error) not in told:
            told.add(str(error))
            complain(error)

    meter = Meter(tell_once)
    meter.read(pods())
    while True:
        time.sleep(interval)
        yield meter.read(pods())


def _print_prometheus(pods: Sequence[PodDirectory]) -> None:
    from pyrun.cli.prometheus import exposition
    from pyrun.runtime.stats import looks

    for line in exposition(looks(pods, complain)):
        click.echo(line)


def _print_json(pods: Sequence[PodStats], *, pretty: bool) -> None:
    import msgspec

    value = {"items": pods}
    if pretty:
        print_json(value)
    else:
        click.echo(msgspec.json.encode(value).decode())


def _print_table(pods: Sequence[PodStats]) -> None:
    print_table(HEADERS, rows(pods))
    for line in notes(pods):
        click.echo(line)


def rows(pods: Sequence[PodStats]) -> list[list[str]]:
    """Return a line for each Pod, and below it one for each container that runs."""
    found = []
    for pod in pods:
        found.append([_title(pod), "", *cells(pod.usage)])
        found += [["", container.name, *cells(container.usage)] for container in pod.containers]
    return found


def _title(pod: PodStats) -> str:
    return pod.name if pod.namespace == "default" else f"{pod.namespace}/{pod.name}"


def cells(usage: Usage) -> list[str]:
    """Return the columns of a line after the names."""
    from pyrun.spec.quantity import size

    bytes_per_second = (
        usage.read_bytes_per_second,
        usage.written_bytes_per_second,
        usage.received_bytes_per_second,
        usage.sent_bytes_per_second,
    )
    shares = (usage.pressure_cpu, usage.pressure_memory, usage.pressure_io)
    return [
        UNKNOWN if usage.cpu is None else f"{usage.cpu * 1000:.0f}m",
        UNKNOWN if usage.throttled is None else f"{usage.throttled:.0%}",
        _of(usage.memory, usage.memory_limit, size),
        UNKNOWN if usage.working_set is None else size(usage.working_set),
        UNKNOWN if usage.oom_kills is None else str(usage.oom_kills),
        _of(usage.pids, usage.pids_limit, str),
        *(UNKNOWN if rate is None else size(rate) for rate in bytes_per_second),
        *(UNKNOWN if share is None else f"{share:.1f}" for share in shares),
    ]


def _of(current: int | None, limit: int | None, write: Callable[[int], str]) -> str:
    if current is None:
        return UNKNOWN
    return f"{write(current)}/{'max' if limit is None else write(limit)}"


def notes(pods: Sequence[PodStats]) -> list[str]:
    """Return what explains the columns that say `-`."""
    from pyrun.cgroups.stats import COUNTED
    from pyrun.runtime.stats import PRESSURE

    missing = {name for pod in pods for name in pod.missing}
    found = []
    if lacking := [name for name in COUNTED if name in missing]:
        found.append(
            f"no cgroup controller for {', '.join(lacking)} here: - is unknown (remedy: pyrun check)"
        )
    if PRESSURE in missing:
        found.append("the kernel measures no pressure: - below PSI (remedy: boot with psi=1)")
    found += [f"Pod {_title(pod)} does not run" for pod in pods if not pod.running]
    return found
