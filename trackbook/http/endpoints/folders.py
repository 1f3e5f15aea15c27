"""The executors, and the folder that a pipeline has on each."""

from __future__ import annotations

import asyncio

import structlog
from litestar import Router, delete, get, post
from msgspec import Struct

from trackbook.engine.errors import Refused
from trackbook.engine.job_state import UNFINISHED
from trackbook.engine.ports import ExecutorUnavailable, Folders, FolderState
from trackbook.http.endpoints.parameters import After, ExecutorName, PipelineKey, Served
from trackbook.http.errors import ERRORS, error_responses
from trackbook.http.ports import Services
from trackbook.projections.read.paging import ReadError
from trackbook.projections.views import Page, PipelineView

log = structlog.get_logger(__name__)

_PATIENCE = 10.0
"""Seconds for an executor to say how a folder is."""
_LATEST = 20
"""Jobs that are looked at for one that ran on an executor."""


class ExecutorView(Struct):
    """A configured executor; `kind` is the part of its name before '/'."""

    name: str
    kind: str
    default: bool


class FolderView(Struct):
    """A pipeline's folder on an executor, whose own its `name` and `id` are; `message` describes its state.

    `present`, `none` was made yet, `missing`: somebody removed it, `unavailable`: the executor doesn't say.
    """

    executor: str
    state: str
    name: str
    id: str
    message: str


class Purged(Struct):
    """Whether there was a folder to delete."""

    executor: str
    deleted: bool


class Folder(Struct):
    """A pipeline's folder as requests name it."""

    pipeline: PipelineView
    executor: str
    folders: Folders


async def find_folder(services: Services, pipeline: str, executor: str, after: int | None) -> Folder:
    """Return the pipeline's folder on the executor that was named, its own, or the default; asks nobody."""
    await services.read.settled(after)
    found = await services.read.pipeline(pipeline)
    await services.executors.refresh()
    if not executor:
        content = await services.history.content(found.id, found.version)
        executor = str(content.get("executor") or services.executors.default)
    return Folder(found, executor, services.executors.folders(executor))


def require_writable(folder: Folder) -> Folder:
    """Return the folder unless its pipeline was deleted; raises Refused."""
    if folder.pipeline.state == "deleted":
        raise Refused("pipeline_deleted", f"the pipeline {folder.pipeline.name} was deleted")
    return folder


@get("/api/executors", responses=ERRORS)
async def list_executors(services: Served) -> Page[ExecutorView]:
    """List the executors that are configured, by the configuration as it is now."""
    await services.executors.refresh()
    default = services.executors.default
    return Page([ExecutorView(n, n.partition("/")[0], n == default) for n in services.executors.names()])


@get("/api/pipelines/{pipeline:str}/folders", responses=ERRORS)
async def list_folders(services: Served, pipeline: PipelineKey, after: After = None) -> Page[FolderView]:
    """List a pipeline's folders, on each executor one; those of containers are the local ones."""
    await services.read.settled(after)
    found = await services.read.pipeline(pipeline)

    async def look(name: str) -> FolderView:
        try:
            return await _look(services, Folder(found, name, services.executors.folders(name)))
        except ExecutorUnavailable as error:
            return FolderView(name, "unavailable", "", "", str(error))

    return Page(list(await asyncio.gather(*map(look, services.executors.stores()))))


@get("/api/pipelines/{pipeline:str}/folder", responses=ERRORS)
async def get_folder(
    services: Served, pipeline: PipelineKey, executor: ExecutorName = "", after: After = None
) -> FolderView:
    """Show whether a pipeline's folder is there."""
    return await _look(services, await find_folder(services, pipeline, executor, after))


@post("/api/pipelines/{pipeline:str}/folder", responses=error_responses(403, 415, 422), status_code=200)
async def make_folder(services: Served, pipeline: PipelineKey, executor: ExecutorName = "") -> FolderView:
    """Make a pipeline's folder where there is none, again where it is missing."""
    folder = require_writable(await find_folder(services, pipeline, executor, None))
    state = await folder.folders.create(folder.pipeline.id, folder.pipeline.name)
    return _view(folder.executor, state, used=False)


@delete("/api/pipelines/{pipeline:str}/folder", responses=error_responses(403, 415), status_code=200)
async def purge_folder(services: Served, pipeline: PipelineKey, executor: ExecutorName = "") -> Purged:
    """Delete a pipeline's folder on an executor with all that is in it, for good; a deleted pipeline's too."""
    folder = await find_folder(services, pipeline, executor, None)
    await services.read.settled(await services.read.pages.log.head())
    running = await services.read.jobs(1, pipeline=folder.pipeline.id, states=UNFINISHED)
    for job in running.items:
        message = f"job {job.id} of the pipeline is {job.state}: its folder is in use"
        raise ReadError("job_unfinished", message, f"`trackbook job cancel {job.id[:8]} --wait` ends it.")
    deleted = await folder.folders.purge(folder.pipeline.id)
    log.info("folder.purged", pipeline=folder.pipeline.id, executor=folder.executor, there_was_one=deleted)
    return Purged(folder.executor, deleted)


async def _look(services: Services, folder: Folder) -> FolderView:
    try:
        async with asyncio.timeout(_PATIENCE):
            state = await folder.folders.state(folder.pipeline.id)
    except TimeoutError:
        raise ExecutorUnavailable(f"{folder.executor} did not say within {_PATIENCE:g} s") from None
    used = state.state == "none" and await _used(services, folder)
    return _view(folder.executor, state, used=used)


async def _used(services: Services, folder: Folder) -> bool:
    """Whether a job has run there: then the folder was there too."""
    store = services.executors.store
    jobs = await services.read.jobs(_LATEST, pipeline=folder.pipeline.id)
    return any(job.started_at and store(job.executor) == store(folder.executor) for job in jobs.items)


def _view(executor: str, state: FolderState, *, used: bool) -> FolderView:
    if state.state == "present":
        return FolderView(executor, "present", state.name, state.id, "")
    if state.state == "missing":
        message = "it was there and was removed; runs are refused until `trackbook files create` creates it again"
        return FolderView(executor, "missing", state.name, state.id, message)
    if used:
        message = "it was there and was removed; the next run makes it again, as does `trackbook files create`"
        return FolderView(executor, "missing", state.name, state.id, message)
    return FolderView(executor, "none", state.name, state.id, "the first run makes it")


router = Router(
    "/",
    route_handlers=[list_executors, list_folders, get_folder, make_folder, purge_folder],
    tags=["files"],
)
