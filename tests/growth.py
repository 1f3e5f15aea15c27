"""How the cost of work grows with the size of its input, as a power of it and never in seconds."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any

FACTOR = 16


def growth(prepare: Callable[[int], Callable[[], Any]], size: int) -> float:
    """Return the power of the size with which CPU time grows: about 1 for linear work, 2 for quadratic.

    Between a size and `FACTOR` times it lie 16 times the work or 256. A busy machine, on which a large input
    falls out of the caches that it shares, makes that too large by half or so, never by 16.
    `prepare` makes the work for a size, the larger of which is `size`. The least of three runs counts.
    """
    small, large = (min(times) for times in zip(*(_both(prepare, size) for _ in range(3)), strict=True))
    return math.log(large / small, FACTOR)


def _both(prepare: Callable[[int], Callable[[], Any]], size: int) -> tuple[float, float]:
    """Return the CPU seconds of the small work and the large, which meet the same neighbours."""
    return _seconds(prepare(size // FACTOR)), _seconds(prepare(size))


def _seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of the work without the collector's, which looks at all that other tests keep."""
    gc.collect()
    gc.disable()
    try:
        before = time.thread_time()
        work()
        return time.thread_time() - before
    finally:
        gc.enable()
