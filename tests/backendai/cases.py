"""What live tests of the adapter share."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from backendai.cluster import Cluster as Stack
from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client, Clock, utc_now
from trackbook.adapters.backendai.config import Cluster


def settings(stack: Stack, account: str = "", **more: Any) -> Cluster:
    """Return the settings of the stack as a user writes them."""
    key = stack.keys[account or stack.key]
    return Cluster.from_mapping(
        "test", {"endpoint": stack.endpoint, "access_key": key.access, "secret_key": key.secret} | more
    )


@asynccontextmanager
async def connected(
    stack: Stack, account: str = "", *, clock: Clock = utc_now, **more: Any
) -> AsyncIterator[Client]:
    """Give a client of the stack."""
    client = Client(settings(stack, account, **more), clock=clock)
    try:
        yield client
    finally:
        await client.close()


def installation() -> str:
    """Return the id of an installation that nobody else has."""
    return uuid.uuid4().hex[:8]


def new(stack: Stack, name: str, command: str = "true", **more: Any) -> session_calls.NewSession:
    """Return a small session to be made."""
    resources = more.pop("resources", {"cpu": 1, "mem": 128 * 2**20})
    return session_calls.NewSession(name=name, image=stack.image, command=command, resources=resources, **more)
