"""The nearest known name for one that is not known."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` was most probably meant to be, or None when none is near."""
    best: str | None = None
    best_distance = max(1, len(name) // 3) + 1
    if len(name) > 100:
        return None
    for candidate in sorted(known):
        if candidate.lower() == name.lower():
            return candidate
        if abs(len(candidate) - len(name)) >= best_distance:
            continue
        distance = _distance(name.lower(), candidate.lower())
        if distance < best_distance:
            best, best_distance = candidate, distance
    return best


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean "X"?` for the nearest known name, or nothing."""
    candidate = nearest(name, known)
    return f', did you mean "{candidate}"?' if candidate else ""


def _distance(left: str, right: str) -> int:
    """Return the optimal string alignment distance: insertions, deletions, changes, neighbours swapped."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        current = [i]
        for j, b in enumerate(right, 1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]
