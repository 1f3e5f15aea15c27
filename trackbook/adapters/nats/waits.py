"""Which appends wait for the broker, since when, and why: for those who ask whether it is well."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from msgspec import Struct

NOTED_AFTER = 2.0  # seconds that an append may take before it counts as waiting; one takes milliseconds


class Wait(Struct, eq=False):
    """An append that is not acknowledged yet."""

    began: float
    at: datetime
    why: str = "it has not answered yet"


class Waits:
    """The appends that are under way, and the last refusal for want of room."""

    def __init__(self) -> None:
        self._waits: dict[int, Wait] = {}
        self._refused = ""

    def begin(self) -> Wait:
        """Take note of an append."""
        wait = Wait(time.monotonic(), datetime.now(UTC))
        self._waits[id(wait)] = wait
        return wait

    def end(self, wait: Wait, refused: str = "") -> None:
        """Take note of its end: stored, or `refused` for a reason that concerns all appends."""
        del self._waits[id(wait)]
        self._refused = refused

    def problem(self) -> str:
        """Return in words since when commits have waited for the broker and why, '' when none does."""
        late = [wait for wait in self._waits.values() if time.monotonic() - wait.began >= NOTED_AFTER]
        if not late:
            return self._refused
        oldest = min(late, key=lambda wait: wait.began)
        what = "a commit has" if len(late) == 1 else f"{len(late)} commits have"
        return f"{what} waited for the broker since {oldest.at:%H:%M:%S} UTC: {oldest.why}"
