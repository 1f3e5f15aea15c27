"""Reads that a broker leaves unanswered: given up after a while, tried again rarely, and named."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from msgspec import Struct

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.reads import BrokerUnanswered, confirmed, head, walk
from trackbook.engine.ports import Stored

PATIENCE = 20.0
"""Seconds for which a read is repeated."""
AFTER_ONE = 1.0
"""Seconds for which it is once another was given up."""
REFUSED_FOR = 30.0
"""Seconds for which what was given up is not asked for again on the same connection.

nats-server 2.15.1 can loop for ever over a block that was damaged under it, and takes more memory with each
request (measured: 22 GB after four minutes).
"""


class _GivenUp(Struct, frozen=True):
    error: BrokerUnanswered
    until: float
    nc: Connection
    away: bool
    """Whether the broker was away: then its return ends this, and nothing is asked for before."""

    @property
    def stands(self) -> bool:
        return not (self.away and self.nc.is_connected)

    @property
    def refuses(self) -> bool:
        return self.stands and (self.away or time.monotonic() < self.until)


class CircuitBreaker:
    """The reads that were given up, each until it is answered or the broker is back."""

    def __init__(self) -> None:
        self._given_up: dict[str, _GivenUp] = {}

    async def walk(self, nc: Connection, stream: str, from_seq: int, subject: str) -> AsyncIterator[list[Stored]]:
        """Yield batches as `reads.walk` does; raises BrokerUnanswered, at once where that was so a moment ago."""
        with self.attempt(nc, subject) as patience:
            async for batch in walk(nc, stream, from_seq, subject, patience):
                yield batch

    async def confirmed(
        self, nc: Connection, stream: str, from_seq: int, end: int
    ) -> AsyncIterator[list[Stored]]:
        """Yield batches as `reads.confirmed` does; raises BrokerUnanswered."""
        with self.attempt(nc, f"{stream} from a sequence on") as patience:
            async for batch in confirmed(nc, stream, from_seq, end, patience):
                yield batch

    async def head(self, nc: Connection, stream: str) -> int:
        """Return the last sequence of a stream; raises BrokerUnanswered."""
        with self.attempt(nc, f"{stream} head") as patience:
            return await head(nc, stream, patience)

    @contextmanager
    def attempt(self, nc: Connection, what: str, *, refuses: bool = True) -> Iterator[float]:
        """Give the patience of a request in seconds, and take note of its end.

        Raises BrokerUnanswered at once where it was given up a moment ago, unless it never `refuses`.
        """
        self._given_up = {key: each for key, each in self._given_up.items() if each.stands}
        given_up = self._given_up.get(what)
        if refuses and given_up and given_up.refuses:
            raise BrokerUnanswered(str(given_up.error), given_up.error.hint)
        try:
            yield AFTER_ONE if self._given_up else PATIENCE
        except BrokerUnanswered as error:
            away = not nc.is_connected
            self._given_up[what] = _GivenUp(error, time.monotonic() + REFUSED_FOR, nc, away)
            raise
        self._given_up.pop(what, None)

    def problem(self) -> str:
        """Return in words what was given up, '' if nothing was."""
        errors = [str(each.error) for each in self._given_up.values() if each.stands]
        more = f" ({len(errors)} reads were given up)" if len(errors) > 1 else ""
        return f"{errors[-1]}{more}" if errors else ""
