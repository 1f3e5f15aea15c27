"""The model of jobs and their tasks: jobs in flight are held in memory, changed rows written once a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from trackbook.projections.decoded_commit import DecodedCommit
from trackbook.projections.tables import jobs, results, snapshots, states, tasks
from trackbook.projections.write.job_rows import CANT_FOLLOW, FoldedJob, JobRow, TaskRow, new_job
from trackbook.projections.write.quarantine_model import Quarantine

_HELD = 50_000
"""Tasks of unfinished jobs kept in memory between batches; other jobs are restored at their next commit."""

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
_FIXED_TASK = ("idx", "name", "dependencies", "executor")
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
_DELETE_SNAPSHOT = delete(snapshots).where(snapshots.c.job == bindparam("job_"))
_INSERT_JOB, _INSERT_TASK, _INSERT_STATES = insert(jobs), insert(tasks), insert(states)
_INSERT_RESULT = insert(results)


class StoredJob(Struct, frozen=True):
    """A job's rows as they are stored; `snapshot` is its state then, in MessagePack, None where it has none."""

    job: dict[str, Any]
    tasks: list[dict[str, Any]]
    snapshot: bytes | None


class CachedJob(Struct):
    """An unfinished job; `problem` says why its state can't be read from the log any more."""

    fold: FoldedJob
    problem: str = ""


class JobsModel:
    """Folds the commits of jobs into the tables `jobs` and `tasks`."""

    def __init__(self) -> None:
        self._held: dict[str, CachedJob] = {}

    def lacking(self, commits: Sequence[DecodedCommit]) -> list[str]:
        """Return the jobs in a batch that began before it and are not held: they are to be restored."""
        ids = dict.fromkeys(
            commit.id for commit in commits if commit.kind == "job" and commit.id not in self._held
        )
        begun = {commit.id for commit in commits if commit.version == 1}
        return [id for id in ids if id not in begun]  # noqa: A001

    def hold(self, held: CachedJob | None) -> None:
        """Take a restored job; None for one of which nothing is stored."""
        if held is not None:
            self._held[held.fold.job.id] = held

    def project(self, connection: Connection, commits: Sequence[DecodedCommit], quarantine: Quarantine) -> None:
        """Take a batch of commits and write the rows that it changed."""
        touched: dict[str, FoldedJob] = {}
        for commit in commits:
            if commit.kind == "job" and (fold := self._take(commit, quarantine)) is not None:
                touched[commit.id] = fold
        if touched:
            _write(connection, touched.values())
            led_to = [{"seq": commit.seq, "json": commit.states} for commit in commits if commit.states]
            if led_to:
                connection.execute(_INSERT_STATES, led_to)
            self._let_go(connection, touched)

    def forget(self) -> None:
        """Drop what is held in memory, since the batch that led to it was rolled back."""
        self._held.clear()

    def _take(self, commit: DecodedCommit, quarantine: Quarantine) -> FoldedJob | None:
        held = self._held.get(commit.id)
        fold = held.fold if held else None
        if quarantine.admits(commit):
            if held and held.problem:
                quarantine.add(commit, held.problem)
            else:
                try:
                    fold = fold or new_job(commit)
                    fold.apply(commit)
                except CANT_FOLLOW as error:
                    quarantine.add(commit, f"its events can't follow the ones before: {error!r}")
        if fold is not None:
            # A blocked job says so in `problem`.
            fold.job.problem = fold.job.problem or quarantine.reason(commit)
            self._held[commit.id] = held or CachedJob(fold)
        return fold

    def _let_go(self, connection: Connection, touched: dict[str, FoldedJob]) -> None:
        """Keep unfinished jobs in memory; evicts the least recently touched when there are too many."""
        ended = []
        for id, fold in touched.items():  # noqa: A001
            held = self._held.pop(id)
            if fold.job.finished_at is None:
                self._held[id] = held
            else:
                ended.append({"job_": fold.job.no})
        if ended:
            connection.execute(_DELETE_SNAPSHOT, ended)
        number = sum(len(held.fold.tasks) for held in self._held.values())
        while number > _HELD and len(self._held) > 1:
            gone = self._held.pop(next(iter(self._held)))
            number -= len(gone.fold.tasks)
            _store_snapshot(connection, gone)


def _store_snapshot(connection: Connection, held: CachedJob) -> None:
    """Store the state of a job that is held no more."""
    job = held.fold.job
    connection.execute(_DELETE_SNAPSHOT, {"job_": job.no})
    if not held.problem and not job.problem:
        state = msgspec.msgpack.encode(held.fold.state)
        connection.execute(insert(snapshots), {"job": job.no, "revision": job.revision, "state": state})


def stored_job(connection: Connection, id: str) -> StoredJob | None:  # noqa: A002
    """Return what is stored of a job, None for one that is not known."""
    job = connection.execute(select(jobs).where(jobs.c.id == id)).mappings().one_or_none()
    if job is None:
        return None
    rows = connection.execute(select(tasks).where(tasks.c.job == job["no"]).order_by(tasks.c.idx)).mappings()
    this = (snapshots.c.job == job["no"]) & (snapshots.c.revision == job["revision"])
    snapshot = connection.execute(select(snapshots.c.state).where(this)).scalar()
    return StoredJob(dict(job), [dict(row) for row in rows], snapshot)


def _write(connection: Connection, folds: Iterable[FoldedJob]) -> None:
    new_jobs: list[dict[str, Any]] = []
    old_jobs: list[dict[str, Any]] = []
    new_tasks: list[dict[str, Any]] = []
    old_tasks: list[dict[str, Any]] = []
    new_results: list[dict[str, Any]] = []
    for fold in folds:
        if fold.new:
            new_jobs.append(msgspec.structs.asdict(fold.job))
            new_tasks += [_task_row(fold.job.no, task) for task in fold.tasks]
        else:
            old_jobs.append({"no_": fold.job.no, **{name: getattr(fold.job, name) for name in _JOB_CHANGES}})
            old_tasks += [_task_changes(fold.job.no, fold.tasks[index]) for index in fold.changed]
        new_results += [{"job": fold.job.no, "idx": idx, "json": json} for idx, json in fold.results.items()]
        fold.new = False
        fold.changed.clear()
        fold.results.clear()
    for statement, rows in (
        (_INSERT_JOB, new_jobs),
        (_UPDATE_JOB, old_jobs),
        (_INSERT_TASK, new_tasks),
        (_UPDATE_TASK, old_tasks),
        (_INSERT_RESULT, new_results),
    ):
        if rows:
            connection.execute(statement, rows)


def _task_row(job: int, task: TaskRow) -> dict[str, Any]:
    return msgspec.structs.asdict(task) | {
        "job": job,
        "dependencies": msgspec.json.encode(task.dependencies).decode(),
    }


def _task_changes(job: int, task: TaskRow) -> dict[str, Any]:
    return {"job_": job, "idx_": task.idx, **{name: getattr(task, name) for name in _TASK_CHANGES}}
