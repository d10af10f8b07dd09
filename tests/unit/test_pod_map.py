"""The map of a Pod as text, graph and picture, from values: no kernel is asked."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrun.cgroups.cpu import CpuUse
from pyrun.cgroups.memory import MemoryUse
from pyrun.cgroups.pids import PidsUse
from pyrun.cgroups.stats import CpuLimits, GroupUse
from pyrun.cli.podmap import dot, svg, text
from pyrun.cli.podmap.words import cut
from pyrun.namespaces.table import Namespace
from pyrun.runtime.map import KINDS, Group, Holding, Member, PodMap, Role
from pyrun.spec.quantity import size

UID = "5dd074dc-2e43-4faa-bbbc-40d88163e315"
TOP = f"/sys/fs/cgroup/pyrun/{UID}"
PICTURE = Path(__file__).parents[2] / "docs/pod-map.svg"

HOST_INODES = tuple(4026531834 + number for number in range(len(KINDS)))
"""uts, ipc, net, time, pid, mnt, cgroup, user."""


def inodes(*own: int | None) -> tuple[int | None, ...]:
    """The namespaces of a process; 0 stands for the host's."""
    return tuple(host if inode == 0 else inode for inode, host in zip(own, HOST_INODES, strict=True))


def member(name: str, pid: int, *own: int | None, role: Role = Role.CONTAINER) -> Member:
    return Member(role=role, name=name, pid=pid, inodes=inodes(*own))


HOST = Member(role=Role.HOST, name="host", inodes=HOST_INODES)
SHARED = (4026532249, 4026532250, 4026532252, 4026532247, 4026532251)
PAUSE = member("pause", 100, *SHARED, 4026532248, 0, 0, role=Role.PAUSE)
WEB = member("web", 102, *SHARED, 4026532300, 4026532301, 0)
LOG = member("log", 104, *SHARED, 4026532302, 4026532303, 0)


def monitor(name: str, pid: int) -> Member:
    return Member(role=Role.MONITOR, name=name, pid=pid, inodes=HOST_INODES)


def use(*, processes: tuple[int, ...] = (), controllers: bool = True, frozen: bool = False) -> GroupUse:
    return GroupUse(
        taken_ns=0,
        populated=True,
        frozen=frozen,
        freeze=frozen,
        processes=processes,
        cpu=CpuUse(usage_us=1_234_567),
        cpu_limits=CpuLimits(weight=29, quota_us=50000, period_us=100000) if controllers else None,
        memory=MemoryUse(current=3 << 20, working_set=0, anonymous=0, file=0, limit=64 << 20)
        if controllers
        else None,
        pids=PidsUse(current=2) if controllers else None,
    )


def groups(*, controllers: bool = True) -> Group:
    leaves = (("pause", (100,)), ("ctr-log", (104,)), ("ctr-web", (102, 105)), ("monitors", (101, 103)))
    return Group(
        name=UID,
        path=TOP,
        use=use(controllers=controllers),
        children=tuple(
            Group(
                name=name,
                path=f"{TOP}/{name}",
                use=use(processes=pids, controllers=controllers, frozen=name == "ctr-log"),
            )
            for name, pids in leaves
        ),
    )


def pod_map(*members: Member, group: Group | None = None, name: str = "pair") -> PodMap:
    return PodMap(
        name=name,
        namespace="default",
        uid=UID,
        status="Running",
        members=(*members, HOST),
        group=group or groups(),
    )


PAIR = pod_map(PAUSE, WEB, LOG, monitor("web", 101), monitor("log", 103))
STOPPED = pod_map(
    Member(role=Role.PAUSE, name="pause"),
    Member(role=Role.CONTAINER, name="web"),
    group=Group(name=UID, path=TOP),
)


