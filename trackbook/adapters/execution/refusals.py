"""Refusals and warnings that several executors share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.names import did_you_mean
from trackbook.engine.paths import join


def refused_service(task: Task, executor: str) -> Refused:
    """Return the refusal of a serving task by an executor that serves nothing."""
    message = f"task {task.name!r} serves a model, which the executor {executor!r} does not do"
    hint = "Name a Backend.AI cluster by `executor: backendai/NAME`, or set `skip: true` on it to run the rest."
    return Refused("serving_unsupported", message, f"tasks[{task.index}]", hint=hint)


def unknown_slots(task: Task, offered: Iterable[str], who: str) -> Iterator[Warned]:
    """Yield a warning for each slot that a task asks for and that an executor's sessions (`who`) don't have."""
    slots = list(offered)
    for slot, amount in task.resources.items():
        if slot not in slots and amount:
            message = f"task {task.name!r} asks for {slot}, which {who} are not given"
            hint = did_you_mean(slot, slots)
            place = join(("tasks", task.index, "resources", slot))
            yield Warned("resource_ignored", f"{message}. {hint}" if hint else message, place)
