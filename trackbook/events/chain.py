"""The rule for one history: which commit may follow which (ADR 0014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from trackbook.events.commit import SCHEMA, Commit


class Link(Struct, frozen=True):
    """The last intact commit of an aggregate, which the next one has to follow; version 0 before the first."""

    version: int = 0
    sha256: str = ""


def fault(link: Link, kind: str, id: str, commit: Commit[Any, Any]) -> str:  # noqa: A002
    """Return why the commit, found on the subject of (kind, id), can't follow; '' where it can."""
    if commit.schema != SCHEMA:
        return f"it has schema {commit.schema}; this release of Trackbook knows {SCHEMA}"
    if (commit.kind, commit.id) != (kind, id):
        return f"it says it belongs to {commit.kind}/{commit.id}"
    if commit.version != link.version + 1:
        return f"version {commit.version} can't follow version {link.version}"
    if commit.prev != link.sha256:
        return f"its hash of the previous commit does not match version {link.version}"
    return ""


class BatchCheck:
    """Finds halves of atomic batches in a stream that is read in order; each member names all of its batch.

    `resuming` says that the stream is not read from its beginning: the first commit may be in the middle of one.
    """

    def __init__(self, *, resuming: bool = False) -> None:
        self._batch: Sequence[str] = ()
        self._place = 0
        self._resuming = resuming

    def take(self, member: str, batch: Sequence[str]) -> list[str]:
        """Return the members that are missing, now that this commit of `batch` was read; [] for none."""
        missing = self.end() if list(batch) != list(self._batch) else []
        if member in batch:
            place = batch.index(member)
            missing += [] if self._resuming else batch[self._place : place]
            self._batch, self._place = batch, place + 1
        self._resuming = False
        return missing

    def end(self) -> list[str]:
        """Return what is missing of the last batch, now that the stream has ended."""
        missing = list(self._batch[self._place :])
        self._batch, self._place = (), 0
        return missing
