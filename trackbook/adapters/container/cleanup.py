"""Clean up after attempts: remove their containers, and those that nobody owns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from trackbook.adapters.container import attempt_state
from trackbook.adapters.container.client import Client, EngineAway, EngineRefused
from trackbook.adapters.execution.back_off import BackOff
from trackbook.engine.job import job_of
from trackbook.engine.ports import UNKNOWN_JOB, ExecutorUnavailable, Finding, Live, Owned

_log = structlog.get_logger(__name__)
_TRIES = 3
"""How often it is tried to remove an ended container; what stays is found by the sweep."""


async def remove_container(client: Client, name: str, folder: Path) -> None:
    """Remove an ended attempt's container, if it has one; `folder` is the session's."""
    if attempt_state.read_note(folder) is None:
        return
    for pause in BackOff(1.0, 5.0, 5.0, at_once=True).pauses(_TRIES):
        await asyncio.sleep(pause)
        try:
            await client.remove(name)
            attempt_state.drop_note(folder)
        except (EngineAway, EngineRefused, OSError) as error:
            _log.warning("an ended container can't be removed", container=name, error=str(error))
        else:
            return


async def sweep(client: Client, installation: str, live: Live, *, end: bool, unknown: bool) -> list[Finding]:
    """Find containers of the installation that no live attempt owns, and remove them where `end` is set.

    Raises ExecutorUnavailable where there may be some and the engine can't be asked.
    """
    try:
        there = await client.list_labelled(f"trackbook.installation={installation}")
        owned = await live() if there else Owned(set())
        found: list[Finding] = []
        for each in there:
            if not owned.knows_job(job_of(each.session)) and not unknown:
                found.append(Finding(f"container {each.name}", each.status, "warn", UNKNOWN_JOB))
            elif each.session not in owned.sessions:
                found.append(await _orphan(client, each.name, each.status, end=end))
    except EngineRefused as refused:
        raise ExecutorUnavailable(f"the container engine: {refused}") from None
    return found


async def _orphan(client: Client, name: str, status: str, *, end: bool) -> Finding:
    if end:
        await client.remove(name)
    done = "it was removed" if end else "`trackbook doctor --sweep` removes it"
    return Finding(f"container {name}", f"{status}, and no live task owns it: {done}", "warn")
