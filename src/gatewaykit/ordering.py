"""Order by declared relations: ``before`` and ``after`` name objects, ``tier`` and the given order break ties."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from gatewaykit.errors import PluginError
from gatewaykit.protocols import Named

T = TypeVar("T", bound=Named)


def solve(items: Sequence[T]) -> tuple[T, ...]:
    """``items`` such that every ``before`` and ``after`` holds; among the free ones lower ``tier`` comes first, then
    the order given.

    Names that are not present are passed over: a plugin may declare its place beside one that is not installed. Raises
    :class:`~gatewaykit.errors.PluginError` naming the objects of a cycle.
    """
    rank = {item.name: (getattr(item, "tier", 0), place) for place, item in enumerate(items)}
    by_name = {item.name: item for item in items}
    graph: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(by_name, ()))
    for item in items:
        for earlier in getattr(item, "after", ()):
            if earlier in by_name:
                graph.add(item.name, earlier)
        for later in getattr(item, "before", ()):
            if later in by_name:
                graph.add(later, item.name)
    try:
        graph.prepare()
    except CycleError as error:
        names = list(dict.fromkeys(error.args[1]))
        raise PluginError(", ".join(names), "before/after form a cycle: " + " → ".join(error.args[1])) from None
    ready: list[tuple[tuple[int, int], str]] = []
    solved: list[T] = []
    while graph.is_active():
        for name in graph.get_ready():
            heapq.heappush(ready, (rank[name], name))
        _, name = heapq.heappop(ready)
        solved.append(by_name[name])
        graph.done(name)
    return tuple(solved)
