"""The job: one run of a pipeline. Its commands, what it decides on them, and what follows from its events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, field

from trackbook.engine.errors import Refused
from trackbook.engine.job_state import JobState, TaskState
from trackbook.events import job as facts
from trackbook.events.job import AnyJobEvent, Fault, TaskError, TaskShape

Outcome = Literal["succeeded", "failed", "cancelled", "lost"]

# Commands ---------------------------------------------------------------------------------------------------


class JobCommand(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of a job's commands and reports; a report carries the times of what it reports."""


class StartJob(JobCommand, frozen=True):
    """Create the job from a pipeline's version; `definition` is the SHA-256 of that content."""

    pipeline: str
    pipeline_name: str
    version: int
    definition: str
    tasks: list[TaskShape]
    executor: str = "local"
    parameters: dict[str, str] = field(default_factory=dict)
    virtual_env: str = ""


class CancelJob(JobCommand, frozen=True):
    """End the job: nothing more starts, and what runs is stopped."""

    reason: str = "on request"


class PauseJob(JobCommand, frozen=True):
    """Launch no task until the job is resumed; running tasks continue."""

    reason: str = "on request"


class ResumeJob(JobCommand, frozen=True):
    """Continue, and launch the tasks that became ready during the pause."""


class ReportTaskStarted(JobCommand, frozen=True):
    """The session's command began to run at `at`."""

    task: str
    attempt: int
    at: datetime


class ReportTaskStatus(JobCommand, frozen=True):
    """The executor's own status of the session, why it is that where it is known, and where it is shown."""

    task: str
    attempt: int
    status: str
    message: str = ""
    link: str = ""


class ReportTaskEnded(JobCommand, frozen=True):
    """The session is gone. `started_at` is None when its command never ran; `tail` ends its output.

    `message` says why it did not succeed, or what is wrong with a success: a result that can't be used.
    `fault` says whose failure it is (see TaskError). `service` is how a serving task's service is reached, such
    as its `url`. `result` is the JSON value that the command left as its result, None where it left none; both
    count only for a success. `run_time` is in seconds, by a clock that can't be set, None where nobody measured
    it.
    """

    task: str
    attempt: int
    outcome: Outcome
    ended_at: datetime
    started_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    tail: str = ""
    fault: Fault = ""
    service: dict[str, str] = field(default_factory=dict)
    run_time: float | None = None
    result: Any = None


Report = ReportTaskStarted | ReportTaskStatus | ReportTaskEnded
AnyJobCommand = StartJob | CancelJob | PauseJob | ResumeJob | Report

# Decisions --------------------------------------------------------------------------------------------------


def decide(state: JobState, command: AnyJobCommand) -> list[AnyJobEvent]:
    """Return what happens, in facts; none where the command changes nothing. Raises Refused."""
    match command:
        case StartJob():
            return _start(state, command)
        case CancelJob():
            _require_going(state)
            return [] if state.ending else [facts.JobCancelRequested(command.reason)]
        case PauseJob():
            _require_unhindered(state)
            return [] if state.status == "paused" else [facts.JobPaused(command.reason)]
        case ResumeJob():
            _require_unhindered(state)
            return [facts.JobResumed()] if state.status == "paused" else []
        case _:
            return _handle_report(state, command)


def _start(state: JobState, command: StartJob) -> list[AnyJobEvent]:
    if state.created is not None:
        raise Refused("job_exists", f"the job {state.id} was created before")
    return [
        facts.JobCreated(
            command.pipeline,
            command.pipeline_name,
            command.version,
            command.definition,
            command.tasks,
            command.executor,
            command.parameters,
            command.virtual_env,
        )
    ]


def _require_going(state: JobState) -> None:
    if state.created is None:
        raise Refused("job_not_found", f"there is no job {state.id}")
    if state.ended:
        raise Refused("job_ended", f"the job has {state.status} already")


def _require_unhindered(state: JobState) -> None:
    _require_going(state)
    if state.status == "failing":
        raise Refused("job_failing", "a task failed, and the job is ending")
    if state.cancel:
        raise Refused("job_cancelling", f"the job is being cancelled: {state.cancel.reason}")


