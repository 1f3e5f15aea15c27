"""Events as readers see them, read from the log: the read model keeps their places, not their bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec

from trackbook.engine.ports import Blobs, EventStore, Stored
from trackbook.events.commit import cause_input, event_id
from trackbook.projections.decisions import Decisions, NothingDecided
from trackbook.projections.decoded_commit import DecodedCommit, RawBody, RawInput, closing, read_raw
from trackbook.projections.read.paging import ReadError
from trackbook.projections.times import text_of
from trackbook.projections.views import EventView, JobStates

_STATES = msgspec.json.Decoder(list[JobStates])
_NOBODY = RawInput("", msgspec.Raw(b"null"))


async def events_of(message: Stored | DecodedCommit, bodies: Blobs, states: bytes) -> list[EventView]:
    """Return a commit's events, with what each led to as the read model has it, b'' where it has nothing.

    Raises MsgspecError or LookupError where the commit can't be read.
    """
    commit, body = await read_raw(message.data, bodies)
    at = text_of(commit.at)
    events = [
        _view(message, commit.version, at, body, index, dict(event)) for index, event in enumerate(body.events)
    ]
    for event, led_to in zip(events, _STATES.decode(states or b"[]"), strict=False):
        event.states = led_to
    return events


def _view(
    message: Stored | DecodedCommit, version: int, at: str, body: RawBody, index: int, data: dict[str, Any]
) -> EventView:
    kind, id = message.kind, message.id  # noqa: A001
    place, given = _cause(body, index)
    cause = body.causes[index] if index < len(body.causes) else 0
    # A report has no id of its own: its place names it.
    asked = given.id or f"{kind}/{id}/{version}/input-{place}"
    return EventView(
        seq=message.seq,
        index=index,
        id=event_id(kind, id, version, index),
        aggregate=f"{kind}/{id}",
        kind=kind,
        aggregate_id=id,
        version=version,
        type=str(data.pop("type", "")),
        at=at,
        actor=given.actor,
        correlation_id=given.correlation or given.id or f"{kind}/{id}",
        causation_id=asked if cause >= 0 else event_id(kind, id, version, -cause - 1),
        data=data,
    )


def _cause(body: RawBody, index: int) -> tuple[int, RawInput]:
    """Return the input from which an event follows, and its index."""
    try:
        place = cause_input(body.causes, index)
        return place, body.inputs[place]
    except IndexError:  # a commit by another program; it is shown as far as it goes
        return 0, _NOBODY


def damaged_error(kind: str, id: str, seq: int, why: str) -> ReadError:  # noqa: A002
    """Return what to raise for a read of a history that is not intact."""
    message = f"the history of {kind}/{id} is damaged at sequence {seq}: {why}"
    return ReadError("history_damaged", message, "`trackbook audit verify` lists what is wrong.")


class Pages:
    """Reads commits by their sequences; `decisions` returns what operators decided about damage to the log."""

    def __init__(
        self, log: EventStore, bodies: Blobs, decisions: Callable[[], Decisions] = NothingDecided
    ) -> None:
        self.log, self.bodies, self._decisions = log, bodies, decisions

    def is_dismissed(self, message: Stored) -> bool:
        """Whether an operator decided that this message is left out of its history."""
        return self._decisions().is_dismissed(message.seq, message.data)

    async def of_aggregate(
        self,
        kind: str,
        id: str,  # noqa: A002
        first: int,
        last: int,
    ) -> AsyncIterator[Stored]:
        """Yield an aggregate's commits between two sequences, both included."""
        async with closing(self.log.read(kind, id, first)) as messages:
            async for message in messages:
                if message.seq > last:
                    return
                yield message
                if message.seq == last:
                    return

    async def between(self, first: int, last: int) -> AsyncIterator[Stored]:
        """Yield all commits between two sequences, both included."""
        async with closing(self.log.read_all(first)) as batches:
            async for batch in batches:
                for message in batch:
                    if message.seq > last:
                        return
                    yield message
                if batch and batch[-1].seq >= last:
                    return

    async def pick(self, seqs: Iterable[int]) -> AsyncIterator[Stored]:
        """Yield the commits at these sequences, which rise; a wide gap starts another read."""
        for run in _runs(seqs):
            wanted = set(run)
            async for message in self.between(run[0], run[-1]):
                if message.seq in wanted:
                    yield message


_NEAR = 200
"""Reading so many commits too many costs less than beginning another read."""


def _runs(seqs: Iterable[int]) -> Iterable[list[int]]:
    run: list[int] = []
    for seq in seqs:
        if run and seq - run[-1] > _NEAR:
            yield run
            run = []
        run.append(seq)
    if run:
        yield run
