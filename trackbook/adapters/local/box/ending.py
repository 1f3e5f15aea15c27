"""How a launcher brings its session's processes to an end."""

from __future__ import annotations

import os
import time

from trackbook.adapters.local.box import tree

LINGER = 0.25
"""Seconds for what an ended command left behind to end by itself, as the `tee` of `> >(tee file)` does."""


class Ending:
    """How a session's processes are brought to an end: left alone for a moment, then SIGTERM, then SIGKILL.

    SIGTERM is sent once. What starts after it, by a handler or not, has until the end of the grace.
    """

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
        """Ask everything that runs now to end."""
        self.stopping = True
        self._deadline = time.monotonic() + self._grace
        tree.terminate_below(os.getpid())

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
        tree.kill_below(os.getpid())
