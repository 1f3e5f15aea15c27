"""Sessions that start late or never, that vanish, and that are cancelled in each of their states."""

from __future__ import annotations

from typing import Any

import pytest

from backendai.faults.conftest import Sites
from backendai.faults.tasks import FOR_EVER, WAITS, pipeline, task

STARTING = ("PREPARING", "PREPARED", "CREATING")
"""What a session that starts slowly is shown as: on 23.09 the first, on 26.8 each of them."""
SLOW = {"SIM_START_DELAY": "4"}
FAILS = {"SIM_START_FAIL": "1"}


async def test_a_slow_start(sites: Sites) -> None:
    """A session that takes long to start is waited for; the cluster's own interface is linked to meanwhile."""
    async with sites(web_url="https://web.example.org/") as site:
        job = await site.begin(pipeline("slow", [task("a", faults=SLOW), task("b", "a")]))
        await site.shows(job, "a", *STARTING)
        (session,) = await site.live()
        assert (await site.tasks(job))["a"][
            "link"
        ] == f"https://web.example.org/session?sessionDetail={session['id']}"
        await site.ended(job, "succeeded")


async def test_a_failed_start(sites: Sites) -> None:
    """A session that can't start fails its job, in the manager's words, and the others are ended.

    26.8 tells nobody what the agent said: its launcher keeps only the names of the agents that failed.
    """
    async with sites() as site:
        job = await site.begin(pipeline("failing", [task("a", faults=FAILS), task("b", body=FOR_EVER)]))
        await site.ended(job, "failed")
        tasks = await site.tasks(job)
        newer = site.cluster.newer
        why = "the cluster does not say why" if newer else "simulated failure to create the container"
        assert why in f"{tasks['a']}"
        assert tasks["b"]["state"] == "cancelled"


async def test_a_vanished_container(sites: Sites) -> None:
    """A container that is gone is reported for lost, and is not run again."""
    async with sites(unreachable_timeout="14", stop_timeout="3") as site:
        job = await site.begin(
            pipeline("vanishing", [task("a", body=FOR_EVER, faults={"SIM_VANISH_AFTER": "4"})])
        )
        await site.ended(job, "failed")
        (a,) = (await site.tasks(job)).values()
        assert "not run again" in f"{a}"


CANCELLED: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "pending": (("PENDING",), {"resources": {"cpu": 9999, "mem": "128m"}}),
    "preparing": (STARTING, {"faults": SLOW}),
    "running": (("RUNNING",), {}),
    "failing": (STARTING, {"faults": {**SLOW, **FAILS}}),
}


@pytest.mark.parametrize("state", CANCELLED)
async def test_cancel(sites: Sites, state: str) -> None:
    """Whatever state a session is in, the job is cancelled, and nothing of it runs afterwards."""
    shown, more = CANCELLED[state]
    async with sites() as site:
        job = await site.begin(pipeline(state, [task("a", body=FOR_EVER, **more), task("b", "a")]))
        await site.shows(job, "a", *shown)
        await site.cancel(job)
        await site.ended(job, "cancelled")


async def test_cancel_at_once(sites: Sites) -> None:
    """Jobs that are cancelled as soon as they are started end; those with a wide start as well."""
    async with sites() as site:
        wide = [task(f"t{number}", body=WAITS) for number in range(6)]
        jobs = [await site.begin(pipeline("hasty", wide)) for _ in range(2)]
        for job in jobs:
            await site.cancel(job)
        for job in jobs:
            await site.ended(job, "cancelled")
