"""The audit: who did what and when, and which commits could not be projected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from litestar import Router, get
from litestar.params import QueryParameter

from trackbook.http.endpoints.parameters import PAGE, After, Cursor, Limit, Served, Total
from trackbook.http.errors import ERRORS
from trackbook.http.transport.request_checks import known_kind, known_type
from trackbook.projections.read.finders import CommitFilter
from trackbook.projections.views import CommitView, Page, QuarantineView


@get("/audit", responses=ERRORS)
async def list_commits(  # noqa: PLR0917 - the framework gives them by name
    services: Served,
    limit: Limit = PAGE,
    cursor: Cursor = None,
    after: After = None,
    kind: Annotated[str, QueryParameter(description="Only aggregates of this kind.")] = "",
    aggregate_id: Annotated[str, QueryParameter(name="id", description="Only the aggregate of this id.")] = "",
    pipeline: Annotated[str, QueryParameter(description="Only this pipeline (its id) and its jobs.")] = "",
    actor: Annotated[str, QueryParameter(description="Only what this actor caused.")] = "",
    type: Annotated[str, QueryParameter(description="Only commits with an event of this type.")] = "",  # noqa: A002
    since: Annotated[datetime | None, QueryParameter(description="Not before this time.")] = None,
    until: Annotated[datetime | None, QueryParameter(description="Before this time.")] = None,
    total: Total = False,
) -> Page[CommitView]:
    """List commits, newest first: who did what, and when."""
    known_kind(kind)
    known_type(type)
    await services.read.settled(after)
    only = CommitFilter(kind, aggregate_id, pipeline, actor, type, _utc(since), _utc(until))
    return await services.read.commits(limit, cursor, only, total=total)


@get("/quarantine", responses=ERRORS)
async def list_quarantine(
    services: Served, limit: Limit = PAGE, cursor: Cursor = None, after: After = None
) -> Page[QuarantineView]:
    """List what of the log could not be projected, and why."""
    await services.read.settled(after)
    return await services.read.quarantine(limit, cursor)


def _utc(at: datetime | None) -> datetime | None:
    """Take a time without a zone as UTC."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


router = Router("/api", route_handlers=[list_commits, list_quarantine], tags=["log"])
