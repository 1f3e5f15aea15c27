"""From a violation to the shortest story that shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simulation.desk import Desk

Instructions = list[list[Any]]
_LINES = 60


def minimal_trace(desk: Desk, limit: int) -> str:
    """Return what a job received and what it made of it, without what the violation doesn't need.

    A violation that shows only against what really ran (and not by the job's events alone) is reported in full.
    """
    reported = shorten(desk.reported, lambda inputs: _replay(desk, inputs, limit)[1])
    lines, violation = _replay(desk, reported, limit)
    graph = ", ".join(
        f"{task.name}{'!' if task.skip else ''}<{','.join(task.dependencies)}" for task in desk.start.tasks
    )
    what = f"in {len(reported)} of {len(desk.reported)} inputs" if violation else "not shown by the events alone"
    return "\n".join([f"job {desk.id}, limit {limit}: {graph}", f"minimal trace, {what}:", *lines[-_LINES:]])


def shorten(reported: Instructions, wrong: Callable[[Instructions], object]) -> Instructions:
    """Drop inputs, larger pieces first, as long as it still goes wrong."""
    if not wrong(reported):
        return reported
    size = len(reported) // 2
    while size:
        start = 0
        while start < len(reported):
            without = reported[:start] + reported[start + size :]
            if wrong(without):
                reported = without
            else:
                start += size
        size //= 2
    return reported


def _replay(desk: Desk, reported: Sequence[list[Any]], limit: int) -> tuple[list[str], Exception | None]:
    again = Desk(desk.id, desk.start, None)
    lines: list[str] = []
    for inputs in reported:
        lines += [f"  {given}" for given in inputs] or ["  nothing"]
        try:
            events = again.take(inputs, limit)
            again.forget()
        except Exception as problem:  # a broken core may raise anything
            return [*lines, f"{type(problem).__name__}: {problem}"], problem
        lines += [f"      -> {event}" for event in events]
    return lines, None
