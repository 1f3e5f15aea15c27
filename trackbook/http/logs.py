"""The output of a task: a part of it, its last lines, or all of it as it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from litestar import Response, get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from trackbook.http.errors import documented
from trackbook.http.parameters import After, JobKey, Served, TaskName
from trackbook.http.ports import LogSource, Services
from trackbook.http.ranges import byte_range
from trackbook.projections.decode import closing
from trackbook.projections.paging import ReadError
from trackbook.projections.views import TaskView

_CHUNK = 64 * 1024
_ENDED = frozenset(("succeeded", "failed", "cancelled", "skipped"))
_PLAIN = "text/plain; charset=utf-8"


@get("/{job:str}/tasks/{name:str}/logs", responses=documented(416), media_type="text/plain")
async def get_log(
    services: Served,
    job: JobKey,
    name: TaskName,
    follow: Annotated[bool, QueryParameter(description="Go on while the task runs.")] = False,
    offset: Annotated[int, QueryParameter(ge=0, le=1 << 62, description="Bytes to leave out.")] = 0,
    tail: Annotated[
        int | None, QueryParameter(ge=0, le=100_000, description="Only so many lines of the end.")
    ] = None,
    bytes_range: Annotated[str | None, HeaderParameter(name="Range", description="`bytes=FIRST-LAST`")] = None,
    after: After = None,
) -> Stream | Response[str]:
    """Show a task's output; with `follow`, as it is written until the task has ended."""
    await services.read.settled(after)
    task = await services.read.task(job, name)
    if follow:
        return Stream(_follow(services, job, task, offset, tail), media_type=_PLAIN)
    session = task.session
    size = await services.logs.size(session) if session else None
    if session is None or size is None:
        raise ReadError("log_not_found", f"task {name} has no output: it is {task.state}")
    if tail is not None:
        offset = max(offset, await _start_of_tail(services.logs, session, size, tail))
    first, last = (offset, size - 1) if bytes_range is None else _range(bytes_range, size)
    headers = {"accept-ranges": "bytes", "trackbook-log-size": str(size)}
    if bytes_range is not None:
        headers["content-range"] = f"bytes {first}-{last}/{size}"
    return Stream(
        _part(services.logs, session, first, last + 1),
        status_code=200 if bytes_range is None else 206,
        media_type=_PLAIN,
        headers=headers,
    )


async def _part(logs: LogSource, session: str, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end and (chunk := await logs.read(session, start, min(_CHUNK, end - start))):
        start += len(chunk)
        yield chunk


async def _follow(
    services: Services, job: str, task: TaskView, offset: int, tail: int | None
) -> AsyncIterator[bytes]:
    """Yield the output of the task's session, which may have to be awaited, until the task has ended."""
    while task.session is None and task.state not in _ENDED and not services.read.projector.feed.closed:
        task = await _next_state(services, job, task)
    if task.session is None:
        return
    if tail is not None:
        size = await services.logs.size(task.session) or 0
        offset = max(offset, await _start_of_tail(services.logs, task.session, size, tail))
    ended = asyncio.create_task(_until_ended(services, job, task))
    try:
        async for chunk in _live(services.logs, task.session, offset, ended):
            offset += len(chunk)
            yield chunk
        size = await services.logs.size(task.session) or 0
        async for chunk in _part(services.logs, task.session, offset, size):
            yield chunk
    finally:
        ended.cancel()


async def _live(logs: LogSource, session: str, offset: int, ended: asyncio.Task[None]) -> AsyncIterator[bytes]:
    """Yield what the source follows, until it ends or the task has."""
    async with closing(logs.follow(session, offset)) as chunks:
        while True:
            coming = asyncio.ensure_future(anext(chunks, None))
            try:
                await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
                chunk = coming.result() if coming.done() else None
            finally:
                coming.cancel()
                await asyncio.wait({coming})
            if chunk is None:
                return
            yield chunk


async def _until_ended(services: Services, job: str, task: TaskView) -> None:
    attempt = task.attempt
    while task.state not in _ENDED and task.attempt == attempt and not services.read.projector.feed.closed:
        task = await _next_state(services, job, task)


async def _next_state(services: Services, job: str, task: TaskView) -> TaskView:
    """Return the task once more was projected; it may have changed between the last look and now."""
    feed = services.read.projector.feed
    with feed.listening():
        moved = asyncio.ensure_future(feed.moved())
        try:
            now = await services.read.task(job, task.name)
            if now == task:
                await moved
                now = await services.read.task(job, task.name)
        finally:
            moved.cancel()
    return now


async def _start_of_tail(logs: LogSource, session: str, size: int, lines: int) -> int:
    """Return where the last `lines` lines begin; a last line without an end counts."""
    at, wanted, first = size, lines, True
    while at > 0 and lines:
        start = max(0, at - _CHUNK)
        chunk = await logs.read(session, start, at - start)
        text = chunk[:-1] if first and chunk.endswith(b"\n") else chunk
        first = False
        breaks = text.count(b"\n")
        if breaks >= wanted:
            return start + len(text.rsplit(b"\n", wanted)[0]) + 1
        wanted -= breaks
        at = start
    return 0 if lines else size


def _range(text: str, size: int) -> tuple[int, int]:
    """Return the first and last byte of a Range header; raises ReadError."""
    start, end = byte_range(text, size) or (0, -1)
    if start > end:
        raise ReadError("range_not_satisfiable", f"the log has {size} bytes, {text!r} asks for none of them")
    return start, end
