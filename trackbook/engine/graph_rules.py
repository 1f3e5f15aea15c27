"""What the graph of a pipeline's tasks must be: dependencies on other tasks, each once, without a circle."""

from __future__ import annotations

from typing import Any

from trackbook.engine import graph
from trackbook.engine.findings import AT_MOST, Findings, Path, spell_value
from trackbook.engine.names import printable


def check_graph(tasks: list[Any], first_of: dict[str, int], found: Findings) -> None:
    """Note what is wrong with the dependencies; `first_of` has the index of each task by its name."""
    edges: dict[str, list[str]] = {}
    for name, index in first_of.items():
        edges[name] = _dependencies(name, tasks[index], ("tasks", index, "dependencies"), first_of, found)
    for cycle in graph.cycles(edges, AT_MOST):
        index = first_of[cycle[0]]
        position = tasks[index]["dependencies"].index(cycle[-1])
        place = ("tasks", index, "dependencies", position)
        found.no("cycle", f"the tasks wait for one another: {_chain(cycle)}", place)


def _dependencies(name: str, task: dict[str, Any], at: Path, known: dict[str, int], found: Findings) -> list[str]:
    """Return the dependencies that can stand in the graph, having noted what is wrong with the others."""
    given = task.get("dependencies")
    good: dict[str, None] = {}
    for position, dependency in enumerate(given if isinstance(given, list) else ()):
        place = (*at, position)
        if dependency is None:
            found.no("wrong_type", "the dependency is empty; expected the name of a task", place)
        elif not isinstance(dependency, str):
            continue
        elif dependency == name:
            found.no("self_dependency", f"task {spell_value(name)} depends on itself", place)
        elif dependency not in known:
            message = f"task {spell_value(name)} depends on {spell_value(dependency)}, which isn't a task"
            found.no("unknown_dependency", message, place, found.suggest(dependency, known))
        elif dependency in good:
            found.no(
                "duplicate_dependency",
                f"task {spell_value(name)} depends on {spell_value(dependency)} twice",
                place,
            )
        else:
            good[dependency] = None
    return list(good)


def _chain(cycle: list[str]) -> str:
    shown = cycle if len(cycle) <= 12 else [*cycle[:10], f"({len(cycle) - 11} more)", cycle[-1]]
    return printable(" → ".join([*shown, cycle[0]]))
