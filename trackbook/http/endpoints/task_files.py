"""The outputs of a task's attempts: as the files of its pipeline, with paths below the attempt's folder."""

from __future__ import annotations

from typing import Any

from litestar import HttpMethod, Request, Response, Router, delete, get, put, route
from litestar.response import Stream

from trackbook.adapters.execution.folders import outputs_path
from trackbook.engine.ports import FolderMissing, NoSuchFile
from trackbook.http.endpoints.files import (
    BYTES,
    CREATED,
    PART,
    ZIP,
    Area,
    DeletedFile,
    Executable,
    FileCursor,
    FileLimit,
    FileOperation,
    FilePage,
    FilePath,
    FileView,
    IfRange,
    OneFile,
    Range,
    Recursive,
    archive,
    file_part,
    listing,
    remove,
    store_file,
)
from trackbook.http.endpoints.parameters import After, Attempt, JobKey, Served, TaskName
from trackbook.http.errors import ErrorBody, error_responses
from trackbook.projections.read.paging import ReadError
from trackbook.projections.views import TaskView


async def _area(
    services: Served, job: str, name: str, after: int | None = None, attempt: int | None = None
) -> tuple[Area, TaskView]:
    """Return the outputs of one attempt, the latest by default, and the task."""
    await services.read.settled(after)
    found, task = await services.read.job(job), await services.read.task(job, name)
    outputs = outputs_path(found.id, task.index, task.name, attempt or task.attempt)
    folders = services.executors.folders(task.executor or found.executor)
    return Area(folders, found.pipeline, outputs), task


@get("/{job:str}/tasks/{name:str}/files", responses=error_responses(422))
async def list_outputs(
    services: Served,
    job: JobKey,
    name: TaskName,
    path: FilePath = "",
    limit: FileLimit = 1000,
    cursor: FileCursor = None,
    attempt: Attempt = None,
    after: After = None,
) -> FilePage:
    """List what a task's attempt wrote to its outputs, by name; of a file, itself."""
    area, task = await _area(services, job, name, after, attempt)
    try:
        return await listing(area, path, limit, cursor)
    except (NoSuchFile, FolderMissing):
        if path.strip("/"):
            raise
        which = f"attempt {attempt} of task {name} has no outputs" if attempt else f"task {name} has no outputs"
        raise ReadError("no_such_file", f"{which}: it is {task.state}") from None


@get(
    "/{job:str}/tasks/{name:str}/files/content",
    responses=error_responses(416, 422) | PART,
    media_type=BYTES,
)
async def get_output(
    services: Served,
    job: JobKey,
    name: TaskName,
    path: OneFile,
    bytes_range: Range = None,
    if_range: IfRange = None,
    attempt: Attempt = None,
    after: After = None,
) -> Stream | Response[ErrorBody]:
    """Send a file of an attempt's outputs, or a range of its bytes."""
    area, _ = await _area(services, job, name, after, attempt)
    return await file_part(area, path, bytes_range, if_range)


@get("/{job:str}/tasks/{name:str}/files/archive", responses=error_responses(422), media_type=ZIP)
async def get_outputs(
    services: Served,
    job: JobKey,
    name: TaskName,
    path: FilePath = "",
    attempt: Attempt = None,
    after: After = None,
) -> Stream:
    """Send a folder of an attempt's outputs, all of them by default, as a zip archive."""
    area, _ = await _area(services, job, name, after, attempt)
    return await archive(area, path)


@route(
    "/{job:str}/tasks/{name:str}/files/content",
    http_method=HttpMethod.HEAD,
    include_in_schema=False,
    media_type=BYTES,
)
async def head_output(
    services: Served,
    job: JobKey,
    name: TaskName,
    path: OneFile,
    bytes_range: Range = None,
    attempt: Attempt = None,
    after: After = None,
) -> Stream | Response[ErrorBody]:
    """Return a file's length without its content."""
    area, _ = await _area(services, job, name, after, attempt)
    return await file_part(area, path, bytes_range, None, body=False)


@put(
    "/{job:str}/tasks/{name:str}/files/content",
    responses=error_responses(403, 411, 415, 422) | CREATED,
    operation_class=FileOperation,
    request_max_body_size=None,
)
async def put_output(
    services: Served,
    request: Request[Any, Any, Any],
    job: JobKey,
    name: TaskName,
    path: OneFile,
    executable: Executable = False,
) -> Response[FileView]:
    """Write a file to the outputs of a task's latest attempt: whole or not at all."""
    area, _ = await _area(services, job, name)
    return await store_file(area, path, request, executable=executable)


@delete("/{job:str}/tasks/{name:str}/files/content", responses=error_responses(403, 415, 422), status_code=200)
async def delete_output(
    services: Served, job: JobKey, name: TaskName, path: OneFile, recursive: Recursive = False
) -> DeletedFile:
    """Delete a file of the outputs of a task's latest attempt, or a folder with all that is in it."""
    area, _ = await _area(services, job, name)
    return await remove(area, path, recursive=recursive)


router = Router(
    "/api/jobs",
    route_handlers=[list_outputs, get_output, get_outputs, head_output, put_output, delete_output],
    tags=["files"],
)
