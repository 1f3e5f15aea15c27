"""Whether a task's times can be believed: the clock of a machine may be set while a command runs."""

from __future__ import annotations

TOLERANCE = 1.0
"""Seconds: clocks of machines that NTP keeps differ by less."""


def clock_jump(elapsed: float | None, run_time: float | None) -> float | None:
    """Return by how many seconds the clock was moved between a start and an end, None where it was not.

    `elapsed` is the end less the start, both read from the wall clock; `run_time` was measured by a clock that
    can't be set, None where nobody measured it. Then only an end before its start shows a jump.
    """
    if elapsed is None:
        return None
    jump = elapsed - run_time if run_time is not None else min(elapsed, 0.0)
    return jump if abs(jump) > TOLERANCE else None
