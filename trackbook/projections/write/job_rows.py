"""A job's rows and its tasks' in the read model: the engine's states, with times, counts and texts."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from trackbook.engine.job_state import JobState, TaskState, evolve, touched
from trackbook.events import job as job_events
from trackbook.projections.decoded_commit import DecodedCommit
from trackbook.projections.times import to_micros
from trackbook.projections.views import JobStates

CANT_FOLLOW = (LookupError, ValueError, TypeError, AttributeError)
"""What folding raises for events that are well formed and can't follow."""

_encode = msgspec.json.Encoder().encode
_RUNNING = frozenset(("launching", "running"))
_DONE = frozenset(("succeeded", "skipped"))


class TaskRow(Struct, gc=False):
    """A task instance; the fields are the columns.

    `run_time` is in microseconds, by a clock that can't be set; None where nobody measured it.
    """

    idx: int
    name: str
    dependencies: list[int]
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
    warning: str = ""
    service: str = ""


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


_End = job_events.AttemptSucceeded | job_events.AttemptFailed | job_events.AttemptCancelled


class FoldedJob(Struct):
    """A job as the engine folds it, its rows, and which of those changed since they were last stored.

    The state of the job and of its tasks is the engine's; rows add times, counts and texts. `results` are the
    tasks' results in JSON, by index, that were not stored yet; each may have 1 MiB, so none is kept longer.
    """

    job: JobRow
    tasks: list[TaskRow]
    state: JobState
    changed: dict[int, None] = field(default_factory=dict)
    results: dict[int, bytes] = field(default_factory=dict)
    new: bool = False

    def apply(self, commit: DecodedCommit, upto: int | None = None) -> None:
        """Take a commit's events, or those up to an index; raises for events that can't follow."""
        self.job.revision, self.job.seq = commit.version, commit.seq
        events = commit.events if upto is None else commit.events[: upto + 1]
        commit.states = _encode([self._take(event, commit) for event in events])

    def _take(self, event: job_events.AnyJobEvent, commit: DecodedCommit) -> JobStates:
        names = touched(self.state, event)
        self.state = evolve(self.state, event)
        self._note(event, commit)
        self.job.state = self.state.status
        moved = (self._move(self.state.tasks[name]) for name in names)
        return JobStates(self.state.status, {task.shape.name: task.status for task in moved if task})

    def _note(self, event: job_events.AnyJobEvent, commit: DecodedCommit) -> None:  # noqa: C901 - one case per event, as a table
        """Keep the times and texts of an event."""
        match event:
            case job_events.TaskLaunchRequested():
                self._launch(self._row(event.task), commit.at)
            case job_events.TaskStarted():
                self._row(event.task).started_at = to_micros(event.at)
            case job_events.AttemptSucceeded():
                row = self._end(event, 0, None)
                row.warning = event.warning
                row.service = msgspec.json.encode(event.service).decode() if event.service else ""
                if event.result is not None:
                    self.results[row.idx] = _encode(event.result)
            case job_events.AttemptFailed():
                row = self._end(event, event.error.exit_code, event.error.signal)
                row.error, row.tail, row.fault = event.error.message, event.error.tail, event.error.fault
            case job_events.AttemptCancelled():
                self._end(event, event.exit_code, event.signal)
            case job_events.TaskStatusReported():
                row = self._row(event.task)
                row.executor_status, row.executor_message = event.status, event.message
                row.link = event.link or row.link
            case job_events.JobCreated():
                self.tasks = _rows(event)
            case job_events.JobStarted():
                self.job.started_at = to_micros(event.at)
            case job_events.JobCancelRequested():
                self.job.reason = event.reason
            case job_events.JobFailing():
                self.job.reason = f"task {event.task} failed"
            case job_events.JobSucceeded() | job_events.JobCancelled() | job_events.JobFailed():
                self._conclude(event, commit.at)
            case job_events.TaskSucceeded() | job_events.TaskFailed() | job_events.TaskCancelled():
                pass
            case job_events.TaskSkipped() | job_events.TaskStopRequested():
                pass

    def _row(self, name: str) -> TaskRow:
        """Return a task's row, which is about to change."""
        index = self.state.tasks[name].index
        self.changed[index] = None
        return self.tasks[index]

    def _move(self, task: TaskState) -> TaskState | None:
        """Take over a task's state, into the job's counts as well, and return it if it is another one."""
        row = self.tasks[task.index]
        if row.state == task.status:
            return None
        self.changed[task.index] = None
        self._count(row.state, -1)
        self._count(task.status, 1)
        row.state, row.attempt, row.session = task.status, task.attempt, task.session
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

    @staticmethod
    def _launch(row: TaskRow, at: int) -> None:
        row.launched_at = at
        row.executor_status = row.executor_message = row.link = ""
        row.started_at = row.finished_at = row.run_time = row.exit_code = row.signal = None
        row.error = row.tail = row.fault = row.warning = row.service = ""

    def _end(self, event: _End, exit_code: int | None, signal: int | None) -> TaskRow:
        row = self._row(event.task)
        row.finished_at, row.exit_code, row.signal = to_micros(event.at), exit_code, signal
        row.run_time = None if event.run_time is None else round(event.run_time * 1e6)
        return row

    def _conclude(
        self, event: job_events.JobSucceeded | job_events.JobCancelled | job_events.JobFailed, at: int
    ) -> None:
        self.job.finished_at = at
        if isinstance(event, job_events.JobFailed):
            error = event.error
            self.job.failed_task, self.job.error = event.task, f"task {event.task} failed: {error.message}"
            self.job.exit_code, self.job.signal, self.job.tail = error.exit_code, error.signal, error.tail


def new_job(commit: DecodedCommit) -> FoldedJob:
    """Begin a job with its first commit (apply it afterwards); raises ValueError when it isn't one."""
    event = commit.events[0] if commit.events else None
    if not isinstance(event, job_events.JobCreated):
        raise ValueError(  # noqa: TRY004 - it is the value that is wrong
            f"a job begins with JobCreated, not with {commit.types[0] if commit.types else 'nothing'}"
        )
    job = JobRow(
        no=commit.seq,
        id=commit.id,
        pipeline=event.pipeline,
        pipeline_name=event.pipeline_name,
        version=event.version,
        definition=event.definition,
        executor=event.executor,
        parameters=msgspec.json.encode(event.parameters).decode(),
        actor=commit.actor,
        created_at=commit.at,
        revision=commit.version,
        seq=commit.seq,
        total=len(event.tasks),
    )
    return FoldedJob(job, [], JobState(commit.id), new=True)


def _rows(event: job_events.JobCreated) -> list[TaskRow]:
    indexes = {shape.name: index for index, shape in enumerate(event.tasks)}
    return [
        TaskRow(
            index,
            shape.name,
            [indexes[name] for name in shape.dependencies],
            executor=shape.executor or event.executor,
        )
        for index, shape in enumerate(event.tasks)
    ]


def job_from_rows(job: dict[str, Any], tasks: list[dict[str, Any]], state: JobState) -> FoldedJob:
    """Put a job together from its stored rows (`dependencies` in JSON) and its state."""
    return FoldedJob(JobRow(**job), [_stored_row(task) for task in tasks], state)


def _stored_row(task: dict[str, Any]) -> TaskRow:
    fields = {name: value for name, value in task.items() if name != "job"}
    fields["dependencies"] = msgspec.json.decode(fields["dependencies"], type=list[int])
    return TaskRow(**fields)
