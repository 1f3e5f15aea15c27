"""A backup of the installation, as a tar that is sent while it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from litestar import Router, get
from litestar.params import QueryParameter
from litestar.response import Stream

from trackbook.engine.errors import Refused
from trackbook.http.endpoints.parameters import Served
from trackbook.http.errors import error_responses
from trackbook.projections.decoded_commit import closing

TAR = "application/x-tar"


@get("/backup", responses=error_responses(409), media_type=TAR)
async def backup(
    services: Served,
    damaged: Annotated[bool, QueryParameter(description="Also if the log has an unaccepted loss.")] = False,
) -> Stream:
    """Send a backup: the log and its large bodies, with digests of all parts in a manifest at the end.

    One without a manifest is not whole; `failed.txt` in its place says what went wrong.
    """
    if services.backups is None:
        raise Refused("backup_refused", "this server makes no backups")
    made = await services.backups.backup(damaged=damaged)
    headers = {"Content-Disposition": 'attachment; filename="trackbook-backup.tar"'}
    return Stream(_stream_parts(made), media_type=TAR, headers=headers)


async def _stream_parts(made: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with closing(made) as pieces:
        async for piece in pieces:
            yield piece


router = Router("/api", route_handlers=[backup], tags=["log"])
