"""Reading pipelines, their versions and contents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Response, Router, get
from litestar.params import PathParameter, QueryParameter
from msgspec import Struct, field, structs

from trackbook.http.endpoints.parameters import (
    LARGEST,
    PAGE,
    After,
    Cursor,
    EventType,
    Limit,
    Order,
    PipelineKey,
    Served,
    Total,
)
from trackbook.http.errors import ERRORS
from trackbook.http.transport.request_checks import known_type
from trackbook.projections.views import EventView, Page, PipelineView, Time, VersionView

Number = Annotated[int, PathParameter(ge=1, le=LARGEST, description="A version: the number of its commit.")]


class VersionContent(Struct):
    """A version with its content."""

    pipeline: str
    version: int
    name: str
    at: Time
    actor: str
    seq: int
    tasks: int
    events: int
    changes: list[str]
    restored: int | None
    content: dict[str, Any]


class Difference(Struct):
    """What leads from one version to another, as events of the pipeline."""

    pipeline: str
    first: int = field(name="from")
    last: int = field(name="to")
    changes: list[dict[str, Any]] = field()


@get("/", responses=ERRORS)
async def list_pipelines(
    services: Served,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    after: After = None,
    which: Annotated[Literal["active", "deleted", "all"], QueryParameter(name="state")] = "active",
    name: Annotated[str, QueryParameter(description="Only the pipeline of this name.")] = "",
    total: Total = False,
) -> Page[PipelineView]:
    """List pipelines, newest first."""
    await services.read.settled(after)
    return await services.read.pipelines(limit, cursor, state=which, name=name, total=total)


@get("/{pipeline:str}", responses=ERRORS)
async def get_pipeline(services: Served, pipeline: PipelineKey, after: After = None) -> PipelineView:
    """Show a pipeline."""
    await services.read.settled(after)
    return await services.read.pipeline(pipeline)


@get("/{pipeline:str}/versions", responses=ERRORS)
async def list_versions(
    services: Served,
    pipeline: PipelineKey,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    after: After = None,
    total: Total = False,
) -> Page[VersionView]:
    """List a pipeline's versions, newest first."""
    await services.read.settled(after)
    return await services.read.versions(pipeline, limit, cursor, total=total)


@get("/{pipeline:str}/versions/{version:int}", responses=ERRORS)
async def get_version(
    services: Served, pipeline: PipelineKey, version: Number, after: After = None
) -> VersionContent:
    """Show a version with its content."""
    await services.read.settled(after)
    shown = await services.read.version(pipeline, version)
    return VersionContent(
        **structs.asdict(shown), content=await services.history.content(shown.pipeline, version)
    )


@get("/{pipeline:str}/versions/{version:int}/yaml", responses=ERRORS, media_type="application/yaml")
async def get_yaml(
    services: Served, pipeline: PipelineKey, version: Number, after: After = None
) -> Response[str]:
    """Show a version as YAML."""
    await services.read.settled(after)
    shown = await services.read.version(pipeline, version)
    return Response(await services.history.yaml(shown.pipeline, version), media_type="application/yaml")


@get("/{pipeline:str}/diff", responses=ERRORS)
async def get_diff(
    services: Served,
    pipeline: PipelineKey,
    first: Annotated[
        int, QueryParameter(name="from", ge=1, le=LARGEST, description="The version to begin with.")
    ],
    last: Annotated[
        int | None,
        QueryParameter(name="to", ge=1, le=LARGEST, description="The version to arrive at; the last one."),
    ] = None,
    after: After = None,
) -> Difference:
    """Show what leads from one version to another."""
    await services.read.settled(after)
    old = await services.read.version(pipeline, first)
    until = last or (await services.read.pipeline(pipeline)).version
    await services.read.version(pipeline, until)
    return Difference(old.pipeline, first, until, await services.history.diff(old.pipeline, first, until))


@get("/{pipeline:str}/events", responses=ERRORS)
async def list_pipeline_events(
    services: Served,
    pipeline: PipelineKey,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    after: After = None,
    type: EventType = "",  # noqa: A002
    order: Order = "newest",
) -> Page[EventView]:
    """List a pipeline's events."""
    await services.read.settled(after)
    found = await services.read.pipeline(pipeline)
    return await services.read.events.of(
        "pipeline", found.id, limit, cursor, type=known_type(type, "pipeline"), newest_first=order == "newest"
    )


router = Router(
    "/api/pipelines",
    route_handlers=[
        list_pipelines,
        get_pipeline,
        list_versions,
        get_version,
        get_yaml,
        get_diff,
        list_pipeline_events,
    ],
    tags=["pipelines"],
)
