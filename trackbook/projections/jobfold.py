"""A job and its tasks as the read model shows them, as a fold over the job's events."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from trackbook.events import job as facts
from trackbook.projections.decode import Fact
from trackbook.projections.times import to_micros

CANT_FOLLOW = (LookupError, ValueError, TypeError, AttributeError)
"""What folding raises for events that are well formed and can't follow."""

_RUNNING = frozenset(("launching", "running"))
_DONE = frozenset(("succeeded", "skipped"))


class TaskRow(Struct, gc=False):
    """A task instance; the fields are the columns. `waiting` counts the dependencies that aren't done.

    `run_time` is in microseconds, by a clock that can't be set; None where nobody measured it.
    """

    idx: int
    name: str
    dependencies: list[int]
    waiting: int
    state: str = "pending"
    attempt: int = 0
    session: str = ""
    executor: str = ""
    executor_status: str = ""
    executor_message: str = ""
    link: str = ""
    launched_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    run_time: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str = ""
    tail: str = ""
    fault: str = ""
    result: str = ""


class JobRow(Struct):
    """A job; the fields are the columns. `no` is the sequence of its first commit, `seq` of its last one.

    `running` counts tasks with a session, `done` those that succeeded or were skipped.
    """

    no: int
    id: str
    pipeline: str
    pipeline_name: str
    version: int
    definition: str
    executor: str
    parameters: str
    actor: str
    created_at: int
    revision: int
    seq: int
    total: int
    state: str = "pending"
    started_at: int | None = None
    finished_at: int | None = None
    error: str = ""
    failed_task: str = ""
    exit_code: int | None = None
    signal: int | None = None
    tail: str = ""
    reason: str = ""
    problem: str = ""
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0


_End = facts.TaskSucceeded | facts.TaskFailed | facts.TaskCancelled


class JobFold(Struct):
    """A job with its tasks, and which of them changed since they were last stored."""

    job: JobRow
    tasks: list[TaskRow]
    numbers: dict[str, int]
    successors: list[list[int]]
    changed: dict[int, None] = field(default_factory=dict)
    new: bool = False

    @classmethod
    def of(cls, job: JobRow, tasks: list[TaskRow]) -> JobFold:
        """Put stored rows together again; what is derived is computed again."""
        successors: list[list[int]] = [[] for _ in tasks]
        for task in tasks:
            for number in task.dependencies:
                successors[number].append(task.idx)
        return cls(job, tasks, {task.name: task.idx for task in tasks}, successors)

    def apply(self, fact: Fact, upto: int | None = None) -> None:
        """Take a commit's events, or those up to an index; raises for events that can't follow."""
        self.job.revision, self.job.seq = fact.version, fact.seq
        for event in fact.events if upto is None else fact.events[: upto + 1]:
            self._take(event, fact)

    def _take(self, event: facts.AnyJobEvent, fact: Fact) -> None:  # noqa: C901 - one case a fact, as a table
        match event:
            case facts.TaskLaunchRequested():
                self._launch(self._task(event.task), event, fact.at)
            case facts.TaskStarted():
                self._task(event.task).started_at = to_micros(event.at)
                self._move(self._task(event.task), "running")
            case facts.TaskSucceeded():
                task = self._task(event.task)
                task.result = msgspec.json.encode(event.result).decode() if event.result else ""
                self._end(task, "succeeded", event, 0, None)
                self._release(event.task)
            case facts.TaskFailed():
                task = self._task(event.task)
                task.error, task.tail, task.fault = event.error.message, event.error.tail, event.error.fault
                self._end(task, "failed", event, event.error.exit_code, event.error.signal)
            case facts.TaskCancelled():
                self._end(self._task(event.task), "cancelled", event, event.exit_code, event.signal)
            case facts.TaskSkipped():
                self._move(self._task(event.task), "skipped")
                self._release(event.task)
            case facts.TaskStatusReported():
                task = self._move(self._task(event.task), None)
                task.executor_status, task.executor_message = event.status, event.message
                task.link = event.link or task.link
            case facts.JobStarted():
                self.job.state, self.job.started_at = "running", to_micros(event.at)
            case facts.JobCancelRequested():
                self._cancel(event)
            case facts.JobSucceeded() | facts.JobCancelled() | facts.JobFailed():
                self._conclude(event, fact.at)
            case facts.JobCreated() | facts.TaskStopRequested():
                pass

    def _task(self, name: str) -> TaskRow:
        return self.tasks[self.numbers[name]]

    def _move(self, task: TaskRow, state: str | None) -> TaskRow:
        """Note a change of the task, and of the job's counts if it is one of state."""
        self.changed[task.idx] = None
        if state is not None and state != task.state:
            self._count(task.state, -1)
            self._count(state, 1)
            task.state = state
        return task

    def _count(self, state: str, change: int) -> None:
        if state in _RUNNING:
            self.job.running += change
        elif state in _DONE:
            self.job.done += change
        elif state == "failed":
            self.job.failed += change
        elif state == "cancelled":
            self.job.cancelled += change

    def _launch(self, task: TaskRow, event: facts.TaskLaunchRequested, at: int) -> None:
        task.attempt, task.session, task.launched_at = event.attempt, event.session, at
        task.executor_status = task.executor_message = task.link = ""
        task.started_at = task.finished_at = task.run_time = task.exit_code = task.signal = None
        task.error = task.tail = task.fault = task.result = ""
        self._move(task, "launching")

    def _end(self, task: TaskRow, state: str, event: _End, exit_code: int | None, signal: int | None) -> None:
        task.finished_at, task.exit_code, task.signal = to_micros(event.at), exit_code, signal
        task.run_time = None if event.run_time is None else round(event.run_time * 1e6)
        self._move(task, state)

    def _release(self, name: str) -> None:
        for number in self.successors[self.numbers[name]]:
            task = self.tasks[number]
            task.waiting -= 1
            if not task.waiting and task.state == "pending":
                self._move(task, "ready")

    def _cancel(self, event: facts.JobCancelRequested) -> None:
        self.job.state, self.job.reason = "cancelling", event.reason
        for task in self.tasks:
            if task.state in ("pending", "ready"):
                self._move(task, "cancelled")

    def _conclude(self, event: facts.JobSucceeded | facts.JobCancelled | facts.JobFailed, at: int) -> None:
        job = self.job
        job.finished_at = at
        if isinstance(event, facts.JobFailed):
            error = event.error
            job.state, job.failed_task = "failed", event.task
            job.error = f"task {event.task} failed: {error.message}"
            job.exit_code, job.signal, job.tail = error.exit_code, error.signal, error.tail
        else:
            job.state = "succeeded" if isinstance(event, facts.JobSucceeded) else "cancelled"