def test_the_whole_text() -> None:
    assert text.draw(PAIR).splitlines() == [
        f"Pod default/pair   Running   {UID}",
        "",
        "                PID  uts   ipc   net   time  pid   mnt   cgroup  user",
        "pause           100  A     B     C     D     E     own   host    host",
        "web             102  A     B     C     D     E     own   own     host",
        "log             104  A     B     C     D     E     own   own     host",
        "monitor of web  101  host  host  host  host  host  host  host    host",
        "monitor of log  103  host  host  host  host  host  host  host    host",
        "host                 host  host  host  host  host  host  host    host",
        "",
        "a letter: shared in the Pod   own: held by this one alone   host: the host's",
        "",
        "NAMESPACE        INODE       HELD BY",
        "uts        A     4026532249  pause, web, log",
        "ipc        B     4026532250  pause, web, log",
        "net        C     4026532252  pause, web, log",
        "time       D     4026532247  pause, web, log",
        "pid        E     4026532251  pause, web, log",
        "mnt        own   4026532248  pause",
        "mnt        own   4026532300  web",
        "mnt        own   4026532302  log",
        "cgroup     own   4026532301  web",
        "cgroup     own   4026532303  log",
        "uts        host  4026531834  monitor of web, monitor of log, host",
        "ipc        host  4026531835  monitor of web, monitor of log, host",
        "net        host  4026531836  monitor of web, monitor of log, host",
        "time       host  4026531837  monitor of web, monitor of log, host",
        "pid        host  4026531838  monitor of web, monitor of log, host",
        "mnt        host  4026531839  monitor of web, monitor of log, host",
        "cgroup     host  4026531840  pause, monitor of web, monitor of log, host",
        "user       host  4026531841  pause, web, log, monitor of web, monitor of log, host",
        "",
        TOP,
        "CGROUP       STATE      PROCS  CPU TIME  CPU.MAX       WEIGHT  MEMORY/MAX  PIDS/MAX",
        "5dd074dc     populated  0      1.23s     50000/100000  29      3Mi/64Mi    2/max",
        "├─ pause     populated  1      1.23s     50000/100000  29      3Mi/64Mi    2/max",
        "├─ ctr-log   frozen     1      1.23s     50000/100000  29      3Mi/64Mi    2/max",
        "├─ ctr-web   populated  2      1.23s     50000/100000  29      3Mi/64Mi    2/max",
        "└─ monitors  populated  2      1.23s     50000/100000  29      3Mi/64Mi    2/max",
    ]


def test_what_has_no_controller_is_said_once_and_is_no_zero() -> None:
    drawn = text.draw(pod_map(PAUSE, WEB, group=groups(controllers=False)))
    assert "CGROUP       STATE      PROCS  CPU TIME\n" in drawn
    assert drawn.count("no controller for cpu, memory, pids") == 1
    assert "MEMORY" not in drawn
    for picture in (
        svg.draw(pod_map(PAUSE, group=groups(controllers=False))),
        dot.draw(pod_map(PAUSE, group=groups(controllers=False))),
    ):
        assert picture.count("no controller for cpu, memory, pids") == 1
        assert "memory/max" not in picture


def test_a_group_without_what_another_has_says_so() -> None:
    top = Group(
        name=UID,
        path=TOP,
        use=use(),
        children=(Group(name="pause", path=f"{TOP}/pause", use=use(controllers=False)),),
    )
    lines = text.draw(pod_map(PAUSE, group=top)).splitlines()
    assert lines[-1] == "└─ pause  populated  0      1.23s     -             -       -           -"
    assert not any("no controller" in line for line in lines)


def test_a_stopped_pod() -> None:
    lines = text.draw(STOPPED).splitlines()
    assert "pause  none  -     -     -     -     -     -     -       -" in lines
    assert "web    none  -     -     -     -     -     -     -       -" in lines
    assert lines[-1] == "5dd074dc  gone"
    assert svg.draw(STOPPED).count("does not run") == 2
    assert dot.draw(STOPPED).count("does not run") == 2


