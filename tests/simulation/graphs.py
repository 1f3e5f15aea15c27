"""Random graphs of tasks, in the shapes that pipelines have."""

from __future__ import annotations

from random import Random

from trackbook.events.job import TaskShape

_SKIPPING = (0.0, 0.0, 0.1, 0.4, 1.0)


def random_graph(random: Random, most_tasks: int) -> list[TaskShape]:
    """Return a graph without cycles of up to so many tasks, declared in any order, some of them skipped."""
    size = random.choice((0, 1, 2, 4, 8, 16, random.randint(1, most_tasks), random.randint(1, most_tasks)))
    size = min(size, most_tasks)
    width = random.choice((1, 2, 4, 50))
    skipping = random.choice(_SKIPPING)
    names = [f"t{index}" for index in range(size)]
    tasks = [
        TaskShape(name, _dependencies(random, names[:index], width), random.random() < skipping)
        for index, name in enumerate(names)
    ]
    random.shuffle(tasks)
    return tasks


def _dependencies(random: Random, earlier: list[str], width: int) -> list[str]:
    """Choose among the last `width` tasks, so that a width of 1 is a chain and a large one a thicket."""
    near = earlier[-width:]
    most = random.choice((0, 1, 1, 2, 3, len(near)))
    return random.sample(near, min(most, len(near)))
