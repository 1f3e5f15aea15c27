"""The model of jobs and their tasks: jobs in flight are held in memory, changed rows written once a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update

from trackbook.projections.decode import Fact
from trackbook.projections.jobfold import CANT_FOLLOW, JobFold, JobRow, TaskRow, created, restored
from trackbook.projections.quarantine import Quarantine
from trackbook.projections.tables import jobs, tasks

_HELD = 50_000
"""So many tasks of unfinished jobs are held at most between batches; others are read again when they go on."""

_FIXED_JOB: tuple[str, ...] = (
    "no",
    "id",
    "pipeline",
    "pipeline_name",
    "version",
    "definition",
    "executor",
    "parameters",
)
_FIXED_JOB += ("actor", "created_at", "total")
_FIXED_TASK = ("idx", "name", "dependencies", "waiting", "executor")
_JOB_CHANGES = tuple(name for name in JobRow.__struct_fields__ if name not in _FIXED_JOB)
_TASK_CHANGES = tuple(name for name in TaskRow.__struct_fields__ if name not in _FIXED_TASK)
_UPDATE_JOB = (
    update(jobs).where(jobs.c.no == bindparam("no_")).values({name: bindparam(name) for name in _JOB_CHANGES})
)
_UPDATE_TASK = (
    update(tasks)
    .where(tasks.c.job == bindparam("job_"), tasks.c.idx == bindparam("idx_"))
    .values({name: bindparam(name) for name in _TASK_CHANGES})
)
_INSERT_JOB, _INSERT_TASK = insert(jobs), insert(tasks)


class JobsModel:
    """Folds the commits of jobs into the tables `jobs` and `tasks`."""

    def __init__(self) -> None:
        self._held: dict[str, JobFold] = {}

    def project(self, connection: Connection, facts: Sequence[Fact], quarantine: Quarantine) -> None:
        """Take a batch of commits and write the rows that it changed."""
        touched: dict[str, JobFold] = {}
        for fact in facts:
            if fact.kind == "job" and (fold := self._take(connection, fact, quarantine)) is not None:
                touched[fact.id] = fold
        if touched:
            _write(connection, touched.values())
            self._let_go(touched)

    def forget(self) -> None:
        """Drop what is held in memory, since the batch that led to it was rolled back."""
        self._held.clear()

    def _take(self, connection: Connection, fact: Fact, quarantine: Quarantine) -> JobFold | None:
        fold = self._held.get(fact.id) or _load(connection, fact.id)
        if quarantine.admits(fact):
            try:
                fold = fold or created(fact)
                fold.apply(fact)
            except CANT_FOLLOW as error:
                quarantine.add(fact, f"its events can't follow what stands before: {error!r}")
        if fold is not None:
            # What stands still says so itself.
            fold.job.problem = fold.job.problem or quarantine.reason(fact)
            self._held[fact.id] = fold
        return fold

    def _let_go(self, touched: dict[str, JobFold]) -> None:
        """Keep the jobs that go on, the longest untouched leave first when they are too many."""
        for id, fold in touched.items():  # noqa: A001
            self._held.pop(id, None)
            if fold.job.finished_at is None:
                self._held[id] = fold
        held = sum(len(fold.tasks) for fold in self._held.values())
        while held > _HELD and len(self._held) > 1:
            held -= len(self._held.pop(next(iter(self._held))).tasks)


def _load(connection: Connection, id: str) -> JobFold | None:  # noqa: A002
    job = connection.execute(select(jobs).where(jobs.c.id == id)).mappings().one_or_none()
    if job is None:
        return None
    rows = connection.execute(select(tasks).where(tasks.c.job == job["no"]).order_by(tasks.c.idx)).mappings()
    return restored(dict(job), [dict(row) for row in rows])


def _write(connection: Connection, folds: Iterable[JobFold]) -> None:
    new_jobs: list[dict[str, Any]] = []
    old_jobs: list[dict[str, Any]] = []
    new_tasks: list[dict[str, Any]] = []
    old_tasks: list[dict[str, Any]] = []
    for fold in folds:
        if fold.new:
            new_jobs.append(msgspec.structs.asdict(fold.job))
            new_tasks += [_task_row(fold.job.no, task) for task in fold.tasks]
        else:
            old_jobs.append({"no_": fold.job.no, **{name: getattr(fold.job, name) for name in _JOB_CHANGES}})
            old_tasks += [_task_changes(fold.job.no, fold.tasks[index]) for index in fold.changed]
        fold.new = False
        fold.changed.clear()
    for statement, rows in (
        (_INSERT_JOB, new_jobs),
        (_UPDATE_JOB, old_jobs),
        (_INSERT_TASK, new_tasks),
        (_UPDATE_TASK, old_tasks),
    ):
        if rows:
            connection.execute(statement, rows)


def _task_row(job: int, task: TaskRow) -> dict[str, Any]:
    row = msgspec.structs.asdict(task)
    del row["waiting"]
    return row | {"job": job, "dependencies": msgspec.json.encode(task.dependencies).decode()}


def _task_changes(job: int, task: TaskRow) -> dict[str, Any]:
    return {"job_": job, "idx_": task.idx, **{name: getattr(task, name) for name in _TASK_CHANGES}}
