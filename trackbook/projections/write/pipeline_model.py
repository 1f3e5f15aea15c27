"""The model of pipelines and their versions; their contents are folded from the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, insert, select, update

from trackbook.events import pipeline as pipeline_events
from trackbook.projections.decoded_commit import DecodedCommit
from trackbook.projections.tables import pipelines, versions
from trackbook.projections.write.quarantine_model import Quarantine


class PipelineRow(Struct):
    """A pipeline; the fields are the columns. `no` is the sequence of its first commit, `seq` of its last one."""

    no: int
    id: str
    created_at: int
    name: str = ""
    description: str = ""
    state: str = "active"
    version: int = 0
    tasks: int = 0
    updated_at: int = 0
    actor: str = ""
    seq: int = 0
    problem: str = ""


_CHANGES = tuple(name for name in PipelineRow.__struct_fields__ if name not in ("no", "id", "created_at"))
_UPDATE = (
    update(pipelines)
    .where(pipelines.c.no == bindparam("no_"))
    .values({name: bindparam(name) for name in _CHANGES})
)
_INSERT, _INSERT_VERSION = insert(pipelines), insert(versions)


class PipelinesModel:
    """Folds the commits of pipelines into the tables `pipelines` and `versions`."""

    def project(self, connection: Connection, commits: Sequence[DecodedCommit], quarantine: Quarantine) -> None:
        """Take a batch of commits and write the rows that it changed."""
        touched: dict[str, PipelineRow] = {}
        new: list[PipelineRow] = []
        history: list[dict[str, Any]] = []
        for commit in commits:
            if commit.kind != "pipeline":
                continue
            row = touched.get(commit.id) or _load(connection, commit.id)
            if not quarantine.admits(commit):
                if row is not None:
                    row.problem = row.problem or quarantine.reason(
                        commit
                    )  # a blocked pipeline says so in `problem`
                    touched[commit.id] = row
                continue
            if row is None:
                row = PipelineRow(commit.seq, commit.id, commit.at)
                new.append(row)
            touched[commit.id] = row
            if version := _apply(row, commit):
                history.append(version)
        _write(connection, touched, new, history)

    def forget(self) -> None:
        """Do nothing: edits are rare, so nothing is held between batches."""


def _apply(row: PipelineRow, commit: DecodedCommit) -> dict[str, Any] | None:
    """Fold a commit into the pipeline's row and return the row of the version that it made, if it made one."""
    restored = None
    for event in commit.events:
        _evolve(row, event)
        if isinstance(event, pipeline_events.PipelineRestored):
            restored = event.version
    row.updated_at, row.actor, row.seq = commit.at, commit.actor, commit.seq
    if row.state == "deleted":
        return None  # a delete changes no content
    row.version = commit.version
    return {
        "pipeline": row.no,
        "version": commit.version,
        "seq": commit.seq,
        "at": commit.at,
        "actor": commit.actor,
        "name": row.name,
        "tasks": row.tasks,
        "changes": commit.count,
        "types": "\n".join(commit.types),
        "restored": restored,
    }


def _evolve(row: PipelineRow, event: pipeline_events.AnyPipelineEvent) -> None:
    match event:
        case pipeline_events.PipelineCreated() | pipeline_events.PipelineRenamed():
            row.name = event.name
        case pipeline_events.TaskAdded():
            row.tasks += 1
        case pipeline_events.TaskRemoved():
            row.tasks -= 1
        case pipeline_events.SettingChanged(path=["description"]):
            row.description = event.value if isinstance(event.value, str) else ""
        case pipeline_events.SettingRemoved(path=["description"]):
            row.description = ""
        case pipeline_events.PipelineDeleted():
            row.state = "deleted"
        case _:
            pass


def _load(connection: Connection, id: str) -> PipelineRow | None:  # noqa: A002
    row = connection.execute(select(pipelines).where(pipelines.c.id == id)).mappings().one_or_none()
    return None if row is None else PipelineRow(**row)


def _write(
    connection: Connection,
    touched: dict[str, PipelineRow],
    new: list[PipelineRow],
    history: list[dict[str, Any]],
) -> None:
    fresh = {row.no for row in new}
    changed = [row for row in touched.values() if row.no not in fresh]
    if new:
        connection.execute(_INSERT, [msgspec.structs.asdict(row) for row in new])
    if changed:
        connection.execute(
            _UPDATE, [{"no_": row.no, **{name: getattr(row, name) for name in _CHANGES}} for row in changed]
        )
    if history:
        connection.execute(_INSERT_VERSION, history)
