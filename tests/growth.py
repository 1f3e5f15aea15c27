"""How work grows with the size of its input, as a ratio of CPU times and never in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def growth(prepare: Callable[[int], Callable[[], Any]], size: int, *, factor: int = 4, runs: int = 3) -> float:
    """Return how many times longer `factor` times the input takes, by CPU time, the least of several runs.

    Linear work gives about `factor`, quadratic work its square. `prepare` makes the work for a size.
    """
    return _least(prepare, size * factor, runs) / _least(prepare, size, runs)


def _least(prepare: Callable[[int], Callable[[], Any]], size: int, runs: int) -> float:
    taken = []
    for _ in range(runs):
        work = prepare(size)
        before = time.thread_time()
        work()
        taken.append(time.thread_time() - before)
    return min(taken)
