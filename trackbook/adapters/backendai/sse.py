"""Hints of the event stream (temporary)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
from msgspec import Struct

from trackbook.adapters.backendai.client import Client
from trackbook.adapters.backendai.errors import ClusterError


class Hint(Struct, frozen=True):
    event: str
    session: str


async def hints(client: Client) -> AsyncIterator[Hint]:
    pause = 0.5
    while True:
        try:
            async with client.stream("/events/session", silence=40) as answer:
                pause = 0.5
                yield Hint("opened", "")
                event = ""
                async for line in answer.aiter_lines():
                    if line.startswith("event:"):
                        event = line[6:].strip()
                    elif line.startswith("data:"):
                        try:
                            data = json.loads(line[5:])
                        except ValueError:
                            continue
                        if isinstance(data, dict) and data.get("sessionId"):
                            yield Hint(event, data["sessionId"])
        except (ClusterError, httpx.HTTPError):
            pass
        await asyncio.sleep(pause)
        pause = min(15, pause * 2)
