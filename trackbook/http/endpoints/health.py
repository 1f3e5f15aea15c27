"""Health: liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from litestar import Response, Router, get
from msgspec import Struct, field

from trackbook.http.endpoints.parameters import Served
from trackbook.http.ports import Services
from trackbook.projections.write.projector import Projector
from trackbook.runtime.health import QUARANTINE

_FAR_BEHIND = 1000
"""Commits; a read model that is nearer to the log's end than that is about to have them."""

_PATIENCE = 2.0

_STALLED = "see whether the disk is slow or another program uses readmodel.db"


class Live(Struct):
    """The process answers."""

    status: str


class Ready(Struct, omit_defaults=True):
    """Whether the system works: `problems` says what keeps it from that, `warnings` what else is wrong.

    `status` is `ready`, `degraded` where there are warnings, or `not ready` where there are problems.
    """

    status: str
    problems: list[str]
    checkpoint: int
    head: int
    quarantined: int
    warnings: list[str] = field(default_factory=list)


@get("/health/live")
async def live() -> Live:
    """Return that the process answers."""
    return Live("live")


@get("/health/ready")
async def ready(services: Served) -> Response[Ready]:
    """Return whether the system works: `ready` or `degraded` (200), or else what is wrong (503)."""
    problems = list(services.status.problems())
    projector = services.read.projector
    head = await _head(services, problems)
    problems += _lag(projector, head)
    await services.executors.refresh()
    warnings = [services.executors.problem] if services.executors.problem else []
    warnings += services.status.warnings()
    if projector.quarantined and not any(QUARANTINE in warning for warning in warnings):
        warnings.append(f"{projector.quarantined} entries are in quarantine: {QUARANTINE}")
    body = Ready(
        "not ready" if problems else "degraded" if warnings else "ready",
        problems,
        projector.checkpoint,
        head,
        projector.quarantined,
        warnings,
    )
    return Response(body, status_code=503 if problems else 200)


def _lag(projector: Projector, head: int) -> list[str]:
    """Return in words what keeps the read model from showing what the log holds."""
    projector.progress.observe(head, projector.checkpoint)
    behind = head - projector.checkpoint
    if projector.problem:
        return [projector.problem]
    if waited := projector.progress.stalled_for():
        where = f"is at sequence {projector.checkpoint}, {behind} behind the log"
        return [f"the read model {where}, and has not moved for {waited:.0f} s: {_STALLED}"]
    return [f"the read model is {behind} commits behind the log and catches up"] if behind > _FAR_BEHIND else []


async def _head(services: Services, problems: list[str]) -> int:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await services.read.pages.log.head()
    except Exception as error:  # whatever a store says, the broker is why
        if not problems:
            problems.append(f"the log can't be read: {str(error) or f'no answer within {_PATIENCE:g} s'}")
        return services.read.projector.head


@get("/metrics", media_type="text/plain; version=0.0.4")
async def metrics(services: Served) -> str:
    """Show figures in Prometheus' text format."""
    states = await services.read.job_states()
    lines = list(_figures(services))
    lines += [f'trackbook_jobs{{state="{state}"}} {number}' for state, number in sorted(states.items())]
    return "\n".join([*lines, ""])


def _figures(services: Services) -> Iterator[str]:
    projector = services.read.projector
    figures: dict[str, float] = {
        "trackbook_projection_checkpoint": projector.checkpoint,
        "trackbook_projection_behind": max(0, projector.head - projector.checkpoint),
        "trackbook_projection_commits_total": projector.commits,
        "trackbook_projection_events_total": projector.events,
        "trackbook_projection_batches_total": projector.batches,
        "trackbook_projection_restarts_total": projector.restarts,
        "trackbook_projection_quarantined": projector.quarantined,
        "trackbook_projection_healthy": 0 if projector.problem else 1,
        "trackbook_stream_followers": projector.feed.listeners,
        **services.status.metrics(),
    }
    for name, value in figures.items():
        yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
        yield f"{name} {value:g}"
    yield "# TYPE trackbook_jobs gauge"


router = Router("/", route_handlers=[live, ready, metrics], tags=["health"])
