"""A deadline that also ends a coroutine which never lets its event loop run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class LoopBlockedError(SystemExit):
    """The code under test did not finish in time; asyncio lets a SystemExit out of any task."""


@contextmanager
def hard_deadline(seconds: float) -> Iterator[None]:
    """Raise LoopBlockedError inside whatever runs after `seconds`; `asyncio.timeout` needs a loop that runs."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise LoopBlockedError(f"no progress within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    limit_of_the_test = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *limit_of_the_test)  # it begins again
