"""The model of commits: place, time, actors and types of events; bodies stay on the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, tuple_

from trackbook.events.job import JobCreated
from trackbook.projections.decoded_commit import DecodedCommit
from trackbook.projections.tables import aggregates, commits, words
from trackbook.projections.write.quarantine_model import Quarantine

_HELD = 4096
"""Aggregates that are remembered between batches: the latest. Of others the last version is looked up."""

_LOOK_UP = 500
"""SQLite takes a bounded number of parameters in a statement."""

_MODELLED = frozenset(("pipeline", "job"))
"""Kinds with a model of their own, which asks whether their commits may be projected."""

_INSERT_COMMIT, _INSERT_AGGREGATE, _INSERT_WORD = insert(commits), insert(aggregates), insert(words)


class _Known:
    __slots__ = ("no", "pipeline", "sha256", "version")

    def __init__(self, no: int, version: int, sha256: str, pipeline: str) -> None:
        self.no, self.version, self.sha256, self.pipeline = no, version, sha256, pipeline


class CommitsModel:
    """Folds all commits into `commits`, `aggregates` and `words`, and checks that versions have no gap."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}
        self._words: dict[str, int] = {}

    def project(self, connection: Connection, batch: Sequence[DecodedCommit], quarantine: Quarantine) -> None:
        """Take a batch of commits; sets each one's `pipeline`, and `problem` where its version can't follow."""
        if not self._words:
            self._words = {row.text: row.no for row in connection.execute(select(words))}
        self._look_up(connection, batch)
        new_aggregates: list[dict[str, Any]] = []
        new_words: list[dict[str, Any]] = []
        rows = [self._row(commit, new_aggregates, new_words) for commit in batch]
        for commit in batch:
            if commit.kind not in _MODELLED:
                quarantine.admits(commit)
        for statement, values in (
            (_INSERT_WORD, new_words),
            (_INSERT_AGGREGATE, new_aggregates),
            (_INSERT_COMMIT, rows),
        ):
            if values:
                connection.execute(statement, values)
        while len(self._known) > _HELD:
            del self._known[next(iter(self._known))]

    def forget(self) -> None:
        """Drop what is held in memory, since the batch that led to it was rolled back."""
        self._known.clear()
        self._words.clear()

    def _look_up(self, connection: Connection, batch: Sequence[DecodedCommit]) -> None:
        unknown = {(commit.kind, commit.id) for commit in batch} - self._known.keys()
        # A first version belongs to a new aggregate, so the common case asks nothing.
        unknown -= {(commit.kind, commit.id) for commit in batch if commit.version == 1 and not commit.problem}
        for some in _portions(sorted(unknown)):
            last = (
                select(aggregates, func.max(commits.c.seq).label("last"))
                .join(commits, commits.c.aggregate == aggregates.c.no)
                .where(tuple_(aggregates.c.kind, aggregates.c.id).in_(some))
                .group_by(aggregates.c.no)
                .subquery()
            )
            found = select(last, commits.c.version, commits.c.sha256).join(commits, commits.c.seq == last.c.last)
            for row in connection.execute(found):
                self._known[row.kind, row.id] = _Known(row.no, row.version, row.sha256.hex(), row.pipeline)

    def _row(
        self,
        commit: DecodedCommit,
        new_aggregates: list[dict[str, Any]],
        new_words: list[dict[str, Any]],
    ) -> dict[str, Any]:
        known = self._known.get((commit.kind, commit.id))
        if known is None:
            known = self._known[commit.kind, commit.id] = _Known(commit.seq, 0, "", _pipeline_of(commit))
            new_aggregates.append(
                {"no": commit.seq, "kind": commit.kind, "id": commit.id, "pipeline": known.pipeline}
            )
        commit.pipeline = known.pipeline
        if not commit.problem:
            commit.problem = link_problem(commit, known.version, known.sha256)
        if not commit.problem:
            known.version, known.sha256 = commit.version, commit.sha256
        return {
            "seq": commit.seq,
            "aggregate": known.no,
            "version": commit.version,
            "sha256": bytes.fromhex(commit.sha256),
            "at": commit.at,
            "actors": self._word(commit.actors, new_words),
            "types": self._word(commit.types, new_words),
            "events": commit.count,
        }

    def _word(self, texts: list[str], new_words: list[dict[str, Any]]) -> int:
        text = "\n".join(texts)
        number = self._words.get(text)
        if number is None:
            number = self._words[text] = len(self._words) + 1
            new_words.append({"no": number, "text": text})
        return number


def link_problem(commit: DecodedCommit, version: int, sha256: str) -> str:
    """Return why the commit can't follow a version with this SHA-256, '' where it can, as events/chain.py does.

    Its schema and its subject are looked at when it is decoded.
    """
    if commit.version != version + 1:
        return f"version {commit.version} can't follow version {version}"
    return "" if commit.prev == sha256 else f"its hash of the previous commit does not match version {version}"


def _pipeline_of(commit: DecodedCommit) -> str:
    """Return the pipeline that an aggregate concerns, from its first commit ('' for outcomes)."""
    if commit.kind == "pipeline":
        return commit.id
    first = commit.events[0] if commit.events else None
    if isinstance(first, JobCreated):
        return first.pipeline
    return getattr(first, "pipeline", "")


def _portions(keys: Sequence[tuple[str, str]]) -> Iterable[Sequence[tuple[str, str]]]:
    return (keys[start : start + _LOOK_UP] for start in range(0, len(keys), _LOOK_UP))
