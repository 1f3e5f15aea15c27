"""The state of a job and of its tasks: a fold over its events, and nothing else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Literal, get_args

from msgspec import Struct, field

from trackbook.events import job as facts
from trackbook.events.job import AnyJobEvent, TaskError, TaskShape

JobStatus = Literal["pending", "running", "paused", "failing", "cancelling", "succeeded", "failed", "cancelled"]
TaskStatus = Literal["pending", "ready", "launching", "running", "succeeded", "failed", "cancelled", "skipped"]
LIVE: frozenset[TaskStatus] = frozenset(("launching", "running"))
ENDED: frozenset[JobStatus] = frozenset(("succeeded", "failed", "cancelled"))
TASK_ENDED: frozenset[TaskStatus] = frozenset(("succeeded", "failed", "cancelled", "skipped"))
UNFINISHED: tuple[JobStatus, ...] = tuple(status for status in get_args(JobStatus) if status not in ENDED)


class TaskState(Struct, omit_defaults=True):
    """A task instance; `waiting` counts its dependencies that are not done yet.

    `attempt_ended`: the session of its last attempt is gone. `error`: why the last attempt that failed did so.
    `serves`: it has succeeded and offers a service, which is its session's for as long as the job runs.
    """

    shape: TaskShape
    index: int
    waiting: int
    status: TaskStatus = "pending"
    attempt: int = 0
    session: str = ""
    stop_requested: bool = False
    attempt_ended: bool = False
    error: TaskError | None = None
    executor_status: str = ""
    executor_message: str = ""
    serves: bool = False

    @property
    def live(self) -> bool:
        """Whether its session is launched, or to be, and not confirmed gone."""
        return self.status in LIVE and not self.attempt_ended


class JobState(Struct, omit_defaults=True):
    """A job as its events left it. Counters keep every step as cheap as the task's out-degree.

    `undone` counts the tasks that have not ended. `ready` holds those to launch, first come first; it is ordered
    by links, so that its first is found at once however many were taken before. `began`: a session of it has run.
    `cause` is the first task that failed, and why its last attempt did.
    """

    id: str
    created: facts.JobCreated | None = None
    status: JobStatus = "pending"
    tasks: dict[str, TaskState] = field(default_factory=dict)
    successors: dict[str, list[str]] = field(default_factory=dict)
    ready: dict[str, None] = field(default_factory=OrderedDict)
    undone: int = 0
    began: bool = False
    cancel: facts.JobCancelRequested | None = None
    cause: tuple[str, TaskError] | None = None

    @property
    def ended(self) -> bool:
        """Whether the job had its terminal event."""
        return self.status in ENDED

    @property
    def ending(self) -> bool:
        """Whether a failure or a cancel keeps tasks from starting until the job has ended."""
        return self.status in ("failing", "cancelling")

    def live(self) -> Iterator[TaskState]:
        """Yield the tasks whose sessions are launched, or to be, and not confirmed gone."""
        return (task for task in self.tasks.values() if task.live)


# Fold -------------------------------------------------------------------------------------------------------


def evolve(state: JobState, event: AnyJobEvent) -> JobState:
    """Remember the event; changes and returns `state`, which the caller owns alone."""
    match event:
        case facts.TaskLaunchRequested():
            _begin_attempt(state, event)
        case facts.TaskStarted():
            state.tasks[event.task].status = "running"
        case facts.AttemptSucceeded() | facts.AttemptFailed() | facts.AttemptCancelled():
            _end_attempt(state.tasks[event.task], event)
        case facts.TaskSucceeded() | facts.TaskSkipped() | facts.TaskFailed() | facts.TaskCancelled():
            _end_task(state, event.task, _TASK_ENDS[type(event)])
        case facts.TaskStatusReported():
            state.tasks[event.task].executor_status = event.status
            state.tasks[event.task].executor_message = event.message
        case facts.TaskStopRequested():
            state.tasks[event.task].stop_requested = True
        case facts.JobCreated():
            _create(state, event)
        case facts.JobStarted():
            state.began = True
            state.status = "paused" if state.status == "paused" else "running"
        case facts.JobCancelRequested():
            state.cancel = event
            _begin_to_end(state, "cancelling")
        case facts.JobFailing():
            _begin_to_end(state, "failing")
        case facts.JobPaused():
            state.status = "paused"
        case facts.JobResumed():
            state.status = "running" if state.began else "pending"
        case facts.JobSucceeded() | facts.JobFailed() | facts.JobCancelled():
            state.status = _ENDS[type(event)]
    return state


_TASK_ENDS: dict[type[AnyJobEvent], TaskStatus] = {
    facts.TaskSucceeded: "succeeded",
    facts.TaskSkipped: "skipped",
    facts.TaskFailed: "failed",
    facts.TaskCancelled: "cancelled",
}
_ENDS: dict[type[AnyJobEvent], JobStatus] = {
    facts.JobSucceeded: "succeeded",
    facts.JobFailed: "failed",
    facts.JobCancelled: "cancelled",
}


def touched(state: JobState, event: AnyJobEvent) -> list[str]:
    """Return the names of the tasks whose states the event changes; `state` is the one before it."""
    match event:
        case facts.JobCreated():
            return [shape.name for shape in event.tasks]
        case facts.JobCancelRequested() | facts.JobFailing():
            return [name for name, task in state.tasks.items() if task.status in ("pending", "ready")]
        case facts.TaskSucceeded() | facts.TaskSkipped():
            return [event.task, *state.successors.get(event.task, ())]
        case facts.JobStarted() | facts.JobPaused() | facts.JobResumed():
            return []
        case facts.JobSucceeded() | facts.JobFailed() | facts.JobCancelled():
            return []
        case _:
            return [event.task]


def _create(state: JobState, event: facts.JobCreated) -> None:
    state.created = event
    state.undone = len(event.tasks)
    for index, shape in enumerate(event.tasks):
        dependencies = dict.fromkeys(shape.dependencies)
        state.tasks[shape.name] = TaskState(shape, index, waiting=len(dependencies))
        for dependency in dependencies:
            state.successors.setdefault(dependency, []).append(shape.name)
        if not shape.dependencies:
            _make_ready(state, shape.name)


def _begin_attempt(state: JobState, event: facts.TaskLaunchRequested) -> None:
    task = state.tasks[event.task]
    task.status, task.attempt, task.session = "launching", event.attempt, event.session
    task.attempt_ended = False
    state.ready.pop(event.task, None)


def _make_ready(state: JobState, name: str) -> None:
    state.tasks[name].status = "ready"
    state.ready[name] = None


def _end_attempt(
    task: TaskState, event: facts.AttemptSucceeded | facts.AttemptFailed | facts.AttemptCancelled
) -> None:
    task.attempt_ended = True
    if isinstance(event, facts.AttemptSucceeded):
        task.serves = bool(event.service)
    elif isinstance(event, facts.AttemptFailed):
        task.error = event.error


def _end_task(state: JobState, name: str, status: TaskStatus) -> None:
    task = state.tasks[name]
    task.status = status
    state.ready.pop(name, None)
    state.undone -= 1
    if status in ("succeeded", "skipped"):
        _release_successors(state, name)
    elif status == "failed" and task.error and not state.cause:
        state.cause = name, task.error


def _release_successors(state: JobState, name: str) -> None:
    for successor in state.successors.get(name, ()):
        task = state.tasks[successor]
        task.waiting -= 1
        if not task.waiting and task.status == "pending":
            _make_ready(state, successor)


def _begin_to_end(state: JobState, status: JobStatus) -> None:
    state.status = status
    for name, task in state.tasks.items():
        if task.status in ("pending", "ready"):
            _end_task(state, name, "cancelled")
