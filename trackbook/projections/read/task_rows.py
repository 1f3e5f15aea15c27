"""Selects rows of tasks with their results, and turns them into views."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Select, case, func, select

from trackbook.projections.read.row_views import LISTED_RESULT, result_value, show_task
from trackbook.projections.tables import results, tasks
from trackbook.projections.views import TaskView

_OF_TASK = (results.c.job == tasks.c.job) & (results.c.idx == tasks.c.idx)


def select_task() -> Select[Any]:
    """Select tasks with their whole results."""
    return select(tasks, results.c.json.label("result")).outerjoin(results, _OF_TASK)


def select_listed_tasks() -> Select[Any]:
    """Select tasks with their results where those are short, and with how long they are."""
    size = func.length(results.c.json)
    short = case((size <= LISTED_RESULT, results.c.json))
    return select(tasks, size.label("size"), short.label("result")).outerjoin(results, _OF_TASK)


def show_single_task(row: Any, names: list[str]) -> TaskView:
    """Return the view of a row of `select_task`; `names` are those of the job's tasks by their index."""
    return _show(row, names, result_value(row.result))


def show_listed_task(row: Any, names: list[str]) -> TaskView:
    """Return the view of a row of `select_listed_tasks`; `names` are those of the job's tasks by their index."""
    return _show(row, names, UNSET if row.size and row.result is None else result_value(row.result))


def _show(row: Any, names: list[str], result: Any) -> TaskView:
    numbers = msgspec.json.decode(row.dependencies, type=list[int])
    return show_task(row, [names[number] for number in numbers], result)
