"""A map as text: at most 100 columns, without colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyrun.cli.podmap.words import cells, columns, cut, note, title
from pyrun.namespaces.table import Namespace
from pyrun.runtime.map import KINDS, Group, Held, Holding, Member, PodMap

WIDTH = 100
_GAP = "  "


def draw(pod_map: PodMap) -> str:
    """Return the map: who is in which namespace, who holds each, the cgroup tree."""
    head = f"Pod {pod_map.namespace}/{pod_map.name}   {pod_map.status}   {pod_map.uid}"
    if len(head) > WIDTH:
        head = (
            f"Pod {cut(f'{pod_map.namespace}/{pod_map.name}', WIDTH - 4)}\n{pod_map.status}   {pod_map.uid}"
        )
    held = pod_map.held()
    parts = [head, _matrix(pod_map, held), _holders(held), _tree(pod_map)]
    return "\n\n".join(parts) + "\n"


def _matrix(pod_map: PodMap, held: Sequence[Held]) -> str:
    marks = {(one.kind, one.inode): one.letter or one.holding.value for one in held}
    rows = [["", "PID", *(kind.value for kind in KINDS)]]
    rows += [_matrix_row(member, marks) for member in pod_map.members]
    legend = "a letter: shared in the Pod   own: held by this one alone   host: the host's"
    return "\n".join((*_aligned(rows, right=(1,)), "", legend))


def _matrix_row(member: Member, marks: dict[tuple[Namespace, int], str]) -> list[str]:
    if not member.inodes:
        return [member.title, "none", *("-" for _ in KINDS)]
    pid = "" if member.pid is None else str(member.pid)
    found = (
        "-" if inode is None else marks[kind, inode] for kind, inode in zip(KINDS, member.inodes, strict=True)
    )
    return [member.title, pid, *found]


def _holders(held: Sequence[Held]) -> str:
    rows = [["NAMESPACE", "", "INODE", "HELD BY"]]
    for holding in Holding:
        for one in held:
            if one.holding is holding:
                mark = one.letter or one.holding.value
                rows.append([one.kind.value, mark, str(one.inode), ", ".join(one.holders)])
    lines = []
    room = WIDTH - 9 - 4 - 10 - 3 * len(_GAP)
    for kind, mark, inode, who in rows:
        first, *more = _wrapped(who, room)
        lines.append(f"{kind:<9}{_GAP}{mark:<4}{_GAP}{inode:<10}{_GAP}{first}")
        lines += [" " * (WIDTH - room) + line for line in more]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    """Break a list at its commas into lines that are not longer than `width`."""
    lines = [""]
    for word in (cut(name, width - 1) for name in text.split(", ")):
        if lines[-1] and len(lines[-1]) + 2 + len(word) + 1 > width:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] += f", {word}" if lines[-1] else word
    return lines


def _tree(pod_map: PodMap) -> str:
    shown = columns(pod_map)
    rows = [["CGROUP", *(column.title for column in shown)]]
    rows += [
        [branch + title(pod_map, group, depth), *cells(group, shown)]
        for branch, depth, group in _branches(pod_map.group)
    ]
    said = note(pod_map)
    lines = [pod_map.group.path, *_aligned(rows)]
    if said:
        lines += ["", *_sentence(said)]
    return "\n".join(lines)


def _branches(group: Group, depth: int = 0, above: str = "") -> Iterator[tuple[str, int, Group]]:
    """Yield each group with the lines that are drawn before its name."""
    if depth == 0:
        yield "", 0, group
    for number, child in enumerate(group.children):
        last = number == len(group.children) - 1
        yield above + ("└─ " if last else "├─ "), depth + 1, child
        yield from _branches(child, depth + 1, above + ("   " if last else "│  "))


def _sentence(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return rows as lines of equal columns; the first column is cut when they would be too long."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - len(_GAP) * (len(widths) - 1))
    lines = []
    for row in rows:
        cells_of_row = [cut(row[0], widths[0]), *row[1:]]
        padded = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells_of_row, widths, strict=True))
        )
        lines.append(_GAP.join(padded).rstrip())
    return lines
