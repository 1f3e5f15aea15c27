"""The output of a task: a range of it, its last lines, or all of it as it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from litestar import Response, get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from trackbook.adapters.execution.output_log import Kept, Piece, note
from trackbook.engine.job_state import TASK_ENDED
from trackbook.http.endpoints.byte_ranges import byte_range
from trackbook.http.endpoints.parameters import After, JobKey, Served, TaskName
from trackbook.http.errors import error_responses
from trackbook.http.ports import LogSource, Services
from trackbook.projections.decoded_commit import closing
from trackbook.projections.read.paging import ReadError
from trackbook.projections.views import TaskView

_CHUNK = 64 * 1024
_PLAIN = "text/plain; charset=utf-8"


@get("/{job:str}/tasks/{name:str}/logs", responses=error_responses(416), media_type="text/plain")
async def get_log(
    services: Served,
    job: JobKey,
    name: TaskName,
    *,
    follow: Annotated[bool, QueryParameter(description="Continue until the task has ended.")] = False,
    offset: Annotated[
        int, QueryParameter(ge=0, le=1 << 62, description="Bytes of the task's output to skip, kept or not.")
    ] = 0,
    tail: Annotated[
        int | None, QueryParameter(ge=0, le=100_000, description="Only so many lines of the end.")
    ] = None,
    gaps: Annotated[
        Literal["note", "end"],
        QueryParameter(description="Where bytes are left out: write a line about it, or end the answer there."),
    ] = "note",
    bytes_range: Annotated[
        str | None, HeaderParameter(name="Range", description="`bytes=FIRST-LAST` of what is kept at the time.")
    ] = None,
    after: After = None,
) -> Stream | Response[str]:
    """Show a task's output; with `follow`, as it is written until the task has ended.

    `trackbook-log-offset` is the offset of the answer's first byte, `trackbook-log-size` how many were written
    by then.
    """
    await services.read.settled(after)
    task = await services.read.task(job, name)
    kept = await services.logs.extent(task.session) if task.session else None
    if not follow and (task.session is None or kept is None):
        raise ReadError("log_not_found", f"task {name} has no output: it is {task.state}")
    if kept is not None and task.session is not None:
        if tail is not None:
            offset = max(offset, await _start_of_tail(services.logs, task.session, kept, tail))
        if kept.head <= offset < kept.tail and gaps == "end":
            offset = kept.tail
    if follow:
        chunks = _follow(services, job, task, offset, gaps=gaps)
        written = {"trackbook-log-size": str(kept.end if kept else 0)}
        return Stream(chunks, media_type=_PLAIN, headers={"trackbook-log-offset": str(offset), **written})
    assert task.session is not None
    assert kept is not None
    size = {"accept-ranges": "bytes", "trackbook-log-size": str(kept.end)}
    if bytes_range is not None and (asked := byte_range(bytes_range, kept.size)) is not None:
        return _range_response(services.logs, task.session, kept, asked, size)
    return Stream(
        _read_lines(services.logs, task.session, offset, kept.end, gaps=gaps),
        media_type=_PLAIN,
        headers=size | {"trackbook-log-offset": str(offset)},
    )


def _range_response(
    logs: LogSource, session: str, kept: Kept, asked: tuple[int, int], headers: dict[str, str]
) -> Stream:
    first, last = asked
    if first > last:
        raise ReadError("range_not_satisfiable", f"the log has {kept.size} bytes, the range holds none of them")
    offset, skip = kept.offset(first)
    return Stream(
        _part(_read_lines(logs, session, offset, kept.end), skip, last + 1 - first),
        status_code=206,
        media_type=_PLAIN,
        headers=headers | {"content-range": f"bytes {first}-{last}/{kept.size}"},
    )


async def _read_lines(
    logs: LogSource, session: str, offset: int, end: int, *, gaps: str = "note"
) -> AsyncIterator[bytes]:
    """Yield the output between two offsets, and lines about what of it is left out."""
    while offset < end:
        piece = await logs.read(session, offset, min(_CHUNK, end - offset))
        if piece.start > offset:
            if gaps == "end":
                return
            yield note(piece.start - offset)
        if not piece.data:
            return
        offset = piece.end
        yield piece.data


async def _part(chunks: AsyncIterator[bytes], skip: int, size: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        part = chunk[skip : skip + size]
        skip = max(0, skip - len(chunk))
        size -= len(part)
        yield part
        if not size:
            return


async def _follow(
    services: Services, job: str, task: TaskView, offset: int, *, gaps: str
) -> AsyncIterator[bytes]:
    """Yield the output of the task's session, which may have to be awaited, until the task has ended.

    It ends as well if a commit of the job can't be projected: the task's end might never be seen.
    """
    while task.session is None and await _may_change(services, job, task):
        task = await _next_state(services, job, task)
    if task.session is None:
        return
    ended = asyncio.create_task(_wait_for_end(services, job, task))
    try:
        async for piece in _follow_pieces(services.logs, task.session, offset, ended):
            if piece.start > offset:
                if gaps == "end":
                    return
                yield note(piece.start - offset)
            offset = piece.end
            yield piece.data
        kept = await services.logs.extent(task.session)
        async for chunk in _read_lines(services.logs, task.session, offset, kept.end if kept else 0, gaps=gaps):
            yield chunk
    finally:
        ended.cancel()


async def _follow_pieces(
    logs: LogSource, session: str, offset: int, ended: asyncio.Task[None]
) -> AsyncIterator[Piece]:
    """Yield what the source follows, until it ends or the task has."""
    async with closing(logs.follow(session, offset)) as pieces:
        while True:
            coming = asyncio.ensure_future(anext(pieces, None))
            try:
                await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
                piece = coming.result() if coming.done() else None
            finally:
                coming.cancel()
                await asyncio.wait({coming})
            if piece is None:
                return
            yield piece


async def _wait_for_end(services: Services, job: str, task: TaskView) -> None:
    attempt = task.attempt
    while task.attempt == attempt and await _may_change(services, job, task):
        task = await _next_state(services, job, task)


async def _may_change(services: Services, job: str, task: TaskView) -> bool:
    if task.state in TASK_ENDED or services.read.projector.feed.closed:
        return False
    return not (await services.read.job(job)).problem


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


async def _start_of_tail(logs: LogSource, session: str, kept: Kept, lines: int) -> int:
    """Return where the last `lines` lines begin; a last line without an end counts, as does one about a gap."""
    if not lines:
        return kept.end
    at, wanted, first = kept.end, lines, True
    while at > 0:
        if at == kept.tail > kept.head:  # the line about the gap has an end before it and one behind it
            if wanted <= 2:
                return kept.tail if wanted == 1 else kept.head
            at, wanted, first = kept.head, wanted - 2, False
            continue
        start = max(kept.tail if at > kept.tail else 0, at - _CHUNK)
        chunk = (await logs.read(session, start, at - start)).data
        text = chunk[:-1] if first and chunk.endswith(b"\n") else chunk
        first = False
        breaks = text.count(b"\n")
        if breaks >= wanted:
            return start + len(text.rsplit(b"\n", wanted)[0]) + 1
        wanted -= breaks
        at = start
    return 0
