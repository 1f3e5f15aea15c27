"""Which writes wait for the broker, since when, and why: for those who ask whether it is well."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from msgspec import Struct

from trackbook.adapters.nats.circuit_breaker import CircuitBreaker
from trackbook.adapters.nats.errors import StoreFull

NOTED_AFTER = 2.0  # seconds that a write may take before it counts as waiting; one takes milliseconds
PATIENCE = 20.0
"""Seconds after which a client is not to wait any longer for a write, whose outcome is not known then."""
REFUSED_FOR = 60.0  # seconds for which a refusal counts: there may be room again without anybody writing

Keeper = Callable[[bool], Awaitable[str | None]]
"""Asked when a write got no answer although the connection stands, or (True) was refused for want of room.

It puts right what it can; it returns in words why there is no hope for now, or None: try again.
"""


async def no_keeper(refused: bool) -> str | None:
    """Answer for a broker that isn't ours to look after."""
    return "the broker has no room for another message" if refused else None


class PendingWrite(Struct, eq=False):
    """A write that is not acknowledged yet."""

    began: float
    at: datetime
    why: str = "it has not answered yet"


class PendingWrites:
    """The writes that are under way, the last refusal for want of room, and `reads`, which may be given up."""

    def __init__(self) -> None:
        self.reads = CircuitBreaker()
        self._pending: dict[int, PendingWrite] = {}
        self._refused = ""
        self._refused_at = 0.0
        self._stored_at = 0.0

    @contextmanager
    def write(self) -> Iterator[PendingWrite]:
        """Take note of a write as long as it is under way; StoreFull concerns all writes."""
        wait = PendingWrite(time.monotonic(), datetime.now(UTC))
        self._pending[id(wait)] = wait
        refused = ""
        try:
            yield wait
            self._stored_at = time.monotonic()
        except StoreFull as full:
            refused = str(full)
            raise
        finally:
            del self._pending[id(wait)]
            self._refused, self._refused_at = refused, time.monotonic()

    def problem(self) -> str:
        """Return in words since when writes have waited for the broker and why, or why reads were given up."""
        if not (late := self._late(NOTED_AFTER)):
            refused = self._refused if time.monotonic() - self._refused_at < REFUSED_FOR else ""
            return refused or self.reads.problem()
        return _words(late)

    def unanswered(self, waited: float) -> str:
        """Return in words why a client that has waited so many seconds is not to wait any longer.

        '' where it is worth waiting: no write has waited for PATIENCE seconds, or others are stored meanwhile and
        the client has not waited for so long itself.
        """
        oldest = next(iter(self._pending.values()), None)
        if oldest is None or time.monotonic() - oldest.began < PATIENCE:
            return ""
        others_are_stored = self._stored_at > oldest.began
        return "" if others_are_stored and waited < PATIENCE else _words(self._late(PATIENCE))

    def _late(self, seconds: float) -> list[PendingWrite]:
        """Return the writes that have waited for so long, the oldest first."""
        return [wait for wait in self._pending.values() if time.monotonic() - wait.began >= seconds]


def _words(late: list[PendingWrite]) -> str:
    oldest = late[0]
    what = "a write has" if len(late) == 1 else f"{len(late)} writes have"
    return f"{what} waited for the broker since {oldest.at:%H:%M:%S} UTC: {oldest.why}"
