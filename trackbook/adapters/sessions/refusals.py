"""What several executors refuse in the same words."""

from __future__ import annotations

from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused


def refused_service(task: Task, executor: str) -> Refused:
    """Return the refusal of a serving task by an executor that serves nothing."""
    message = f"task {task.name!r} serves a model, which the executor {executor!r} does not do"
    hint = "Name a Backend.AI cluster by `executor: backendai/NAME`, or set `skip: true` on it to run the rest."
    return Refused("serving_unsupported", message, f"tasks[{task.index}]", hint=hint)
