"""Turns rows into the views that readers get."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from trackbook.events.clock_jump import clock_jump
from trackbook.projections.times import optional_text, to_text
from trackbook.projections.views import (
    CommitView,
    JobView,
    PipelineView,
    QuarantineView,
    TaskCounts,
    TaskView,
    VersionView,
)
from trackbook.projections.write.job_rows import FoldedJob, JobRow, TaskRow

LISTED_RESULT = 4096
"""Bytes of a result, in JSON, from which it is left out where several tasks are listed."""


def show_pipeline(row: Any) -> PipelineView:
    """Return the view of a row of `pipelines`."""
    return PipelineView(
        id=row.id,
        name=row.name,
        description=row.description,
        version=row.version,
        state=row.state,
        tasks=row.tasks,
        created_at=to_text(row.created_at),
        updated_at=to_text(row.updated_at),
        actor=row.actor,
        seq=row.seq,
        problem=row.problem or None,
    )


def show_version(row: Any, pipeline: str) -> VersionView:
    """Return the view of a row of `versions`."""
    return VersionView(
        pipeline=pipeline,
        version=row.version,
        name=row.name,
        at=to_text(row.at),
        actor=row.actor,
        seq=row.seq,
        tasks=row.tasks,
        events=row.changes,
        changes=_words(row.types),
        restored=row.restored,
    )


def show_job(row: JobRow | Any) -> JobView:
    """Return the view of a row of `jobs`, or of one folded in memory."""
    moved = row.running + row.done + row.failed + row.cancelled
    return JobView(
        id=row.id,
        pipeline=row.pipeline,
        pipeline_name=row.pipeline_name,
        version=row.version,
        definition=row.definition,
        state=row.state,
        created_at=to_text(row.created_at),
        started_at=optional_text(row.started_at),
        finished_at=optional_text(row.finished_at),
        run_time=_run_time(_elapsed(row), None),
        clock_jump=clock_jump(_elapsed(row), None),
        error=row.error or None,
        failed_task=row.failed_task or None,
        exit_code=row.exit_code,
        signal=row.signal,
        tail=row.tail or None,
        reason=row.reason or None,
        actor=row.actor,
        executor=row.executor,
        parameters=msgspec.json.decode(row.parameters),
        tasks=TaskCounts(row.total, row.total - moved, row.running, row.done, row.failed, row.cancelled),
        revision=row.revision,
        seq=row.seq,
        problem=row.problem or None,
    )


def show_task(row: TaskRow | Any, dependencies: list[str], result: Any) -> TaskView:
    """Return the view of a row of `tasks`, or of one folded in memory, with its result (see `result_value`)."""
    return TaskView(
        name=row.name,
        index=row.idx,
        state=row.state,
        attempt=row.attempt,
        session=row.session or None,
        executor=row.executor,
        executor_status=row.executor_status or None,
        executor_message=row.executor_message or None,
        link=row.link or None,
        launched_at=optional_text(row.launched_at),
        started_at=optional_text(row.started_at),
        finished_at=optional_text(row.finished_at),
        run_time=_run_time(_elapsed(row), row.run_time),
        clock_jump=clock_jump(_elapsed(row), None if row.run_time is None else row.run_time / 1e6),
        exit_code=row.exit_code,
        signal=row.signal,
        error=row.error or None,
        tail=row.tail or None,
        fault=row.fault or None,
        warning=row.warning or None,
        service=msgspec.json.decode(row.service) if row.service else None,
        result=result,
        dependencies=dependencies,
    )


def show_fold(fold: FoldedJob) -> tuple[JobView, list[TaskView]]:
    """Return the views of a job that was folded in memory."""
    names = [task.name for task in fold.tasks]
    return show_job(fold.job), [
        show_task(
            task, [names[number] for number in task.dependencies], _listed_result(fold.results.get(task.idx, b""))
        )
        for task in fold.tasks
    ]


def _listed_result(json: bytes) -> Any:
    return UNSET if len(json) > LISTED_RESULT else result_value(json)


def result_value(json: bytes | None) -> Any:
    """Return the value of a result as it is stored, None where there is none."""
    return msgspec.json.decode(json) if json else None


def show_commit(row: Any) -> CommitView:
    """Return the view of a commit, joined with its aggregate and its words."""
    actors = _words(row.actors)
    return CommitView(
        seq=row.seq,
        aggregate=f"{row.kind}/{row.id}",
        kind=row.kind,
        aggregate_id=row.id,
        pipeline=row.pipeline or None,
        version=row.version,
        at=to_text(row.at),
        actor=actors[0] if actors else "",
        actors=actors,
        events=row.events,
        types=_words(row.types),
    )


def show_quarantine(row: Any) -> QuarantineView:
    """Return the view of a row of `quarantine`."""
    return QuarantineView(row.seq, row.through, row.kind or None, row.id or None, row.reason)


def _words(text: str) -> list[str]:
    return text.split("\n") if text else []


def _elapsed(row: JobRow | TaskRow | Any) -> float | None:
    """Return the seconds from start to end by the wall clock; negative where it was set back meanwhile."""
    if row.started_at is None or row.finished_at is None:
        return None
    return float(row.finished_at - row.started_at) / 1e6


def _run_time(elapsed: float | None, measured: int | None) -> float | None:
    """Return what was measured, else the time by the wall clock, None where that can't be right."""
    if measured is not None:
        return measured / 1e6
    return None if elapsed is None or clock_jump(elapsed, None) else max(0.0, elapsed)