def _handle_report(state: JobState, report: Report) -> list[AnyJobEvent]:
    """Take a report: it counts only for the attempt that is live now, so late and doubled ones change nothing."""
    task = state.tasks.get(report.task)
    if task is None or task.attempt != report.attempt or not task.live:
        return []
    match report:
        case ReportTaskStatus():
            if (report.status, report.message) == (task.executor_status, task.executor_message):
                return []
            return [_status_reported(report)]
        case ReportTaskStarted():
            return _started(task, report.at)
        case ReportTaskEnded():
            return [*_started(task, report.started_at), _attempt_ended(task, report)]


def _status_reported(report: ReportTaskStatus) -> AnyJobEvent:
    return facts.TaskStatusReported(report.task, report.attempt, report.status, report.message, report.link)


def _started(task: TaskState, at: datetime | None) -> list[AnyJobEvent]:
    if at is None or task.status == "running":
        return []
    return [facts.TaskStarted(task.shape.name, task.attempt, at)]


def _attempt_ended(task: TaskState, report: ReportTaskEnded) -> AnyJobEvent:
    if report.outcome == "succeeded":
        return facts.AttemptSucceeded(
            report.task,
            report.attempt,
            report.ended_at,
            report.service,
            report.run_time,
            report.result,
            report.message,
        )
    if task.stop_requested:
        return facts.AttemptCancelled(
            report.task, report.attempt, report.ended_at, report.exit_code, report.signal, report.run_time
        )
    error = TaskError(
        report.message or report.outcome, report.exit_code, report.signal, report.tail, report.fault
    )
    return facts.AttemptFailed(report.task, report.attempt, report.ended_at, error, report.run_time)


# Reactions: the saga ----------------------------------------------------------------------------------------


def react(state: JobState, event: AnyJobEvent) -> list[AnyJobEvent]:
    """Return what follows at once from a new event; what is to be stopped is an event as well.

    Called once for each event after all events of its decision evolved, and never when a history is folded.
    """
    match event:
        case facts.TaskStarted() if not state.began and not state.ending:
            return [facts.JobStarted(event.at)]
        case facts.AttemptSucceeded() | facts.AttemptFailed() | facts.AttemptCancelled():
            return [_after_attempt(event)]
        case facts.TaskFailed() if not state.ending:
            return [facts.JobFailing(event.task)]
        case facts.JobCancelRequested() | facts.JobFailing():
            return [_stop(task) for task in state.live()] or _conclusion(state)
        case (
            facts.JobCreated()
            | facts.TaskSkipped()
            | facts.TaskSucceeded()
            | facts.TaskFailed()
            | facts.TaskCancelled()
        ):
            return _conclusion(state)
    return []


def _after_attempt(
    event: facts.AttemptSucceeded | facts.AttemptFailed | facts.AttemptCancelled,
) -> AnyJobEvent:
    """Return what follows for the task from the end of its attempt.

    An attempt that failed is the task's last one, because there are no retries yet: this is their place.
    """
    match event:
        case facts.AttemptSucceeded():
            return facts.TaskSucceeded(event.task)
        case facts.AttemptFailed():
            return facts.TaskFailed(event.task)
        case facts.AttemptCancelled():
            return facts.TaskCancelled(event.task)


def due(state: JobState) -> Iterator[AnyJobEvent]:
    """Yield the launches (or skips) that may happen now, first come first.

    Nothing is ready once the job is to end, and nothing is launched while it is paused.
    """
    if state.status in ("pending", "running"):
        yield from (_launch(state, name) for name in state.ready)


def _launch(state: JobState, name: str) -> AnyJobEvent:
    task = state.tasks[name]
    if task.shape.skip:
        return facts.TaskSkipped(name)
    attempt = task.attempt + 1
    return facts.TaskLaunchRequested(name, attempt, session_name(state.id, task.index, attempt))


def _stop(task: TaskState) -> AnyJobEvent:
    return facts.TaskStopRequested(task.shape.name, task.attempt)


def session_name(job: str, index: int, attempt: int) -> str:
    """Return the one name that an attempt's session ever has."""
    return f"tb-{job}-{index}-{attempt}"


def job_of(session: str) -> str:
    """Return the id of the job that an attempt's session is named after."""
    return session.removeprefix("tb-").rsplit("-", 2)[0]


def _conclusion(state: JobState) -> list[AnyJobEvent]:
    if state.undone:
        return []
    if state.cause:
        return [facts.JobFailed(*state.cause)]
    if state.cancel:
        return [facts.JobCancelled(state.cancel.reason)]
    return [facts.JobSucceeded()]
