"""The events of a job: one run of a pipeline, from its creation to one terminal event.

A storage format: fields are only added, with defaults. Times are UTC; `task` is the task's name. `run_time` is in
seconds, by a clock that can't be set, and left out where nobody measured it. The end of an attempt says how its
session ended, the end of a task what follows from that; both are in one commit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, field


class JobEvent(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of the events of a job."""


class TaskShape(Struct, frozen=True, omit_defaults=True):
    """A task's place in the graph: its dependencies by name, in the order of its inputs.

    `executor` is '' where the task's sessions run on the job's.
    """

    name: str
    dependencies: list[str] = field(default_factory=list)
    skip: bool = False
    executor: str = ""


Fault = Literal["", "permanent", "infrastructure", "operator", "unknown"]
"""Whose failure it is: '' the command's own; `permanent`, the same request would be refused again;
`infrastructure`, it may work another time; `operator`, somebody has to act first;
`unknown`, the end can't be determined."""


class TaskError(Struct, frozen=True, omit_defaults=True):
    """Why a task failed: one sentence, the exit code or signal, and the last lines of its output."""

    message: str
    exit_code: int | None = None
    signal: int | None = None
    tail: str = ""
    fault: Fault = ""


class JobCreated(JobEvent, frozen=True):
    """The job was created from a version of a pipeline; `definition` is that content's SHA-256.

    `virtual_env` is the Python virtual environment of local tasks: that of the command that started the job.
    """

    pipeline: str
    pipeline_name: str
    version: int
    definition: str
    tasks: list[TaskShape]
    executor: str = "local"
    parameters: dict[str, str] = field(default_factory=dict)
    virtual_env: str = ""


class JobStarted(JobEvent, frozen=True):
    """The first session of the job began to run."""

    at: datetime


class TaskSkipped(JobEvent, frozen=True):
    """The task is marked `skip`: its dependencies are done, and it counts as done without a session."""

    task: str


class TaskLaunchRequested(JobEvent, frozen=True):
    """The task's dependencies are done; a session is to be launched under this name."""

    task: str
    attempt: int
    session: str


class TaskStarted(JobEvent, frozen=True):
    """The session's command began to run."""

    task: str
    attempt: int
    at: datetime


class TaskStatusReported(JobEvent, frozen=True):
    """The executor's own status of the session, as it names it; `message` says why it is that.

    `link` is where the executor's own interface shows the session, '' where it has none.
    """

    task: str
    attempt: int
    status: str
    message: str = ""
    link: str = ""


class TaskStopRequested(JobEvent, frozen=True):
    """The session is to be ended."""

    task: str
    attempt: int


class AttemptSucceeded(JobEvent, frozen=True):
    """The session's command ended with exit code 0, or its service is healthy.

    `service` is how a serving task's service is reached: `url`, `service` (its name), `id`. `result` is the JSON
    value that the command left as its result, None where it left none. `warning` says what is wrong all the same,
    such as a result that can't be used.
    """

    task: str
    attempt: int
    at: datetime
    service: dict[str, str] = field(default_factory=dict)
    run_time: float | None = None
    result: Any = None
    warning: str = ""


class AttemptFailed(JobEvent, frozen=True):
    """The session's command failed, could not be run, or was lost."""

    task: str
    attempt: int
    at: datetime
    error: TaskError
    run_time: float | None = None


class AttemptCancelled(JobEvent, frozen=True):
    """The session is confirmed gone after it was asked to stop."""

    task: str
    attempt: int
    at: datetime
    exit_code: int | None = None
    signal: int | None = None
    run_time: float | None = None


class TaskSucceeded(JobEvent, frozen=True):
    """The task is done, because its last attempt succeeded: tasks that depend on it may start."""

    task: str


class TaskFailed(JobEvent, frozen=True):
    """The task failed for good, because its last attempt failed and there is no other one."""

    task: str


class TaskCancelled(JobEvent, frozen=True):
    """The task was cancelled, because its last attempt was."""

    task: str


class JobCancelRequested(JobEvent, frozen=True):
    """Somebody cancelled the job: no other task starts, and the running ones are to be stopped."""

    reason: str


class JobFailing(JobEvent, frozen=True):
    """The task failed, and the job with it: no other task starts, and the running ones are to be stopped."""

    task: str


class JobPaused(JobEvent, frozen=True):
    """No task is launched until the job is resumed; running tasks continue."""

    reason: str


class JobResumed(JobEvent, frozen=True):
    """What is ready is launched again."""


class JobSucceeded(JobEvent, frozen=True):
    """Every task is done."""


class JobFailed(JobEvent, frozen=True):
    """A task failed and every session is confirmed gone."""

    task: str
    error: TaskError


class JobCancelled(JobEvent, frozen=True):
    """The job was cancelled on request and every session is confirmed gone."""

    reason: str


AnyJobEvent = (
    JobCreated
    | JobStarted
    | TaskSkipped
    | TaskLaunchRequested
    | TaskStarted
    | TaskStatusReported
    | TaskStopRequested
    | AttemptSucceeded
    | AttemptFailed
    | AttemptCancelled
    | TaskSucceeded
    | TaskFailed
    | TaskCancelled
    | JobCancelRequested
    | JobFailing
    | JobPaused
    | JobResumed
    | JobSucceeded
    | JobFailed
    | JobCancelled
)
