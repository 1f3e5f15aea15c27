"""The book's tools over HTTP: check the log, and decide a job's history again."""

from __future__ import annotations

from typing import Any

from litestar import Router, get

from trackbook.http.parameters import JobKey, Served


@get("/audit/verify")
async def verify(services: Served) -> dict[str, Any]:
    """Read the whole log: contiguity, versions, hash chains, and the heads kept outside the broker."""
    return await services.tools.verify()


@get("/log")
async def log(services: Served) -> dict[str, Any]:
    """Tell how the log is: its end, its witness, evidence of loss, and damaged histories."""
    return await services.tools.log()


@get("/jobs/{key:str}/replay")
async def replay(services: Served, key: JobKey) -> dict[str, Any]:
    """Fold the job's history with today's code, decide again, and name the first divergence."""
    job = await services.read.job(key)
    return await services.tools.replay(job.id)


router = Router("/api", route_handlers=[verify, log, replay], tags=["book"])
