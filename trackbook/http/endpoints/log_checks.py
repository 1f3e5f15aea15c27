"""Checks of the log over HTTP: verify it, and replay a job's decisions."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Router, get
from litestar.params import PathParameter

from trackbook.http.endpoints.parameters import JobKey, Served
from trackbook.http.errors import ERRORS


@get("/audit/verify")
async def verify(services: Served) -> dict[str, Any]:
    """Read the whole log: contiguity, versions, hash chains, and the heads kept outside the broker."""
    return await services.tools.verify()


@get("/log")
async def log(services: Served) -> dict[str, Any]:
    """Return the state of the log: its end, its witness, evidence of loss, and damaged histories."""
    return await services.tools.log()


@get("/quarantine/{kind:str}/{name:str}", responses=ERRORS)
async def quarantined(
    services: Served,
    kind: Annotated[str, PathParameter(description="The kind of the aggregate.")],
    name: Annotated[str, PathParameter(description="Its id.")],
) -> dict[str, Any]:
    """Show how far a history is intact, and each message of it that can't follow."""
    return await services.tools.quarantined(kind, name)


@get("/jobs/{key:str}/replay")
async def replay(services: Served, key: JobKey) -> dict[str, Any]:
    """Fold the job's history with today's code, decide again, and name the first divergence."""
    job = await services.read.job(key)
    return await services.tools.replay(job.id)


router = Router("/api", route_handlers=[verify, log, quarantined, replay], tags=["log"])
