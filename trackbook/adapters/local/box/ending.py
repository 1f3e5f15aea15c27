"""How a launcher brings its session's processes to an end."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import time

from trackbook.adapters.local.box import tree

LINGER = 0.25
"""Seconds for what an ended command left behind to end by itself, as the `tee` of `> >(tee file)` does."""


class Ending:
    """How a session's processes are brought to an end: left alone for a moment, then TERM, then KILL."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._deadline: float | None = None
        self._killing = False
        self.stopping = False

    def wait(self) -> int | None:
        """Return the milliseconds until the next step, None while there is none."""
        if self._deadline is None:
            return None
        return max(0, int((self._deadline - time.monotonic()) * 1000) + 1)

    def terminate(self) -> None:
        """Ask everything to end."""
        self.stopping = True
        self._deadline = time.monotonic() + self._grace
        tree.kill_below(os.getpid(), _signal.SIGTERM)

    def advance(self, *, command_ended: bool) -> None:
        """Take the step that is due while something still lives."""
        if self._deadline is None:
            if command_ended:
                self._deadline = time.monotonic() + LINGER
        elif self._killing or time.monotonic() >= self._deadline:
            if self.stopping:
                self._kill()
            else:
                self.terminate()

    def _kill(self) -> None:
        """Kill everything, and again soon: a process may be forked while /proc is read."""
        self._killing = True
        self._deadline = time.monotonic() + 0.05
        tree.kill_below(os.getpid(), _signal.SIGKILL)
