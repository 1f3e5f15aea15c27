"""The manager is away, or its events are, while tasks end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backendai.cluster import Cluster
from backendai.faults.conftest import Sites, only_long
from backendai.faults.tasks import FOR_EVER, WAITS, pipeline, task
from backendai.faults.wire import Wire


@pytest.mark.parametrize(
    "kill", [pytest.param(False, id="stopped"), pytest.param(True, id="killed", marks=only_long)]
)
async def test_tasks_end_while_the_manager_is_away(sites: Sites, kill: bool) -> None:
    """Their ends count by their own records, though 23.09 holds such sessions for running for ever."""
    async with sites() as site:
        tasks = [task("a", body=WAITS), task("b", body=WAITS, status=0), task("c", "a", "b")]
        job = await site.begin(pipeline("away", tasks))
        await site.said("start", "a", "b")
        async with site.without("manager", kill=kill):
            await site.let_go()
            await site.said("end", "a", "b")
        await site.ended(job, "succeeded")


async def test_events_are_cut(sites: Sites, stack: Cluster) -> None:
    """Without the manager's events ends are seen by asking at intervals."""
    async with Wire(stack.endpoint) as wire, sites(endpoint=wire.endpoint) as site:
        job = await site.begin(pipeline("deaf", [task("a", body=WAITS), task("b", "a"), task("c", "b")]))
        await site.said("start", "a")
        assert wire.cut_events() == 1
        wire.silent = True
        await site.let_go()
        await site.ended(job, "succeeded")
        wire.silent = False


FORGETS = """\
create function forget() returns trigger language plpgsql as $$ begin {how}; end $$;
create trigger forget before update on sessions for each row when (new.status = '{status}')
execute function forget();
"""
"""Format with the status, and what becomes of a change to it."""
REMEMBERS = "drop trigger if exists forget on sessions; drop function if exists forget;"


@contextmanager
def losing(stack: Cluster, status: str, how: str) -> Iterator[None]:
    """Have the manager lose each change of a session's status to this one."""
    if stack.newer:
        pytest.skip("26.8 writes the states of many sessions in one transaction, and tries it again")
    stack.own.psql(FORGETS.format(status=status, how=how))
    try:
        yield
    finally:
        stack.own.psql(REMEMBERS)


async def test_the_start_of_a_session_is_lost(sites: Sites, stack: Cluster) -> None:
    """A session that is held for PREPARING ends as its command does, and nothing of it is left."""
    async with sites(stop_timeout="3") as site:
        with losing(stack, "RUNNING", "return null"):
            job = await site.begin(pipeline("forgotten", [task("a", body=WAITS)]))
            await site.said("start", "a")
            await site.shows(job, "a", "PREPARING")
            await site.let_go()
            await site.ended(job, "succeeded")


async def test_the_start_of_a_cancelled_session_is_lost(sites: Sites, stack: Cluster) -> None:
    """A command that runs in a session that is held for PREPARING is ended with its job."""
    async with sites(stop_timeout="3") as site:
        with losing(stack, "RUNNING", "return null"):
            job = await site.begin(pipeline("forgotten-and-cancelled", [task("a", body=FOR_EVER)]))
            await site.said("start", "a")
            await site.cancel(job)
            await site.ended(job, "cancelled")


@only_long
async def test_the_end_of_a_session_is_lost(sites: Sites, stack: Cluster) -> None:
    """A session that is held for RUNNING ends as its command did, and nothing of it is left."""
    async with sites() as site:
        with losing(stack, "TERMINATING", "raise exception 'lost'"):
            job = await site.begin(pipeline("endless", [task("a", body=WAITS)]))
            await site.said("start", "a")
            await site.let_go()
            await site.ended(job, "succeeded")
