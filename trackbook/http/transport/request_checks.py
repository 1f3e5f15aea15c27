"""Checks of requests: HEAD works wherever GET does, and unknown query parameters are refused."""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from litestar import Request
from litestar.params import QueryParameter

from trackbook.engine.kinds import EVENT_TYPES
from trackbook.engine.names import did_you_mean
from trackbook.projections.read.paging import ReadError

_OWN_HEAD = "/files/content"
"""Ends the paths that answer HEAD themselves, since they need not open the file."""

App = Callable[[Any, Any, Any], Awaitable[None]]


def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """Raise ReadError (400) for a query parameter that the endpoint does not have: it would be ignored."""
    if request.method == "OPTIONS" or not request.url.path.startswith("/api/"):
        return
    known = _parameters(request.route_handler.fn)
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        listed = f"Known here: {', '.join(known)}." if known else "There are none here."
        hint = f"{did_you_mean(unknown[0], known)} {listed}".strip()
        raise ReadError("unknown_parameter", f"unknown query parameter {unknown[0][:60]!r}", hint)


@lru_cache(None)
def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the query parameters that an endpoint declares, sorted."""
    found = []
    for name, hint in typing.get_type_hints(function, include_extras=True).items():
        declared = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, QueryParameter)]
        found += [each.name or name for each in declared]
    return tuple(sorted(found))


def known_kind(kind: str) -> str:
    """Return a kind of aggregate as it was given; raises ReadError (400) for one that does not exist."""
    return _one_of("kind", kind, tuple(EVENT_TYPES))


def known_type(type: str, kind: str = "") -> str:  # noqa: A002
    """Return a type of event as it was given; raises ReadError (400) for one that does not exist."""
    kinds = [kind] if kind in EVENT_TYPES else list(EVENT_TYPES)
    return _one_of("type", type, tuple(name for each in kinds for name in EVENT_TYPES[each]))


def _one_of(parameter: str, value: str, known: tuple[str, ...]) -> str:
    if value and value not in known:
        hint = f"{did_you_mean(value, known)} Known: {', '.join(known)}.".strip()
        raise ReadError("invalid_parameter", f"{parameter}: there is no {value[:60]!r}", hint)
    return value


async def answer_head(app: App, scope: Any, receive: Any, send: Any) -> None:
    """Answer a HEAD request as GET would be answered, without the body; what streams is ended at once."""
    if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].endswith(_OWN_HEAD):
        await app(scope, receive, send)
        return
    answered = asyncio.Event()

    async def send_start(message: Any) -> None:
        if message["type"] != "http.response.start" or answered.is_set():
            return
        await send(message)
        await send({"type": "http.response.body", "body": b""})
        answered.set()

    work = asyncio.create_task(_run(app, {**scope, "method": "GET"}, receive, send_start))
    waiting = asyncio.create_task(answered.wait())
    try:
        await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not answered.is_set():
            await work
    finally:
        for task in (work, waiting):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _run(app: App, scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)
