"""Globs as sets of names: whether one holds another, and what two have in common.

In the globs of keys and accounts ``*`` stands for any text and ``?`` for one character. Other principals may have
globs with ``[…]``; of these nothing is known here but that each holds itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

MOST_ALTERNATIVES = 64
"""Of what two globs have in common no more globs than these are listed; what goes beyond is left out."""

MOST_GLOBS = 256
_special = re.compile(r"[*?]").search
_run = re.compile(r"[*?]{2,}")


def covers(parents: Sequence[str], children: Iterable[str]) -> bool:
    """Whether each of ``children`` is, with all names that it matches, held by one of ``parents``.

    True is a proof; False may be said too often, as when two parents hold a child together.
    """
    return all(any(_covers(parent, child) for parent in parents) for child in children)


@lru_cache(maxsize=1024)
def common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Globs that match the names that both match: never another, and all of them within the bounds above."""
    if "*" in second:
        return first
    if "*" in first:
        return second
    found = (glob for one in first for other in second for glob in _common(one, other))
    return _without_held(sorted(set(found), key=lambda glob: (-glob.count("*"), len(glob), glob)))[:MOST_GLOBS]


def _covers(parent: str, child: str) -> bool:
    if parent in ("*", child):
        return True
    if "[" in parent or "[" in child:
        return False
    return _holds(_tidy(parent), _tidy(child))


def _holds(parent: str, child: str) -> bool:
    """Match ``parent`` with the text of ``child``, in which ``?`` is some character and ``*`` is only held by ``*``."""
    at, other, star, mark = 0, 0, -1, 0
    while other < len(child):
        here = parent[at] if at < len(parent) else ""
        if here == "*":
            star, mark = at, other
            at += 1
        elif here == child[other] or (here == "?" and child[other] != "*"):
            at += 1
            other += 1
        elif star >= 0:
            mark += 1
            at, other = star + 1, mark
        else:
            return False
    return parent[at:].strip("*") == ""


def _common(one: str, other: str) -> Iterable[str]:
    if _covers(one, other):
        return (other,)
    if _covers(other, one):
        return (one,)
    if "[" in one or "[" in other or not (_special(one) and _special(other)):
        return ()
    return {_tidy(glob) for glob in _Meeting(_tidy(one), _tidy(other)).of(0, 0)}


class _Meeting:
    """What two globs have in common, computed from the ends of both to their beginnings."""

    def __init__(self, one: str, other: str) -> None:
        self._one = one
        self._other = other
        self._known: dict[tuple[int, int], tuple[str, ...]] = {}

    def of(self, i: int, j: int) -> tuple[str, ...]:
        """Globs for what the rests of both, from ``i`` and ``j`` on, match."""
        if (i, j) not in self._known:
            self._known[i, j] = tuple(dict.fromkeys(self._meet(i, j)))[:MOST_ALTERNATIVES]
        return self._known[i, j]

    def _meet(self, i: int, j: int) -> Iterable[str]:
        if i == len(self._one) or j == len(self._other):
            rest = self._one[i:] + self._other[j:]
            return ("",) if rest.strip("*") == "" else ()
        left, right = self._one[i], self._other[j]
        if left == "*" and right == "*":
            return ["*" + rest for rest in (*self.of(i + 1, j), *self.of(i, j + 1))]
        if left == "*":
            return [*self.of(i + 1, j), *(right + rest for rest in self.of(i, j + 1))]
        if right == "*":
            return [*self.of(i, j + 1), *(left + rest for rest in self.of(i + 1, j))]
        if left == right or "?" in (left, right):
            return [(right if left == "?" else left) + rest for rest in self.of(i + 1, j + 1)]
        return ()


def _tidy(glob: str) -> str:
    """The same set of names, written in one way: of neighbouring ``*`` and ``?`` all ``?`` first and one ``*``."""
    return _run.sub(lambda run: "?" * run[0].count("?") + "*" * ("*" in run[0]), glob)


def _without_held(globs: Sequence[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for glob in globs:
        if not any(_covers(other, glob) for other in kept):
            kept.append(glob)
    return tuple(kept)
