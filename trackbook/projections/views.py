"""The views that readers get, as in the contract. Times are RFC 3339 in UTC with microseconds."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, field

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
T = TypeVar("T")


class Page(Struct, Generic[T]):
    """A part of a list; `next` is the cursor of the part that follows, null at the end.

    `total` is how many items the whole list has, if it was asked for.
    """

    items: list[T]
    next: str | None = None
    total: int | UnsetType = UNSET


class PipelineView(Struct):
    """A pipeline at its last version; `problem` says why it is blocked, if it is."""

    id: str
    name: str
    description: str
    version: int
    state: str
    tasks: int
    created_at: Time
    updated_at: Time
    actor: str
    seq: int
    problem: str | None = None


class VersionView(Struct):
    """A version of a pipeline: one commit of an edit session. `changes` are the types of its events."""

    pipeline: str
    version: int
    name: str
    at: Time
    actor: str
    seq: int
    tasks: int
    events: int
    changes: list[str]
    restored: int | None = None


class TaskCounts(Struct):
    """How many tasks a job has, and how many of them are where."""

    total: int
    waiting: int
    running: int
    done: int
    failed: int
    cancelled: int


class JobView(Struct):
    """A job. `exit_code`, `signal` and `tail` (last lines of output) are those of the task that failed.

    `revision` counts the job's commits; `problem` says why it is blocked, if it is. `clock_jump` says by
    how many seconds the clock was moved back between `started_at` and `finished_at`, if it was.
    """

    id: str
    pipeline: str
    pipeline_name: str
    version: int
    definition: str
    state: str
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    run_time: float | None
    clock_jump: float | None
    error: str | None
    failed_task: str | None
    exit_code: int | None
    signal: int | None
    tail: str | None
    reason: str | None
    actor: str
    executor: str
    parameters: dict[str, str]
    tasks: TaskCounts
    revision: int
    seq: int
    problem: str | None


class TaskView(Struct):
    """A task instance. `run_time` is in seconds; `executor_status` is the executor's own word.

    `clock_jump` says by how many seconds the clock was moved between `started_at` and `finished_at`, if it was.

    `executor_message` says why it is that, `link` is where the executor's own interface shows the session,
    `fault` whose failure it is (see TaskError), `service` how a service is reached, such as its `url`.

    `result` is the JSON value that the task left as its result, null where it left none. Where several tasks are
    listed, one of more than 4 KiB is left out: the key is missing, and the task alone has it.

    `warning` says what is wrong with a success, such as a result that can't be used.
    """

    name: str
    index: int
    state: str
    attempt: int
    session: str | None
    executor: str
    executor_status: str | None
    executor_message: str | None
    link: str | None
    launched_at: Time | None
    started_at: Time | None
    finished_at: Time | None
    run_time: float | None
    clock_jump: float | None
    exit_code: int | None
    signal: int | None
    error: str | None
    tail: str | None
    fault: str | None
    warning: str | None
    service: dict[str, str] | None
    result: Any | UnsetType
    dependencies: list[str]


class JobMoment(Struct):
    """A job and its tasks after an event: `version.index`."""

    version: int
    index: int
    at: Time
    job: JobView
    tasks: list[TaskView]


class JobStates(Struct, omit_defaults=True):
    """The job's state after one of its events, and those of the tasks that the event brought into another one."""

    job: str
    tasks: dict[str, str] = field(default_factory=dict)


class EventView(Struct):
    """A stored event. `id` is aggregate/version/index; `causation_id` that of a command, report or event.

    `states` says what an event of a job led to; null for other kinds, and where a commit can't be projected.
    """

    seq: int
    index: int
    id: str
    aggregate: str
    kind: str
    aggregate_id: str
    version: int
    type: str
    at: Time
    actor: str
    correlation_id: str
    causation_id: str
    data: dict[str, Any] = field(default_factory=dict)
    states: JobStates | None = None


class CommitView(Struct):
    """A commit: who did what to which aggregate, and when."""

    seq: int
    aggregate: str
    kind: str
    aggregate_id: str
    pipeline: str | None
    version: int
    at: Time
    actor: str
    actors: list[str]
    events: int
    types: list[str]


class QuarantineView(Struct):
    """Sequences of the log (`seq` to `through`) that could not be projected, and why."""

    seq: int
    through: int
    kind: str | None
    aggregate_id: str | None
    reason: str