@pytest.mark.parametrize(
    ("members", "kind", "expected"),
    [
        ((PAUSE, WEB), Namespace.UTS, [(Holding.SHARED, "A", ("pause", "web"))]),
        ((PAUSE,), Namespace.UTS, [(Holding.OWN, "", ("pause",))]),
        ((PAUSE, WEB), Namespace.USER, [(Holding.HOST, "", ("pause", "web", "host"))]),
        (
            (PAUSE, WEB, LOG),
            Namespace.MOUNT,
            [
                (Holding.OWN, "", ("pause",)),
                (Holding.OWN, "", ("web",)),
                (Holding.OWN, "", ("log",)),
            ],
        ),
        # An old container and a new pause: two namespaces of a kind are shared, each has its letter.
        (
            (PAUSE, WEB, member("x", 7, 9, *SHARED[1:], 1, 2, 0), member("y", 8, 9, *SHARED[1:], 3, 4, 0)),
            Namespace.UTS,
            [(Holding.SHARED, "A", ("pause", "web")), (Holding.SHARED, "B", ("x", "y"))],
        ),
        (
            (member("c", 7, 5, 6, 0, 7, 0, 1, 2, 0), member("d", 8, 5, 6, 0, 7, 0, 3, 4, 0)),
            Namespace.NETWORK,
            [(Holding.HOST, "", ("c", "d", "host"))],
        ),
    ],
    ids=["shared", "of one", "host's", "own", "two shared of one kind", "host network"],
)
def test_who_holds_a_namespace(
    members: tuple[Member, ...], kind: Namespace, expected: list[tuple[Holding, str, tuple[str, ...]]]
) -> None:
    found = [held for held in pod_map(*members).held() if held.kind is kind]
    alone = [held for held in found if not (held.holding is Holding.HOST and held.holders == ("host",))]
    assert [(held.holding, held.letter, held.holders) for held in alone] == expected


def test_letters_are_given_once() -> None:
    letters = [held.letter for held in PAIR.held() if held.letter]
    assert letters == ["A", "B", "C", "D", "E"]


def test_a_kernel_without_time_namespaces() -> None:
    without = member("web", 102, 1, 2, 3, None, 5, 6, 7, 0)
    drawn = text.draw(pod_map(without))
    assert "web   102  own   own   own   -     own   own   own     host" in drawn
    assert svg.draw(pod_map(without))


names = st.text("abcxyz-0123456789", min_size=1, max_size=63)


@settings(deadline=None)
@given(st.lists(names, min_size=1, max_size=12, unique=True), names, st.booleans())
def test_text_fits_a_terminal_whatever_the_names(containers: list[str], name: str, controllers: bool) -> None:
    members = [PAUSE]
    members += [member(c, 4194304, *SHARED, 10**10 - 1, 10**10 - 2, 0) for c in containers]
    members += [monitor(c, 4194304) for c in containers]
    top = Group(
        name=UID,
        path=TOP,
        use=use(controllers=controllers),
        children=tuple(
            Group(name=f"ctr-{c}", path=f"{TOP}/ctr-{c}", use=use(controllers=controllers))
            for c in containers
        ),
    )
    drawn = text.draw(pod_map(*members, group=top, name=name))
    assert max(map(len, drawn.splitlines())) <= 100


@settings(deadline=None)
@given(st.text(max_size=40))
def test_a_group_by_any_name_breaks_no_picture(name: str) -> None:
    top = Group(name=UID, path=TOP, children=(Group(name=name, path=f"{TOP}/{name}", use=use()),))
    strange = pod_map(PAUSE, group=top)
    assert "\033" not in text.draw(strange)
    ElementTree.fromstring(svg.draw(strange))
    assert balanced(dot.draw(strange))


def balanced(graph: str) -> bool:
    """Whether every string of a graph ends in its line."""
    return all(re.fullmatch(r'(?:[^"]|"(?:[^"\\]|\\.)*")*', line) is not None for line in graph.split("\n"))