def created(fact: Fact) -> JobFold:
    """Begin a job with its first commit (apply it afterwards); raises ValueError when it isn't one."""
    event = fact.events[0] if fact.events else None
    if not isinstance(event, facts.JobCreated):
        raise ValueError(  # noqa: TRY004 - it is the value that is wrong
            f"a job begins with JobCreated, not with {fact.types[0] if fact.types else 'nothing'}"
        )
    numbers = {shape.name: index for index, shape in enumerate(event.tasks)}
    rows = [_row(index, shape, numbers, event.executor) for index, shape in enumerate(event.tasks)]
    job = JobRow(
        no=fact.seq,
        id=fact.id,
        pipeline=event.pipeline,
        pipeline_name=event.pipeline_name,
        version=event.version,
        definition=event.definition,
        executor=event.executor,
        parameters=msgspec.json.encode(event.parameters).decode(),
        actor=fact.actor,
        created_at=fact.at,
        revision=fact.version,
        seq=fact.seq,
        total=len(rows),
    )
    fold = JobFold.of(job, rows)
    fold.new = True
    return fold


def _row(index: int, shape: facts.TaskShape, numbers: dict[str, int], executor: str) -> TaskRow:
    dependencies = [numbers[name] for name in shape.dependencies]
    state = "pending" if dependencies else "ready"
    return TaskRow(index, shape.name, dependencies, len(dependencies), state, executor=shape.executor or executor)


def restored(job: dict[str, Any], tasks: list[dict[str, Any]]) -> JobFold:
    """Put a job together from its stored rows (`dependencies` in JSON)."""
    rows = [_stored_row(task) for task in tasks]
    for row in rows:
        row.waiting = sum(rows[number].state not in _DONE for number in row.dependencies)
    return JobFold.of(JobRow(**job), rows)


def _stored_row(task: dict[str, Any]) -> TaskRow:
    fields = {name: value for name, value in task.items() if name != "job"}
    fields["dependencies"] = msgspec.json.decode(fields["dependencies"], type=list[int])
    return TaskRow(waiting=0, **fields)
