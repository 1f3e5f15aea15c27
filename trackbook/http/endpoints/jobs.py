"""Reading jobs: their tasks, their events, and their state after any event."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get
from litestar.params import PathParameter, QueryParameter

from trackbook.engine.job_state import JobStatus, TaskStatus
from trackbook.http.endpoints.parameters import (
    PAGE,
    After,
    Cursor,
    EventType,
    JobKey,
    Limit,
    Order,
    Served,
    TaskName,
    Total,
)
from trackbook.http.endpoints.task_logs import get_log
from trackbook.http.errors import ERRORS
from trackbook.http.transport.request_checks import known_type
from trackbook.projections.read.paging import ReadError
from trackbook.projections.views import EventView, JobMoment, JobView, Page, TaskView

ALL_TASKS = 10_000
"""A graph is read in one piece, unless it is very large."""


@get("/", responses=ERRORS)
async def list_jobs(
    services: Served,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    after: After = None,
    pipeline: Annotated[str, QueryParameter(description="Only jobs of this pipeline (name or id).")] = "",
    states: Annotated[
        list[JobStatus] | None, QueryParameter(name="state", description="Only jobs in these states.")
    ] = None,
    total: Total = False,
) -> Page[JobView]:
    """List jobs, newest first."""
    await services.read.settled(after)
    return await services.read.jobs(limit, cursor, pipeline=pipeline, states=states or (), total=total)


@get("/{job:str}", responses=ERRORS)
async def get_job(services: Served, job: JobKey, after: After = None) -> JobView:
    """Show a job."""
    await services.read.settled(after)
    return await services.read.job(job)


@get("/{job:str}/tasks", responses=ERRORS)
async def list_tasks(
    services: Served,
    job: JobKey,
    limit: Annotated[int, QueryParameter(ge=1, le=ALL_TASKS)] = ALL_TASKS,
    cursor: Cursor = None,
    after: After = None,
    states: Annotated[
        list[TaskStatus] | None, QueryParameter(name="state", description="Only tasks in these states.")
    ] = None,
) -> Page[TaskView]:
    """List a job's tasks in the pipeline's order."""
    await services.read.settled(after)
    return await services.read.tasks(job, limit, cursor, states=states or ())


@get("/{job:str}/tasks/{name:str}", responses=ERRORS)
async def get_task(services: Served, job: JobKey, name: TaskName, after: After = None) -> TaskView:
    """Show a task of a job."""
    await services.read.settled(after)
    return await services.read.task(job, name)


@get("/{job:str}/events", responses=ERRORS)
async def list_job_events(
    services: Served,
    job: JobKey,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    after: After = None,
    type: EventType = "",  # noqa: A002
    order: Order = "newest",
) -> Page[EventView]:
    """List a job's events."""
    await services.read.settled(after)
    found = await services.read.job(job)
    return await services.read.events.of(
        "job", found.id, limit, cursor, type=known_type(type, "job"), newest_first=order == "newest"
    )


@get("/{job:str}/at/{moment:str}", responses=ERRORS)
async def get_moment(
    services: Served,
    job: JobKey,
    moment: Annotated[str, PathParameter(description="`VERSION`, or `VERSION.INDEX` for one event of it.")],
    after: After = None,
) -> JobMoment:
    """Return a job and its tasks as of a commit, or of one event in it."""
    await services.read.settled(after)
    version, index = _moment(moment)
    return await services.read.job_at(job, version, index)


def _moment(text: str) -> tuple[int, int | None]:
    version, dot, index = text.partition(".")
    if not (version.isdecimal() and len(text) < 20 and (index.isdecimal() or not dot)):
        raise ReadError(
            "invalid_parameter", f"{text!r} is not a moment", "Give a version like 7, or an event like 7.0."
        )
    return int(version), int(index) if dot else None


router = Router(
    "/api/jobs",
    route_handlers=[list_jobs, get_job, list_tasks, get_task, list_job_events, get_moment, get_log],
    tags=["jobs"],
)
