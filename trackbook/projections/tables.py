"""The tables of the read model. All of it can be thrown away and is rebuilt from the log.

Rows are numbered by the sequence of the commit that made them, so that newest first is the order of a key and a
rebuild gives the same rows. Times are microseconds since 1970 in UTC.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)

MODEL = 9
"""Goes up with any change of the tables or of what they hold; a file with another number is rebuilt."""

metadata = MetaData()


def _number(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, Integer, primary_key=key, nullable=False, autoincrement=False)


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=False)


def _maybe(name: str, *, text: bool = False) -> Column[object]:
    return Column(name, Text() if text else Integer(), nullable=True)


checkpoint = Table(
    "checkpoint",
    metadata,
    _number("one", key=True),
    _number("model"),
    _number("seq"),
    _text("digest"),  # of the message at `seq`: another log under the same file is noticed
)

words = Table("words", metadata, _number("no", key=True), Column("text", Text, nullable=False, unique=True))
"""Actors and types of events, several joined by line ends, each spelt once."""

aggregates = Table(
    "aggregates",
    metadata,
    _number("no", key=True),
    _text("kind"),
    _text("id"),
    _text("pipeline"),
    UniqueConstraint("kind", "id"),
)

commits = Table(
    "commits",
    metadata,
    _number("seq", key=True),
    _number("aggregate"),
    _number("version"),
    Column("sha256", LargeBinary, nullable=False),  # of the message: the next commit of the aggregate names it
    _number("at"),
    _number("actors"),
    _number("types"),
    _number("events"),
    Index("commits_of_aggregate", "aggregate", "seq"),
)

quarantine = Table(
    "quarantine",
    metadata,
    _number("seq", key=True),
    _number("through"),  # the last sequence of a range that is missing in the stream; else seq
    _text("kind"),
    _text("id"),
    _text("reason"),
)

pipelines = Table(
    "pipelines",
    metadata,
    _number("no", key=True),
    Column("id", Text, nullable=False, unique=True),
    _text("name"),
    _text("description"),
    _text("state"),
    _number("version"),
    _number("tasks"),
    _number("created_at"),
    _number("updated_at"),
    _text("actor"),
    _number("seq"),
    _text("problem"),
    Index("pipelines_by_name", "name"),
)

versions = Table(
    "versions",
    metadata,
    _number("pipeline", key=True),
    _number("version", key=True),
    _number("seq"),
    _number("at"),
    _text("actor"),
    _text("name"),
    _number("tasks"),
    _number("changes"),
    _text("types"),
    _maybe("restored"),
    sqlite_with_rowid=False,
)

jobs = Table(
    "jobs",
    metadata,
    _number("no", key=True),
    Column("id", Text, nullable=False, unique=True),
    _text("pipeline"),
    _text("pipeline_name"),
    _number("version"),
    _text("definition"),
    _text("executor"),
    _text("parameters"),
    _text("actor"),
    _text("state"),
    _number("created_at"),
    _maybe("started_at"),
    _maybe("finished_at"),
    _text("error"),
    _text("failed_task"),
    _maybe("exit_code"),
    _maybe("signal"),
    _text("tail"),
    _text("reason"),
    _text("problem"),
    _number("revision"),
    _number("seq"),
    _number("total"),
    _number("running"),
    _number("done"),
    _number("failed"),
    _number("cancelled"),
    Index("jobs_of_pipeline", "pipeline", "no"),
    Index("jobs_by_state", "state", "no"),
)

tasks = Table(
    "tasks",
    metadata,
    _number("job", key=True),
    _number("idx", key=True),
    _text("name"),
    _text("dependencies"),  # JSON: the indexes of the tasks that it depends on, in the order of its inputs
    _text("state"),
    _number("attempt"),
    _text("session"),
    _text("executor"),
    _text("executor_status"),
    _text("executor_message"),
    _text("link"),
    _maybe("launched_at"),
    _maybe("started_at"),
    _maybe("finished_at"),
    _maybe("run_time"),
    _maybe("exit_code"),
    _maybe("signal"),
    _text("error"),
    _text("tail"),
    _text("fault"),
    _text("warning"),
    _text("service"),  # JSON: how a service is reached, '' for none
    sqlite_with_rowid=False,
)

results = Table(
    "results",
    metadata,
    _number("job", key=True),
    _number("idx", key=True),
    Column("json", LargeBinary, nullable=False),
)
"""Results of tasks, up to 1 MiB each: apart from the tasks, whose rows are read by the thousand."""

states = Table("states", metadata, _number("seq", key=True), Column("json", LargeBinary, nullable=False))
"""What each event of a job's commit led to: a list of JobStates (views.py), an event each."""

snapshots = Table(
    "snapshots",
    metadata,
    _number("job", key=True),
    _number("revision"),
    Column("state", LargeBinary, nullable=False),  # the engine's JobState, in MessagePack
)
"""Snapshots of unfinished jobs that are not in memory; a job without one is folded from the log."""


def has_word(column: Any, word: str) -> ColumnElement[bool]:
    """Return whether one of the words that are joined by line ends is this one."""
    return func.instr("\n" + column + "\n", f"\n{word}\n") > 0
