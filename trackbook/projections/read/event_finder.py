"""Finds events: the read model has the places of commits, the log has their bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, select

from trackbook.projections.read.event_reader import Pages, damaged_error, events_of
from trackbook.projections.read.paging import cursor, place
from trackbook.projections.tables import aggregates, commits, has_word, states, words
from trackbook.projections.views import EventView, Page

T = TypeVar("T")
_FAR = 1 << 62
_LOOK_UP = 500
"""SQLite takes a bounded number of parameters in a statement."""


class Read(Protocol):
    """Runs a query on the read model."""

    def __call__(self, work: Callable[[Connection], T]) -> Awaitable[T]: ...  # noqa: D102


class EventFinder:
    """Lists the events of one aggregate, and says which commits a follower is to see."""

    def __init__(self, read: Read, pages: Pages) -> None:
        self._read, self._pages = read, pages

    async def of(
        self,
        kind: str,
        id: str,  # noqa: A002
        limit: int,
        after: str | None = None,
        *,
        type: str = "",  # noqa: A002
        newest_first: bool = True,
    ) -> Page[EventView]:
        """Return a page of an aggregate's events; with `type`, a page may be short although others follow."""
        start = place(after, 2) if after else ((_FAR, _FAR) if newest_first else (-1, -1))
        rows = await self._read(
            lambda connection: _places(connection, kind, id, start, limit, type, newest_first)
        )
        chosen = _fill_page(rows, limit)
        found = await self._events(kind, id, sorted(row.seq for row in chosen))
        ordered = sorted(
            (event for event in found if not type or event.type == type),
            key=lambda event: (event.seq, event.index),
            reverse=newest_first,
        )
        beyond = [event for event in ordered if _is_beyond(event, start, newest_first=newest_first)]
        shown = beyond[:limit]
        if len(beyond) > limit:
            return Page(shown, cursor(shown[-1].seq, shown[-1].index))
        # All events of the chosen commits are shown; others may follow behind the last of these.
        following = chosen[-1].seq if len(rows) > len(chosen) or len(rows) > limit + 1 else None
        end = -1 if newest_first else _FAR
        return Page(shown, None if following is None else cursor(following, end))

    async def _events(self, kind: str, id: str, seqs: list[int]) -> list[EventView]:  # noqa: A002
        events: list[EventView] = []
        wanted = set(seqs)
        led_to = await self.states(seqs) if kind == "job" else {}
        if seqs:
            async for message in self._pages.of_aggregate(kind, id, seqs[0], seqs[-1]):
                if message.seq not in wanted:
                    continue
                wanted.discard(message.seq)
                try:
                    events += await events_of(message, self._pages.bodies, led_to.get(message.seq, b""))
                except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, RecursionError) as error:
                    raise damaged_error(kind, id, message.seq, f"it can't be read: {error}") from error
        if wanted:
            raise damaged_error(kind, id, min(wanted), "the message is missing")
        return events

    async def states(self, seqs: Sequence[int]) -> dict[int, bytes]:
        """Return what the events of jobs' commits led to, by the sequences of the commits; see events_of."""
        return await self._read(lambda connection: _states(connection, seqs))

    async def last_index(self, seq: int) -> int:
        """Return the index of the last event at a sequence, 0 where nothing is known of it."""
        query = select(commits.c.events).where(commits.c.seq == seq)
        number = await self._read(lambda connection: connection.execute(query).scalar())
        return max(0, (number or 0) - 1)

    async def first_seq(self, kind: str, id: str) -> int:  # noqa: A002
        """Return the sequence of an aggregate's first commit, 0 for an unknown one."""
        query = select(aggregates.c.no).where(aggregates.c.kind == kind, aggregates.c.id == id)
        return await self._read(lambda connection: connection.execute(query).scalar()) or 0

    async def seqs(self, after: int, upto: int, limit: int, *, kind: str, id: str, pipeline: str) -> list[int]:  # noqa: A002
        """Return sequences of commits that concern an aggregate, kind or pipeline, oldest first."""
        query = (
            select(commits.c.seq)
            .join(aggregates, aggregates.c.no == commits.c.aggregate)
            .where(commits.c.seq > after, commits.c.seq <= upto)
            .order_by(commits.c.seq)
            .limit(limit)
        )
        for column, value in (
            (aggregates.c.kind, kind),
            (aggregates.c.id, id),
            (aggregates.c.pipeline, pipeline),
        ):
            query = query.where(column == value) if value else query
        return list(await self._read(lambda connection: connection.execute(query).scalars().all()))


def _states(connection: Connection, seqs: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for start in range(0, len(seqs), _LOOK_UP):
        some = select(states).where(states.c.seq.in_(seqs[start : start + _LOOK_UP]))
        found |= {row.seq: row.json for row in connection.execute(some)}
    return found


def _places(
    connection: Connection,
    kind: str,
    id: str,  # noqa: A002
    start: tuple[int, ...],
    limit: int,
    type: str,  # noqa: A002
    newest_first: bool,
) -> Sequence[Any]:
    query = (
        select(commits.c.seq, commits.c.events)
        .join(aggregates, aggregates.c.no == commits.c.aggregate)
        .where(aggregates.c.kind == kind, aggregates.c.id == id, commits.c.events > 0)
        .where(commits.c.seq <= start[0] if newest_first else commits.c.seq >= start[0])
        .order_by(commits.c.seq.desc() if newest_first else commits.c.seq)
        .limit(limit + 2)
    )
    if type:
        query = query.join(words, words.c.no == commits.c.types).where(has_word(words.c.text, type))
    return connection.execute(query).all()


def _fill_page(rows: Sequence[Any], limit: int) -> Sequence[Any]:
    """Return as many commits as fill a page; the first may start before it."""
    number = 0
    for at, row in enumerate(rows):
        number += row.events if at else 0
        if number > limit:
            return rows[: at + 1]
    return rows


def _is_beyond(event: EventView, start: tuple[int, ...], *, newest_first: bool) -> bool:
    here = (event.seq, event.index)
    return here < start if newest_first else here > start
