"""Pause between tries: back-off with jitter, and waits that an event cuts short."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

_JITTER = 0.25
"""The part of a pause that is left to chance."""


def with_jitter(seconds: float) -> float:
    """Return a pause that is shortened at random by up to a quarter."""
    return seconds * random.uniform(1 - _JITTER, 1)  # noqa: S311 - nothing secret


class BackOff:
    """Pauses that grow by `factor` from `first` up to `longest` seconds.

    Each is shortened at random by up to a quarter: sessions that lose a manager or an engine at one moment do
    not ask it again at one moment. With `at_once` the first try is repeated without a pause.
    """

    def __init__(self, first: float, longest: float, factor: float = 2.0, *, at_once: bool = False) -> None:
        self._first, self._longest, self._factor, self._at_once = first, longest, factor, at_once
        self._next = 0.0 if at_once else first

    @property
    def is_longest(self) -> bool:
        """Whether pauses grow no more."""
        return self._next >= self._longest

    def reset(self) -> None:
        """Begin again with the first pause."""
        self._next = 0.0 if self._at_once else self._first

    def take(self) -> float:
        """Return the next pause in seconds, and let the one after it grow."""
        pause = self._next
        self._next = min(self._longest, max(self._first, pause * self._factor))
        return with_jitter(pause)

    def pauses(self, count: int) -> Iterator[float]:
        """Yield so many pauses in seconds, for that many tries."""
        return (self.take() for _ in range(count))

    async def pause(self, wake: asyncio.Event | None = None, *, at_most: float | None = None) -> None:
        """Sleep for the next pause, `at_most` so many seconds, or until `wake` is set."""
        seconds = self.take()
        if at_most is not None:
            seconds = min(seconds, at_most)
        if wake is None:
            await asyncio.sleep(seconds)
        else:
            await wait(wake, seconds)


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so many seconds; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
