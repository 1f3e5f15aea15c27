"""What one reviews before a run: how many tasks, how they hang together, and what they ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from trackbook.engine import effective, graph


class Summary(Struct, frozen=True):
    """A pipeline in figures.

    `depth` is the number of tasks in the longest chain, `width` the most tasks that stand side by side.
    `total` is what all tasks would use at once, `largest` the most that a single one asks for: numbers by slot,
    `mem` and `shmem` in bytes, all nodes of a cluster counted. Skipped tasks ask for nothing.
    """

    tasks: int
    skipped: int
    dependencies: int
    depth: int
    width: int
    total: dict[str, int | float]
    largest: dict[str, int | float]
    images: list[str]


def summary(content: Mapping[str, Any]) -> Summary:
    """Return the figures of a checked content."""
    tasks = effective.tasks(content)
    total: Counter[str] = Counter()
    largest: dict[str, int | float] = {}
    running = [task for task in tasks.values() if not task.skip]
    for task in running:
        for slot, amount in _asked(task).items():
            total[slot] += amount  # type: ignore[assignment]  # a Counter of fractions too
            largest[slot] = max(largest.get(slot, 0), amount)
    depth, width = graph.depth_and_width({name: task.dependencies for name, task in tasks.items()})
    return Summary(
        tasks=len(tasks),
        skipped=len(tasks) - len(running),
        dependencies=sum(len(task.dependencies) for task in tasks.values()),
        depth=depth,
        width=width,
        total=dict(total),
        largest=largest,
        images=list(dict.fromkeys(task.image for task in running if task.image)),
    )


def _asked(task: effective.Task) -> dict[str, int | float]:
    asked = dict(task.resources)
    if task.shmem:
        asked["shmem"] = task.shmem
    return {slot: amount * task.cluster_size for slot, amount in asked.items() if amount}
