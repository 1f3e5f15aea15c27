"""The graph between tasks: its cycles, and how deep and wide it is. Names in, names out; linear in its edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

Graph = Mapping[str, Sequence[str]]
"""The dependencies of each task."""


def cycles(graph: Graph, limit: int) -> list[list[str]]:
    """Return up to `limit` cycles in the order of flow, each beginning with its first task in `graph`."""
    rank = {name: index for index, name in enumerate(graph)}
    found: list[list[str]] = []
    done: set[str] = set()
    for start in graph:
        for stack in _back_edges(graph, start, done):
            upstream = stack[::-1]
            first = upstream.index(min(upstream, key=rank.__getitem__))
            found.append(upstream[first:] + upstream[:first])
            if len(found) == limit:
                return found
    return found


def _back_edges(graph: Graph, start: str, done: set[str]) -> Iterator[list[str]]:
    """Walk from `start` against the flow, without recursion, and yield the stretch that each back edge closes."""
    if start in done:
        return
    stack, standing = [start], {start: 0}
    walks = [iter(graph[start])]
    while stack:
        dependency = next(walks[-1], None)
        if dependency is None:
            name = stack.pop()
            walks.pop()
            del standing[name]
            done.add(name)
        elif dependency in standing:
            yield stack[standing[dependency] :]
        elif dependency in graph and dependency not in done:
            standing[dependency] = len(stack)
            stack.append(dependency)
            walks.append(iter(graph[dependency]))


def levels(graph: Graph) -> dict[str, int]:
    """Return for each task the number of tasks in the longest chain that ends with it; without cycles only."""
    waiting = {name: len(dependencies) for name, dependencies in graph.items()}
    successors: dict[str, list[str]] = {name: [] for name in graph}
    for name, dependencies in graph.items():
        for dependency in dependencies:
            successors[dependency].append(name)
    level = {name: 1 for name, count in waiting.items() if not count}
    ready = list(level)
    for name in ready:
        for successor in successors[name]:
            waiting[successor] -= 1
            level[successor] = max(level.get(successor, 0), level[name] + 1)
            if not waiting[successor]:
                ready.append(successor)
    return level


def depth_and_width(graph: Graph) -> tuple[int, int]:
    """Return the number of tasks in the longest chain, and the most tasks that stand on one level."""
    level = levels(graph)
    return max(level.values(), default=0), max(Counter(level.values()).values(), default=0)
