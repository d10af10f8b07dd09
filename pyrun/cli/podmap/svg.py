"""A map as a picture in SVG: rows of processes, bands of the namespaces they share, the tree of cgroups.

It follows the colours of its viewer (prefers-color-scheme), has its own ground for those that have none, and its text
is text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from pyrun.cli.podmap.style import STYLE, TINTS
from pyrun.cli.podmap.words import cells, columns, cut, note, printable, title
from pyrun.runtime.map import KINDS, Group, Held, PodMap, Role

MARGIN = 24
NAMES = 178
COLUMN = 92
ROW = 38
TREE_ROW = 26
WIDTH = 2 * MARGIN + NAMES + COLUMN * len(KINDS)
_NAME_CHARACTERS = 22
_TITLE_CHARACTERS = 60
_PAD = 4
_TREE_LEFT = MARGIN + NAMES + _PAD
_TREE_COLUMN = 104


def draw(pod_map: PodMap) -> str:
    """Return the picture."""
    held = pod_map.held()
    top = 96
    below = top + ROW * len(pod_map.members)
    legend = below + 30
    tree = legend + 52
    end = tree + 22 + TREE_ROW * (len(pod_map.groups()) + 1)
    said = note(pod_map)
    height = end + (26 if said else 0) + MARGIN - 8
    name = escape(f"Pod {pod_map.namespace}/{pod_map.name}")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">{name}: namespaces and cgroups</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="10"/>',
        *_head(pod_map),
        '<g id="namespaces">',
        *_headings(top),
        *_rows(pod_map, top),
        *_bands(pod_map, held, top),
        "</g>",
        *_legend(legend),
        '<g id="cgroups">',
        *_tree(pod_map, tree),
        "</g>",
        *([_text(MARGIN, end + 20, said, "note")] if said else []),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _head(pod_map: PodMap) -> Iterator[str]:
    name = cut(f"{pod_map.namespace}/{pod_map.name}", _TITLE_CHARACTERS)
    yield _text(MARGIN, MARGIN + 14, f"Pod {name}", "title")
    yield _text(WIDTH - MARGIN, MARGIN + 14, f"{pod_map.status} · {pod_map.uid}", "mono faint end")


def _headings(top: int) -> Iterator[str]:
    for column, kind in enumerate(KINDS):
        yield _text(_left(column) + COLUMN / 2, top - 12, kind.value, "head middle")


def _rows(pod_map: PodMap, top: int) -> Iterator[str]:
    """Draw the names of the processes, with lines between what they are."""
    before: Role | None = None
    for number, member in enumerate(pod_map.members):
        y = top + ROW * number
        if member.role is not before:
            yield _line(MARGIN, y, WIDTH - MARGIN, y, "rule")
        before = member.role
        pid = "" if member.pid is None else f"process {member.pid}"
        middle = y + ROW / 2
        yield _text(MARGIN, middle - 2 if pid else middle + 4, cut(member.title, _NAME_CHARACTERS), "name")
        if pid:
            yield _text(MARGIN, middle + 13, pid, "small faint")
        if not member.inodes:
            yield _text(_left(0) + _PAD, middle + 4, "does not run", "small faint")
    y = top + ROW * len(pod_map.members)
    yield _line(MARGIN, y, WIDTH - MARGIN, y, "rule")


def _bands(pod_map: PodMap, held: Sequence[Held], top: int) -> Iterator[str]:
    """Draw each namespace over the rows of those that hold it; rows that lie together are one band."""
    lettered = [one for one in held if one.letter]
    for one in held:
        column = KINDS.index(one.kind)
        kind = one.holding.value
        tint = f" t{lettered.index(one) % TINTS}" if one.letter else ""
        rows = [
            number
            for number, member in enumerate(pod_map.members)
            if member.inodes and member.inodes[column] == one.inode
        ]
        for first, last in _runs(rows):
            x, y = _left(column) + _PAD, top + ROW * first + _PAD
            height = ROW * (last - first + 1) - 2 * _PAD
            width = COLUMN - 2 * _PAD
            yield (f'<rect class="{kind}{tint}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')
            yield from _band_text(one, x + width / 2, y + height / 2, tall=last > first)


def _band_text(one: Held, x: float, middle: float, *, tall: bool) -> Iterator[str]:
    word = one.letter or (one.holding.value if tall else "")
    kind = one.holding.value
    if tall:
        yield _text(x, middle - 3, word, f"{'letter' if one.letter else 'word'} on-{kind} middle")
        yield _text(x, middle + 14, str(one.inode), f"inode on-{kind} middle")
    else:
        yield _text(x, middle + 4, f"{word} {one.inode}".strip(), f"inode on-{kind} middle")


def _runs(rows: Sequence[int]) -> list[tuple[int, int]]:
    """Return numbers that follow one another as (first, last)."""
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and runs[-1][1] == row - 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))
    return runs


def _legend(y: int) -> Iterator[str]:
    entries = (
        ("shared t0", "shared in the Pod: one letter, one namespace", 330),
        ("own", "of this one alone", 170),
        ("host", "the host's", 120),
    )
    x = MARGIN
    for style, words, width in entries:
        yield f'<rect class="{style}" x="{x}" y="{y - 11}" width="22" height="14" rx="4"/>'
        yield _text(x + 30, y, words, "small")
        x += width


def _tree(pod_map: PodMap, y: int) -> Iterator[str]:
    shown = columns(pod_map)
    yield _text(MARGIN, y, "cgroups", "head")
    path = cut(printable(pod_map.group.path), 96)
    yield _text(WIDTH - MARGIN, y, path, "mono faint end")
    y += 14
    yield _line(MARGIN, y, WIDTH - MARGIN, y, "rule")
    xs = [_TREE_LEFT + _TREE_COLUMN * number for number in range(len(shown))]
    for x, column in zip(xs, shown, strict=True):
        yield _text(x, y + 18, column.title.lower(), "small faint")
    ys: dict[str, float] = {}
    for number, (depth, group) in enumerate(pod_map.groups(), 1):
        middle = y + TREE_ROW * number + TREE_ROW / 2 - 2
        ys[group.path] = middle
        name = cut(title(pod_map, group, depth), _NAME_CHARACTERS + 2 - 2 * depth)
        yield _text(MARGIN + 22 * depth, middle + 4, name, "name")
        for x, cell in zip(xs, cells(group, shown), strict=True):
            yield _text(x, middle + 4, cell, "mono")
    yield from _tree_lines(pod_map.group, 0, ys)


def _tree_lines(group: Group, depth: int, ys: dict[str, float]) -> Iterator[str]:
    """Draw the lines from a group to those below it."""
    if not group.children:
        return
    x = MARGIN + 22 * depth + 6
    yield _line(x, ys[group.path] + 10, x, ys[group.children[-1].path], "branch")
    for child in group.children:
        yield _line(x, ys[child.path], x + 12, ys[child.path], "branch")
        yield from _tree_lines(child, depth + 1, ys)


def _left(column: int) -> int:
    return MARGIN + NAMES + COLUMN * column


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'
