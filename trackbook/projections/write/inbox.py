"""The projector's inbox: gathers commits for a moment, so that a busy log needs few transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trackbook.engine.ports import Stored

_BATCH = 256
_ROOM = 16 * _BATCH
_ENDS = (b'"JobSucceeded"', b'"JobFailed"', b'"JobCancelled"')


class Inbox:
    """A bounded queue that hands out batches. `take` waits for nothing once there is cause for hurry."""

    def __init__(self) -> None:
        self._messages: list[Stored] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._hurry = asyncio.Event()
        self._waiting = 0
        self._last = 0.0

    def clear(self) -> None:
        """Forget what has come in: it is read again."""
        self._messages.clear()
        self._arrived.clear()
        self._settle()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """While this is held, somebody waits for what comes in."""
        self._waiting += 1
        self._hurry.set()
        try:
            yield
        finally:
            self._waiting -= 1

    async def put(self, messages: Sequence[Stored]) -> None:
        """Add messages; waits while there is no room."""
        self._messages += messages
        self._arrived.set()
        if len(self._messages) >= _BATCH or any(end in message.data for message in messages for end in _ENDS):
            self._hurry.set()
        while len(self._messages) > _ROOM:
            self._room.clear()  # at each turn: an event that is set returns without letting the loop run
            await self._room.wait()

    async def take(self, linger: float) -> list[Stored]:
        """Return the next batch: at once, unless one came `linger` seconds ago or less and nobody hurries."""
        await self._arrived.wait()
        patience = self._last + linger - asyncio.get_running_loop().time()
        if patience > 0 and not self._hurry.is_set():
            try:
                async with asyncio.timeout(patience):
                    await self._hurry.wait()
            except TimeoutError:
                pass
        batch, self._messages = self._messages[:_BATCH], self._messages[_BATCH:]
        self._settle()
        return batch

    def written(self) -> None:
        """Note that the batch is stored."""
        self._last = asyncio.get_running_loop().time()

    def _settle(self) -> None:
        if not self._messages:
            self._arrived.clear()
        if not self._waiting and len(self._messages) < _BATCH:
            self._hurry.clear()
        self._room.set()
