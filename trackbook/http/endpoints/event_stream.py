"""The live stream: each stored event once it is projected, as server-sent events that can be resumed.

Followers share the projector's memory of what it just did; who is further behind reads the log. An event's id is
`<seq>.<index>`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Router, get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream
from msgspec import Struct

from trackbook.engine.ports import Stored
from trackbook.http.endpoints.parameters import Served
from trackbook.http.errors import ERRORS
from trackbook.http.ports import Services
from trackbook.http.transport.request_checks import known_kind
from trackbook.projections.decoded_commit import DecodedCommit
from trackbook.projections.read.event_reader import events_of
from trackbook.projections.read.paging import ReadError
from trackbook.projections.views import EventView

KEEP_ALIVE = 15.0
"""Seconds without an event after which a comment is sent, so that a connection that is gone is noticed."""

_PIECE = 500
_SHARED = 64 * 1024
"""Bytes; a larger form of a commit isn't kept for the next who follows."""

_encode = msgspec.json.Encoder().encode
Place = tuple[int, int]


class EventFilter(Struct, frozen=True):
    """Which events a client asks for: all, those of an aggregate or a kind, those of a pipeline and its jobs."""

    kind: str = ""
    id: str = ""
    pipeline: str = ""

    def takes(self, commit: DecodedCommit) -> bool:
        """Whether a client asks for a commit's events."""
        return (
            (not self.kind or commit.kind == self.kind)
            and (not self.id or commit.id == self.id)
            and (not self.pipeline or commit.pipeline == self.pipeline)
        )


@get("/api/events", responses=ERRORS, media_type="text/event-stream", tags=["events"])
async def follow_events(
    services: Served,
    job: Annotated[
        str, QueryParameter(description="Only this job's; from its first event on unless an id is given.")
    ] = "",
    pipeline: Annotated[str, QueryParameter(description="Only this pipeline's and its jobs'.")] = "",
    kind: Annotated[
        str, QueryParameter(description="Only aggregates of this kind: pipeline, name, job, outcome.")
    ] = "",
    last_event_id: Annotated[
        str, HeaderParameter(name="Last-Event-ID", description="Resume after this event: `seq.index`.")
    ] = "",
    last: Annotated[
        str, QueryParameter(name="last_event_id", description="The same, where headers can't be set.")
    ] = "",
) -> Stream:
    """Follow the events of the log as they happen (server-sent events).

    Without an id it begins now. `reset` says that the id is beyond the log's end: read again what you show.
    """
    only = await _filter_of(services, job, pipeline, known_kind(kind))
    place = _place(last_event_id or last)
    first = await services.read.events.first_seq("job", only.id) if job and place is None else 0
    return Stream(
        _follow(services, only, (first, -1) if first else place),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _filter_of(services: Services, job: str, pipeline: str, kind: str) -> EventFilter:
    if job:
        return EventFilter("job", (await services.read.job(job)).id)
    if pipeline:
        return EventFilter(kind, pipeline=(await services.read.pipeline(pipeline)).id)
    return EventFilter(kind)


def _place(text: str) -> Place | None:
    if not text:
        return None
    seq, _, index = text.partition(".")
    if not (seq.isdecimal() and (index or "0").isdecimal() and len(text) < 40):
        raise ReadError("invalid_parameter", f"{text!r} is not an event's id", "It looks like 120.0.")
    return int(seq), int(index or 0)


async def _follow(services: Services, only: EventFilter, place: Place | None) -> AsyncIterator[bytes]:
    feed = services.read.projector.feed
    with feed.listening():
        if place is None:
            place = await _end(services)
            yield _mark(place)
        elif place[0] > feed.head and place[0] > await services.read.pages.log.head():
            place = await _end(services)
            yield _frame(place, "reset", {"head": place[0]})
        at = place[0] - 1
        while at < feed.head or not feed.closed:  # at a stop the last commits are sent, if they are in memory
            if at >= feed.head:
                yield await _keep_alive_frame(services)
                continue
            upto = feed.head
            commits = feed.since(at)
            if commits is None:
                if feed.closed:
                    return
                upto = min(upto, feed.begin - 1)
                async for message in _stored_events(services, only, at, upto):
                    yield await _frames(services, message, place)
                    await asyncio.sleep(0)  # a client that reads fast never makes the server wait
            else:
                for commit in commits:
                    if only.takes(commit):
                        yield await _frames(services, commit, place)
                        await asyncio.sleep(0)
            at = upto


async def _keep_alive_frame(services: Services) -> bytes:
    """Wait for more; return nothing, or a comment once it has been quiet for long."""
    try:
        async with asyncio.timeout(KEEP_ALIVE):
            await services.read.projector.feed.moved()
    except TimeoutError:
        return b":\n\n"
    return b""


async def _end(services: Services) -> Place:
    """Return the place of the last event that is projected."""
    head = services.read.projector.feed.head
    return head, await services.read.events.last_index(head)


async def _stored_events(services: Services, only: EventFilter, after: int, upto: int) -> AsyncIterator[Stored]:
    """Yield the wanted commits between two sequences from the log."""
    pages = services.read.pages
    if only.id:
        messages = pages.of_aggregate(only.kind, only.id, after + 1, upto)
    elif only == EventFilter():
        messages = pages.between(after + 1, upto)
    else:
        messages = _stored_matches(services, only, after, upto)
    async for message in messages:
        yield message


async def _stored_matches(services: Services, only: EventFilter, after: int, upto: int) -> AsyncIterator[Stored]:
    find = services.read.events.seqs
    while seqs := await find(after, upto, _PIECE, kind=only.kind, id=only.id, pipeline=only.pipeline):
        async for message in services.read.pages.pick(seqs):
            yield message
        after = seqs[-1]


async def _frames(services: Services, message: Stored | DecodedCommit, place: Place) -> bytes:
    """Return a commit's events, those after `place`, in the form of the stream."""
    if isinstance(message, DecodedCommit) and message.seq > place[0]:
        frames = message.rendered or await _render(services, message, place)
        if len(frames) < _SHARED:
            message.rendered = frames
        return frames
    return await _render(services, message, place)


async def _states(services: Services, message: Stored | DecodedCommit) -> bytes:
    """Return what a commit's events led to: from memory, or from the read model, which is level with the feed."""
    if isinstance(message, DecodedCommit):
        return message.states
    if message.kind != "job":
        return b""
    return (await services.read.events.states([message.seq])).get(message.seq, b"")


async def _render(services: Services, message: Stored | DecodedCommit, place: Place) -> bytes:
    try:
        events = await events_of(message, services.read.pages.bodies, await _states(services, message))
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError) as error:
        unreadable = {"seq": message.seq, "aggregate": f"{message.kind}/{message.id}", "reason": str(error)}
        return _frame((message.seq, 0), "quarantined", unreadable)
    return b"".join(
        _frame((event.seq, event.index), event.type, event)
        for event in events
        if (event.seq, event.index) > place
    )


def _frame(place: Place, event: str, data: EventView | dict[str, Any]) -> bytes:
    # A type from a stranger's commit could hold a line end, which would begin a field of its own.
    name = event if event.isidentifier() else "unknown"
    return b"id: %d.%d\nevent: %b\ndata: %b\n\n" % (*place, name.encode(), _encode(data))


def _mark(place: Place) -> bytes:
    """Return a block with the stream's first place only, so that a client that loses it at once can resume."""
    return b"retry: 1000\nid: %d.%d\n\n" % place


router = Router("/", route_handlers=[follow_events])
