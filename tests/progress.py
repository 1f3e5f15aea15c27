"""Moments of a test that are chosen by what has happened, never by the clock."""

from __future__ import annotations

import asyncio


class Progress:
    """Counts what a test does, so that something else can happen after a number of them."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Condition()

    async def add(self) -> None:
        """Count one more."""
        self.count += 1
        async with self._changed:
            self._changed.notify_all()

    async def more(self, number: int) -> None:
        """Wait for so many more."""
        wanted = self.count + number
        async with self._changed:
            await self._changed.wait_for(lambda: self.count >= wanted)


async def loop_turns(number: int) -> None:
    """Wait until the event loop has turned so often."""
    for _ in range(number):
        await asyncio.sleep(0)
