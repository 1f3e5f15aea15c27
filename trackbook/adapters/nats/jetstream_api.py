"""Requests to JetStream's own API, and what a server must be for Trackbook."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from trackbook.adapters.nats.connection import RETRY_WAIT, Connection
from trackbook.adapters.nats.errors import BrokerUnfit, Nobody, Unanswered

NEEDED = (2, 14)
"""The oldest server that does what we ask: timers, atomic batches and batch direct get."""


async def api(nc: Connection, request: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask JetStream's own API and return its answer, an `error` in it included; raises Unanswered."""
    answer = await nc.ask(f"$JS.API.{request}", msgspec.json.encode(body) if body else b"")
    return cast("dict[str, Any]", msgspec.json.decode(answer.data))


async def insist(
    nc: Connection, request: str, body: Mapping[str, Any] | None = None, patience: float = 10.0
) -> dict[str, Any]:
    """Ask JetStream's own API, again while the broker is away; raises Nobody, Unanswered after `patience` s."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return await api(nc, request, body)
        except Nobody:
            raise
        except Unanswered:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_WAIT)


async def require_server(nc: Connection) -> None:
    """Raise BrokerUnfit unless the broker is new enough and has JetStream."""
    found = nc.connected_server_version
    need = ".".join(map(str, NEEDED))
    if (found.major, found.minor) < NEEDED:
        raise BrokerUnfit(f"the broker is nats-server {_version(nc)}; {need} or newer is needed")
    try:
        answer = await insist(nc, "INFO")
    except Unanswered as error:
        raise BrokerUnfit(
            f"nats-server {_version(nc)} has no JetStream for this account ({error}); enable JetStream in it"
        ) from error
    if fault := answer.get("error"):
        raise BrokerUnfit(f"nats-server {_version(nc)}: {fault['description']}; JetStream is needed")


def describe(nc: Connection) -> str:
    """Return in words which broker this is; for `trackbook doctor`."""
    url = nc.connected_url
    where = f"{url.hostname}:{url.port}" if url else "away"
    return (
        f"nats-server {_version(nc)} at {where}; whether it syncs every write to disk (sync_interval: always) "
        "can't be seen from a client: ask its operator"
    )


def _version(nc: Connection) -> str:
    return str(nc.connected_server_version).removeprefix("<nats server v").removesuffix(">")
