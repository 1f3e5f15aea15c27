"""Clean up sessions that this installation left on a cluster and no live attempt owns.

One is ours by its name, which has the installation's id, and by its owner, which is our key: nobody else's
session is touched, whatever it is called.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import structlog
from msgspec import Struct

from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.engine.job import job_of
from trackbook.engine.ports import UNKNOWN_JOB, Finding, Live

log = structlog.get_logger(__name__)
_PAGE = 200
_AT_ONCE = 8
_BROKEN = "ERROR"
"""A state that no session leaves by itself, and 23.09 by force alone."""
_SETTLE = 2.0
"""Seconds that a session whose attempt has just ended has to go by itself."""
_LOOK_EVERY = 1.0
_FORCED_WITHIN = 20.0
"""Seconds for a session that was ended by force to be gone."""


class Left(Struct, frozen=True):
    """A session that lives on the cluster: its id there, its name there, and the log's."""

    id: str
    name: str
    session: str
    status: str
    created_at: str


async def sweep(connection: ClusterConnection, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:
    """Find what is left over, and end it where asked. Raises ClusterError, and what `live` raises.

    Sessions of jobs that the log doesn't know are only ended where `unknown` is set as well.
    What there is was read before `live` is asked, so a session that is made meanwhile is never seen.
    """
    there = await ours(connection)
    if not there:
        return []
    owned = await live()
    orphans = [each for each in there if each.session not in owned.sessions]
    if not orphans:
        return []
    await asyncio.sleep(_SETTLE)
    orphans = await _remaining(connection.client, orphans)
    strangers = [each for each in orphans if not owned.knows_job(job_of(each.session))]
    orphans = [each for each in orphans if each not in strangers]
    if end and unknown:
        orphans, strangers = [*orphans, *strangers], []
    listed = [Finding("session", _words(each), "warn", UNKNOWN_JOB) for each in strangers]
    if not end:
        hint = "`trackbook doctor --sweep` ends it."
        return listed + [Finding("session", f"{_words(each)}: no job owns it", "warn", hint) for each in orphans]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ended(each: Left) -> Finding:
        async with gate:
            return await _end(connection, each)

    return listed + await asyncio.gather(*(ended(each) for each in orphans))


async def ours(connection: ClusterConnection) -> list[Left]:
    """Return the live sessions of our key that have the installation's id in their names."""
    pattern = names.prefix(connection.installation).replace("_", "\\_") + "%"
    condition = f"(name like {json.dumps(pattern)})"
    condition += "".join(f' & (status != "{status}")' for status in sorted(session_calls.FINAL))
    text = (
        "query($limit:Int!,$offset:Int!,$filter:String,$key:String){"
        'compute_session_list(limit:$limit,offset:$offset,filter:$filter,access_key:$key,order:"created_at"){'
        "items{id name status access_key created_at} total_count}}"
    )
    key = connection.cluster.access_key
    found: dict[str, Left] = {}
    offset = 0
    while True:
        data = await connection.client.query(text, limit=_PAGE, offset=offset, filter=condition, key=key)
        page = data["compute_session_list"]
        for item in page["items"]:
            session = names.session_of(connection.installation, item["name"] or "")
            if session and item["access_key"] == key:
                created = str(item["created_at"] or "")
                found[item["id"]] = Left(item["id"], item["name"], session, item["status"], created)
        offset += len(page["items"])  # a server may give less than it is asked for
        if offset >= page["total_count"] or not page["items"]:
            return list(found.values())


async def _remaining(client: Client, sessions: Sequence[Left]) -> list[Left]:
    """Return those that still live."""
    found = {
        each.id: each for each in await session_calls.sessions_with_ids(client, (each.id for each in sessions))
    }
    return [each for each in sessions if each.id in found and not found[each.id].final]


async def _end(connection: ClusterConnection, each: Left) -> Finding:
    """End a session, by force once it has had its time, and say what became of it."""
    log.info("session.left_over", cluster=connection.cluster.name, session=each.name, status=each.status)
    why = ""
    gently = 0.0 if each.status == _BROKEN else connection.cluster.stop_timeout
    for forced, seconds in ((False, gently), (True, _FORCED_WITHIN)):
        deadline = asyncio.get_running_loop().time() + seconds
        asked = False
        while True:
            try:
                if not asked:
                    await session_calls.destroy(connection.client, each.id, forced=forced)
                    asked = True
            except ClusterError as error:  # it is starting or ending, say (23.09): look, and ask again
                why = error.message
            try:
                if not await _remaining(connection.client, [each]):
                    by = ", by force" if forced else ""
                    return Finding("session", f"{_words(each)}: no job owned it; ended{by}")
            except ClusterError as error:
                why = error.message
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(_LOOK_EVERY)
    hint = "Its agent may be away; the next sweep tries again."
    said = f" ({why})" if why else ""
    return Finding("session", f"{_words(each)}: no job owns it, and it does not end{said}", "fail", hint)


def _words(each: Left) -> str:
    since = f" since {each.created_at[:19].replace('T', ' ')} UTC" if each.created_at else ""
    return f"{each.name} ({each.status}{since})"
