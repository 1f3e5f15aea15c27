"""The projector's inbox: what comes faster than it is written waits, and everything else runs meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from hard_deadline import hard_deadline

from trackbook.engine.ports import Stored
from trackbook.projections.write import inbox
from trackbook.projections.write.inbox import Inbox


def messages(first: int, count: int) -> list[Stored]:
    """Return stored commits of consecutive sequences."""
    return [Stored(seq, "job", f"j{seq}", b"{}") for seq in range(first, first + count)]


@pytest.mark.parametrize("piece", [1, 1000, 10_000])
async def test_more_than_it_holds_is_handed_out_in_order(piece: int) -> None:
    """Many times its bound goes through, in order, while puts wait for room again and again."""
    box, total = Inbox(), 12_000
    taken: list[Stored] = []

    async def fill() -> None:
        for first in range(1, total + 1, piece):
            await box.put(messages(first, min(piece, total + 1 - first)))

    with hard_deadline(60):
        filling = asyncio.create_task(fill())
        while len(taken) < total:
            taken += await box.take(0.0)
            await asyncio.sleep(0)  # as the writer does, which waits for the database
        await filling

    assert [message.seq for message in taken] == list(range(1, total + 1))


async def test_a_put_without_room_lets_others_run() -> None:
    """While a put waits for room, after a take that did not make enough, the event loop runs."""
    box = Inbox()
    with hard_deadline(10):
        await box.put(messages(1, inbox._ROOM))
        waiting = asyncio.create_task(box.put(messages(inbox._ROOM + 1, inbox._ROOM)))
        await asyncio.sleep(0)
        await box.take(0.0)
        for _ in range(10):
            await asyncio.sleep(0)

        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_clearing_makes_room() -> None:
    """A put that waits goes on once the inbox is cleared."""
    box = Inbox()
    with hard_deadline(10):
        waiting = asyncio.create_task(box.put(messages(1, inbox._ROOM + 1)))
        await asyncio.sleep(0)
        box.clear()
        await waiting
