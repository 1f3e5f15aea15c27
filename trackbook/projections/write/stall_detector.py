"""Detects a projector that makes no progress although there is something to project."""

from __future__ import annotations

import time
from collections.abc import Callable

STALLED_AFTER = 10.0
"""Seconds without progress from which a read model that has work to do counts as stalled."""


class Progress:
    """Measures how long the read model has had work and not moved, by a clock that nobody can set, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checkpoint = 0
        self._since: float | None = None

    def observe(self, head: int, checkpoint: int) -> None:
        """Take note of where the log ends and how far the rows go."""
        if head <= checkpoint:
            self._since = None
        elif self._since is None or checkpoint != self._checkpoint:
            self._since = self._clock()
        self._checkpoint = checkpoint

    def stalled_for(self) -> float:
        """Return for how many seconds nothing moved; 0 below STALLED_AFTER, and where there is nothing to do."""
        waited = 0.0 if self._since is None else self._clock() - self._since
        return waited if waited >= STALLED_AFTER else 0.0
