"""What is to be done outside the core: derived from stored events, and at recovery again from a state."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from trackbook.engine.job_state import JobState
from trackbook.events import job as facts
from trackbook.events.job import AnyJobEvent


class Launch(Struct, frozen=True):
    """Have the session of a task's attempt launched, or adopted where it was launched before."""

    task: str
    attempt: int


class Stop(Struct, frozen=True):
    """Have the session of a task's attempt ended."""

    task: str
    attempt: int


Intent = Launch | Stop


def of(event: AnyJobEvent) -> Iterator[Intent]:
    """Yield what the event asks for, once it is stored."""
    match event:
        case facts.TaskLaunchRequested():
            yield Launch(event.task, event.attempt)
        case facts.TaskStopRequested():
            yield Stop(event.task, event.attempt)


def outstanding(state: JobState) -> Iterator[Intent]:
    """Yield what was asked for and is not confirmed: each launch before its stop."""
    for task in state.live():
        yield Launch(task.shape.name, task.attempt)
        if task.stop_requested:
            yield Stop(task.shape.name, task.attempt)