def test_the_graph() -> None:
    graph = dot.draw(PAIR)
    assert 'uts_4026532249 [label="A uts\\n4026532249"' in graph
    for holder in ("pause/pause", "container/web", "container/log"):
        assert f'"{holder}" -> uts_4026532249;' in graph
    assert '"monitor/web" [label="monitor of web\\nprocess 101\\nthe host\'s: all"];' in graph
    assert f'"{TOP}" -> "{TOP}/ctr-web";' in graph
    assert "memory/max 3Mi/64Mi" in graph


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
@pytest.mark.parametrize("drawn", [PAIR, STOPPED], ids=["pair", "stopped"])
def test_graphviz_takes_the_graph(drawn: PodMap) -> None:
    result = subprocess.run(
        ["dot", "-Tplain"], input=dot.draw(drawn), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "4026532249" in result.stdout or drawn is STOPPED


SVG = "{http://www.w3.org/2000/svg}"


def words(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def rectangles(picture: str, style: str) -> list[dict[str, str]]:
    found = ElementTree.fromstring(picture).findall(f".//{SVG}g[@id='namespaces']/{SVG}rect")
    return [element.attrib for element in found if element.attrib["class"].split()[0] == style]


def test_a_shared_namespace_is_one_band_over_its_rows() -> None:
    picture = svg.draw(PAIR)
    bands = rectangles(picture, "shared")
    assert len(bands) == 5
    assert {band["class"] for band in bands} == {f"shared t{number}" for number in range(5)}
    assert {float(band["height"]) for band in bands} == {svg.ROW * 3 - 8}
    assert len(rectangles(picture, "own")) == 5
    host = rectangles(picture, "host")
    assert sorted(float(band["height"]) for band in host) == sorted(
        [svg.ROW - 8, *(svg.ROW * 3 - 8 for _ in range(7)), svg.ROW * 6 - 8]
    )


def test_a_namespace_held_by_rows_apart_is_two_bands_of_one_colour() -> None:
    picture = svg.draw(pod_map(PAUSE, member("alone", 9, 1, 2, 3, 4, 5, 6, 7, 0), WEB))
    assert [band["class"] for band in rectangles(picture, "shared")].count("shared t0") == 2
    assert words(picture).count("A 4026532249") == 2


def test_nothing_of_the_picture_is_outside_of_it() -> None:
    for drawn in (PAIR, STOPPED, pod_map(PAUSE, group=groups(controllers=False))):
        root = ElementTree.fromstring(svg.draw(drawn))
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for element in root.iter():
            for attribute, limit in (("x", width), ("x2", width), ("y", height), ("y2", height)):
                assert 0 <= float(element.attrib.get(attribute, 0)) <= limit
            across = float(element.attrib.get("x", 0)) + float(element.attrib.get("width", 0))
            assert element is root or across <= width


def test_the_picture_has_what_the_text_has() -> None:
    found = words(svg.draw(PAIR))
    for held in PAIR.held():
        assert any(str(held.inode) in word for word in found)
    for word in (
        "Pod default/pair",
        "process 102",
        "monitor of web",
        "ctr-web",
        "3Mi/64Mi",
        "50000/100000",
        TOP,
    ):
        assert word in found


def shape(picture: str) -> list[str]:
    """What a picture is made of: elements, classes and words, without what is another Pod's: numbers and places."""
    found = []
    for element in ElementTree.fromstring(picture).iter():
        word = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|/\S+|^[0-9a-f]{8}$", "X", element.text or "")
        word = re.sub(r"\d[\d.]*(m?s|[KM]i)?", "N", word) if element.tag != f"{SVG}style" else word
        found.append(f"{element.tag.removeprefix(SVG)} {element.attrib.get('class', '')} {word}")
    return found


def test_the_picture_of_the_readme_is_one_the_command_makes_today() -> None:
    """It shows a Pod of two containers with a shared PID namespace."""
    picture = PICTURE.read_text()
    leaves = ("pause", "ctr-httpd", "ctr-watcher", "monitors")
    root = ElementTree.fromstring(picture)
    with_controllers = "memory/max" in words(picture)
    group = Group(
        name=UID,
        path=TOP,
        use=use(controllers=with_controllers),
        children=tuple(
            Group(name=name, path=f"{TOP}/{name}", use=use(controllers=with_controllers)) for name in leaves
        ),
    )
    members = (
        PAUSE,
        msgspec.structs.replace(WEB, name="httpd"),
        msgspec.structs.replace(LOG, name="watcher"),
    )
    today = svg.draw(
        pod_map(*members, monitor("httpd", 101), monitor("watcher", 103), group=group, name="web")
    )
    assert root.attrib["viewBox"] == ElementTree.fromstring(today).attrib["viewBox"]
    # Limits are the Pod's affair, cells of the tree are not compared.
    assert without_cells(shape(picture)) == without_cells(shape(today))


def without_cells(lines: list[str]) -> list[str]:
    start = next(number for number, line in enumerate(lines) if line.endswith(" cgroups"))
    return [line for number, line in enumerate(lines) if number < start or not line.startswith("text mono ")]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1536, "1.5Ki"),
        (10240, "10Ki"),
        (1048575, "1Mi"),
        (1023 << 20, "1023Mi"),
        (5 << 29, "2.5Gi"),
        (1 << 60, "1024Pi"),
    ],
)
def test_size(count: int, expected: str) -> None:
    assert size(count) == expected


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(3, 60))
def test_what_is_cut_is_as_long_as_it_may_be(given_text: str, width: int) -> None:
    found = cut(given_text, width)
    assert found == given_text if len(given_text) <= width else len(found) == width
