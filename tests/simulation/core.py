"""The core under test: the engine's own, or a mutant of it in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from trackbook.engine import decider, job, job_state


class Core(Struct, frozen=True):
    """The functions of a job, those that run them, and the names that the functions see."""

    decider: decider.Decider[Any, Any, Any]
    answer: Callable[..., bool]
    take_due: Callable[..., bool]
    step: Callable[..., tuple[Any, list[Any], list[int]]]
    fold: Callable[..., Any]
    names: dict[str, Any]


REAL = Core(
    decider.Decider(job_state.JobState, job.decide, job_state.evolve, job.react, job.due),
    decider.answer,
    decider.take_due,
    decider.step,
    decider.fold,
    vars(job_state) | vars(job),
)
_chosen = [REAL]


def core() -> Core:
    """Return the core that stories and worlds are about now."""
    return _chosen[-1]


@contextmanager
def chosen(other: Core) -> Iterator[None]:
    """Put another core in its place."""
    _chosen.append(other)
    try:
        yield
    finally:
        _chosen.pop()
