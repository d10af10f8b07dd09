"""A map as a graph for Graphviz: processes, the namespaces they hold, the cgroup tree."""

from __future__ import annotations

from collections.abc import Iterator

from pyrun.cli.podmap.words import cells, columns, note, title
from pyrun.runtime.map import Group, Holding, Member, PodMap, Role

COLOURS = ("#cfe3ff", "#ffe0c2", "#d5f0d0", "#f3d6f5", "#fff2b3", "#cdeff0", "#ffd6d6", "#e2dcff")


def draw(pod_map: PodMap) -> str:
    """Return the graph. What is the host's is named in the processes: an edge to each would hide the rest."""
    lines = [
        f"digraph {_quoted(pod_map.name)} {{",
        "  rankdir=LR;",
        f"  label={_quoted(f'Pod {pod_map.namespace}/{pod_map.name} ({pod_map.status})', pod_map.uid)};",
        "  labelloc=t;",
        '  fontname="sans-serif";',
        '  node [fontname="sans-serif", fontsize=11, shape=box, style="rounded,filled", fillcolor=white];',
        '  edge [color="#6b7280", arrowhead=none];',
        *_processes(pod_map),
        *_namespaces(pod_map),
        *_groups(pod_map),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _processes(pod_map: PodMap) -> Iterator[str]:
    of_host = [held for held in pod_map.held() if held.holding is Holding.HOST]
    for member in pod_map.members:
        if member.role is Role.HOST:
            label = _quoted("host", *(f"{held.kind.value} {held.inode}" for held in of_host))
            yield f'  {_node(member)} [label={label}, fillcolor="#e5e7eb"];'
            continue
        words = [held.kind.value for held in of_host if member.title in held.holders]
        kinds = f"the host's: {'all' if len(words) == len(of_host) else ', '.join(words)}"
        pid = "does not run" if member.pid is None else f"process {member.pid}"
        yield f"  {_node(member)} [label={_quoted(member.title, pid, *([kinds] if words else []))}];"


def _namespaces(pod_map: PodMap) -> Iterator[str]:
    by_title = {member.title: member for member in pod_map.members}
    lettered = 0
    for held in pod_map.held():
        if held.holding is Holding.HOST:
            continue
        colour = "white"
        if held.letter:
            colour = COLOURS[lettered % len(COLOURS)]
            lettered += 1
        label = _quoted(f"{held.letter} {held.kind.value}".strip(), str(held.inode))
        name = f"{held.kind.value}_{held.inode}"
        yield f'  {name} [label={label}, shape=ellipse, style=filled, fillcolor="{colour}"];'
        for holder in held.holders:
            yield f"  {_node(by_title[holder])} -> {name};"


def _groups(pod_map: PodMap) -> Iterator[str]:
    shown = columns(pod_map)
    yield "  subgraph cluster_cgroups {"
    yield f"    label={_quoted(pod_map.group.path, *([said] if (said := note(pod_map)) else []))};"
    yield '    color="#9ca3af";'
    for depth, group in pod_map.groups():
        values = (f"{c.title.lower()} {cell}" for c, cell in zip(shown, cells(group, shown), strict=True))
        label = _quoted(title(pod_map, group, depth), *values)
        yield f"    {_quoted(group.path)} [label={label}, shape=box, style=filled, fillcolor=white];"
        yield from _edges(group)
    yield "  }"


def _edges(group: Group) -> Iterator[str]:
    for child in group.children:
        yield f"    {_quoted(group.path)} -> {_quoted(child.path)};"


def _node(member: Member) -> str:
    return _quoted(f"{member.role.value}/{member.name}")


def _quoted(*lines: str) -> str:
    """Return lines as one string of the dot language."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for line in lines)
    return '"' + "\\n".join(escaped) + '"'
