"""Reads that a connected broker leaves unanswered: given up after a while, tried again rarely, and named."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.reads import ReadsUnanswered, walk
from trackbook.engine.ports import Stored

PATIENCE = 20.0
"""Seconds for which a read is repeated."""
AFTER_ONE = 1.0
"""Seconds for which it is once another was given up."""
REFUSED_FOR = 30.0
"""Seconds for which what was given up is not asked for again.

nats-server 2.15.1 can loop for ever over a block that was damaged under it, and takes more memory with each
request (measured: 22 GB after four minutes).
"""


class CircuitBreaker:
    """The subjects whose reads were given up, until one is answered."""

    def __init__(self) -> None:
        self._given_up: dict[str, tuple[ReadsUnanswered, float]] = {}

    async def walk(self, nc: Connection, stream: str, from_seq: int, subject: str) -> AsyncIterator[list[Stored]]:
        """Yield batches as `reads.walk` does; raises ReadsUnanswered, at once where that was so a moment ago."""
        error, until = self._given_up.get(subject, (None, 0.0))
        if error and time.monotonic() < until:
            raise ReadsUnanswered(str(error), error.hint)
        try:
            async for batch in walk(nc, stream, from_seq, subject, AFTER_ONE if self._given_up else PATIENCE):
                yield batch
        except ReadsUnanswered as error:
            self._given_up[subject] = error, time.monotonic() + REFUSED_FOR
            raise
        self._given_up.pop(subject, None)

    def problem(self) -> str:
        """Return in words what was given up, '' if nothing was."""
        errors = [str(error) for error, _ in self._given_up.values()]
        more = f" ({len(errors)} reads were given up)" if len(errors) > 1 else ""
        return f"{errors[-1]}{more}" if errors else ""
