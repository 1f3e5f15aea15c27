"""The manager's stream of events, as hints that something has changed.

Nothing is ever concluded from a hint: the stream has gaps, no order and no replay, and 23.09 leaves whole kinds
out. It makes reads prompt, which find out what is so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import structlog
from httpx_sse import EventSource, SSEError
from msgspec import Struct

from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.execution.back_off import BackOff

_log = structlog.get_logger(__name__)
SILENCE = 40.0
"""Seconds without a byte after which the connection counts as dead: managers send a comment every 15."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
CONNECTED = "connected"


class Hint(Struct, frozen=True):
    """Something may have changed. `kind` is the event's name, or `connected`: some were missed, read everything.

    `exit_code` is given by 23.09 alone, at times.
    """

    kind: str
    session_id: str = ""
    session_name: str = ""
    exit_code: int | None = None
    reason: str = ""


async def hints(
    client: Client, prefix: str = "", *, silence: float = SILENCE, longest_pause: float = _LONGEST_PAUSE
) -> AsyncGenerator[Hint, None]:
    """Yield hints for ever, of sessions whose names begin so (a superadmin gets everybody's).

    The stream is opened again where it breaks, at first at once, each is yielded as `connected`. Close
    it with `contextlib.aclosing`.
    """
    back_off, now = BackOff(_FIRST_PAUSE, longest_pause, at_once=True), asyncio.get_running_loop().time
    while True:
        problem, began, tell = "it ended", now(), _log.debug
        try:
            async with client.stream("/events/session", silence=silence) as answer:
                source, tell = EventSource(answer), _log.info
                yield Hint(CONNECTED)
                async for event in source.aiter_sse():
                    hint = _hint(event.event, event.data)
                    if hint and hint.session_name.startswith(prefix):
                        yield hint
        except (ClusterError, httpx.HTTPError, SSEError) as lost:
            problem = str(lost) or type(lost).__name__
        if now() - began > longest_pause:
            back_off.reset()
        tell("the events' stream broke", cluster=client.cluster.name, problem=problem)
        await back_off.pause()


def _hint(kind: str, text: str) -> Hint | None:
    try:
        data: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    code = data.get("exitCode")
    return Hint(
        kind,
        str(data.get("sessionId") or ""),
        str(data.get("sessionName") or ""),
        code if isinstance(code, int) else None,
        str(data.get("reason") or ""),
    )
