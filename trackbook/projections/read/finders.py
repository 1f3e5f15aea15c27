"""Finders: what HTTP and CLI read. Lists are newest first and continue from a cursor."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import Struct
from sqlalchemy import Connection, Select, func, select

from trackbook.engine.ports import Blobs, EventStore
from trackbook.projections.errors import DamagedError
from trackbook.projections.read.event_finder import EventFinder
from trackbook.projections.read.event_reader import Pages
from trackbook.projections.read.paging import ReadError, page, place
from trackbook.projections.read.row_views import (
    show_commit,
    show_job,
    show_pipeline,
    show_quarantine,
    show_version,
)
from trackbook.projections.read.task_rows import (
    select_listed_tasks,
    select_task,
    show_listed_task,
    show_single_task,
)
from trackbook.projections.read.time_travel import job_moment
from trackbook.projections.tables import (
    aggregates,
    commits,
    has_word,
    jobs,
    pipelines,
    quarantine,
    tasks,
    versions,
    words,
)
from trackbook.projections.times import to_micros
from trackbook.projections.views import (
    CommitView,
    JobMoment,
    JobView,
    Page,
    PipelineView,
    QuarantineView,
    TaskView,
    VersionView,
)
from trackbook.projections.write.projector import Projector, SequenceUnknownError

T = TypeVar("T")
_SHOWN_CANDIDATES = 5
_SHOWN_TASKS = 8
_COMPARED = 2000
"""Names, the newest, among which the one that was meant is looked for."""
_HEAD_WITHIN = 2.0


class CommitFilter(Struct, frozen=True):
    """Which commits: of a kind, an aggregate, a pipeline and its jobs, an actor; with a type of event."""

    kind: str = ""
    id: str = ""
    pipeline: str = ""
    actor: str = ""
    type: str = ""
    since: datetime | None = None
    until: datetime | None = None


class ReadModel:
    """Reads what the projector keeps; bodies of events are read from the log."""

    def __init__(self, projector: Projector, log: EventStore, bodies: Blobs) -> None:
        self.projector = projector
        self.pages = Pages(log, bodies, lambda: projector.decisions)
        self.events = EventFinder(self._read, self.pages)

    async def settled(self, after: int | None, timeout: float = 10.0) -> None:
        """Wait until the rows hold sequence `after`; raises NotProjectedError, SequenceUnknownError at once."""
        if after is None:
            return
        if after > self.projector.head:
            await self._check_in_log(after)
        await self.projector.wait_for(after, timeout)

    async def _check_in_log(self, seq: int) -> None:
        """Raise SequenceUnknownError if the log is readable and ends before a sequence."""
        try:
            async with asyncio.timeout(_HEAD_WITHIN):
                head = await self.pages.log.head()
        except Exception:  # the broker is away: the projector's wait reports what is wrong
            return
        if seq > head:
            raise SequenceUnknownError(f"the log has no sequence {seq} yet: it ends at {head}")

    async def pipelines(
        self, limit: int, cursor: str | None = None, *, state: str = "active", name: str = "", total: bool = False
    ) -> Page[PipelineView]:
        """List pipelines; `state` is active, deleted or all."""
        query = select(pipelines).order_by(pipelines.c.no.desc())
        if state != "all":
            query = query.where(pipelines.c.state == state)
        if name:
            query = query.where(pipelines.c.name.in_(_spellings(name)))
        rows = await self._rows(query, pipelines.c.no, cursor, limit)
        return await self._counted(page(rows, limit, show_pipeline, _row_number), query, total)

    async def pipeline(self, key: str) -> PipelineView:
        """Return the pipeline of a name, id or unique beginning of an id; raises ReadError."""
        return show_pipeline(await self._read(lambda connection: _pipeline(connection, key)))

    async def pipeline_names(self) -> Sequence[str]:
        """Return the names of the newest pipelines, those that a mistyped name is compared with."""
        return await self._read(_pipeline_names)

    async def versions(
        self, key: str, limit: int, cursor: str | None = None, *, total: bool = False
    ) -> Page[VersionView]:
        """List a pipeline's versions."""
        row = await self._read(lambda connection: _pipeline(connection, key))
        query = select(versions).where(versions.c.pipeline == row.no).order_by(versions.c.version.desc())
        rows = await self._rows(query, versions.c.version, cursor, limit)
        found = page(rows, limit, lambda each: show_version(each, row.id), lambda each: int(each.version))
        return await self._counted(found, query, total)

    async def version(self, key: str, number: int) -> VersionView:
        """Return one version of a pipeline; raises ReadError."""
        row = await self._read(lambda connection: _pipeline(connection, key))
        query = select(versions).where(versions.c.pipeline == row.no, versions.c.version == number)
        found = await self._read(lambda connection: connection.execute(query).one_or_none())
        if found is None:
            message = f"pipeline {row.name} has no version {number}: the last one is {row.version}"
            raise ReadError("pipeline_version_not_found", message)
        return show_version(found, row.id)

    async def jobs(
        self,
        limit: int,
        cursor: str | None = None,
        *,
        pipeline: str = "",
        states: Sequence[str] = (),
        total: bool = False,
    ) -> Page[JobView]:
        """List jobs: all, those of a pipeline (name, id or beginning), those in some states."""
        query = select(jobs).order_by(jobs.c.no.desc())
        if pipeline:
            row = await self._read(lambda connection: _pipeline(connection, pipeline))
            query = query.where(jobs.c.pipeline == row.id)
        if states:
            query = query.where(jobs.c.state.in_(states))
        rows = await self._rows(query, jobs.c.no, cursor, limit)
        return await self._counted(page(rows, limit, show_job, _row_number), query, total)

    async def job(self, key: str) -> JobView:
        """Return the job of an id or a unique beginning of one; raises ReadError."""
        return show_job(await self._read(lambda connection: _job(connection, key)))

    async def tasks(
        self, key: str, limit: int, cursor: str | None = None, *, states: Sequence[str] = ()
    ) -> Page[TaskView]:
        """List a job's tasks in the pipeline's order."""
        after = place(cursor, 1)[0] if cursor else -1

        def read_page(connection: Connection) -> Page[TaskView]:
            rows, names = _tasks(connection, key, after, limit, states)
            return page(rows, limit, lambda row: show_listed_task(row, names), lambda row: int(row.idx))

        return await self._read(read_page)

    async def task(self, key: str, name: str) -> TaskView:
        """Return one task of a job by its name; raises ReadError."""
        row, names = await self._read(lambda connection: _task(connection, key, name))
        return show_single_task(row, names)

    async def job_at(self, key: str, version: int, index: int | None = None) -> JobMoment:
        """Return a job and its tasks as of a commit, or of one event in it; raises ReadError."""
        row = await self._read(lambda connection: _job(connection, key))
        return await job_moment(self.pages, row.id, row.no, version, index)

    async def commits(
        self, limit: int, cursor: str | None, only: CommitFilter, *, total: bool = False
    ) -> Page[CommitView]:
        """List commits, of whatever they are."""
        query = _commits(only)
        rows = await self._rows(query, commits.c.seq, cursor, limit)
        return await self._counted(page(rows, limit, show_commit, lambda row: int(row.seq)), query, total)

    async def quarantine(self, limit: int, cursor: str | None = None) -> Page[QuarantineView]:
        """List what of the log could not be projected."""
        query = select(quarantine).order_by(quarantine.c.seq.desc())
        rows = await self._rows(query, quarantine.c.seq, cursor, limit)
        return page(rows, limit, show_quarantine, lambda row: int(row.seq))

    async def job_states(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        rows = await self._read(lambda connection: connection.execute(query).all())
        return {state: number for state, number in rows}  # noqa: C416 - rows aren't pairs to a type checker

    async def _rows(self, query: Select[Any], key: Any, cursor: str | None, limit: int) -> Sequence[Any]:
        """Return the rows of a list from the newest, or from a cursor, and one more than asked for."""
        if cursor:
            query = query.where(key < place(cursor, 1)[0])
        query = query.limit(limit + 1)
        return await self._read(lambda connection: connection.execute(query).all())

    async def _counted(self, found: Page[T], query: Select[Any], total: bool) -> Page[T]:
        """Return the page, with the size of the whole list if asked for."""
        if total:
            count = select(func.count()).select_from(query.order_by(None).subquery())
            found.total = await self._read(lambda connection: connection.execute(count).scalar_one())
        return found

    async def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self.projector.database.read(work)
        except DamagedError:
            self.projector.damaged()
            raise


def _row_number(row: Any) -> int:
    return int(row.no)


def _by_key(connection: Connection, table: Any, key: str, what: str) -> Any:
    """Find a row by its id or a unique beginning of it."""
    query = select(table).where(table.c.id >= key, table.c.id < key + "\U0010ffff").order_by(table.c.id)
    found = connection.execute(query.limit(_SHOWN_CANDIDATES + 1)).all() if key else []
    if not found:
        hint = f"`trackbook {what} list` shows what there is."
        known = _pipeline_names(connection) if table is pipelines else []
        raise ReadError(f"{what}_not_found", f"there is no {what} {key!r}", hint, name=key, known=known)
    if len(found) > 1 and found[0].id != key:
        ids = ", ".join(row.id for row in found[:_SHOWN_CANDIDATES])
        more = " and more" if len(found) > _SHOWN_CANDIDATES else ""
        message = f"{key!r} is ambiguous: it matches {ids}{more}"
        raise ReadError("ambiguous_id", message, "Give more characters of the id.")
    return found[0]


def _pipeline(connection: Connection, key: str) -> Any:
    named = select(pipelines).where(pipelines.c.name.in_(_spellings(key)), pipelines.c.state == "active")
    by_id = select(pipelines).where(pipelines.c.id == key)
    for query in (by_id, named):
        if (row := connection.execute(query).first()) is not None:
            return row
    return _by_key(connection, pipelines, key, "pipeline")


def _spellings(name: str) -> set[str]:
    """Return a name as it is given, composed and decomposed, as macOS and Linux type it."""
    return {name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}


def _pipeline_names(connection: Connection) -> Sequence[str]:
    names = select(pipelines.c.name).where(pipelines.c.state == "active").order_by(pipelines.c.no.desc())
    return connection.execute(names.limit(_COMPARED)).scalars().all()


def _job(connection: Connection, key: str) -> Any:
    return _by_key(connection, jobs, key, "job")


def _names(connection: Connection, job: int) -> list[str]:
    return list(
        connection.execute(select(tasks.c.name).where(tasks.c.job == job).order_by(tasks.c.idx)).scalars()
    )


def _tasks(
    connection: Connection, key: str, after: int, limit: int, states: Sequence[str]
) -> tuple[Sequence[Any], list[str]]:
    job = _job(connection, key)
    query = select_listed_tasks().where(tasks.c.job == job.no, tasks.c.idx > after).order_by(tasks.c.idx)
    if states:
        query = query.where(tasks.c.state.in_(states))
    return connection.execute(query.limit(limit + 1)).all(), _names(connection, job.no)


def _task(connection: Connection, key: str, name: str) -> tuple[Any, list[str]]:
    job = _job(connection, key)
    query = select_task().where(tasks.c.job == job.no, tasks.c.name.in_(_spellings(name)))
    row = connection.execute(query).first()
    names = _names(connection, job.no)
    if row is None:
        hint = f"Its tasks: {_names_text(names)}."
        raise ReadError("task_not_found", f"job {job.id} has no task {name!r}", hint, name=name, known=names)
    return row, names


def _names_text(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_TASKS} more" if len(names) > _SHOWN_TASKS else ""
    return ", ".join(names[:_SHOWN_TASKS]) + more


def _commits(only: CommitFilter) -> Select[Any]:
    actors, types = words.alias("actors"), words.alias("types")
    query = (
        select(
            commits.c.seq,
            commits.c.version,
            commits.c.at,
            commits.c.events,
            aggregates.c.kind,
            aggregates.c.id,
            aggregates.c.pipeline,
            actors.c.text.label("actors"),
            types.c.text.label("types"),
        )
        .join(aggregates, aggregates.c.no == commits.c.aggregate)
        .join(actors, actors.c.no == commits.c.actors)
        .join(types, types.c.no == commits.c.types)
        .order_by(commits.c.seq.desc())
    )
    for column, value in (
        (aggregates.c.kind, only.kind),
        (aggregates.c.id, only.id),
        (aggregates.c.pipeline, only.pipeline),
    ):
        query = query.where(column == value) if value else query
    for column, value in ((actors.c.text, only.actor), (types.c.text, only.type)):
        query = query.where(has_word(column, value)) if value else query
    if only.since:
        query = query.where(commits.c.at >= to_micros(only.since))
    if only.until:
        query = query.where(commits.c.at < to_micros(only.until))
    return query
