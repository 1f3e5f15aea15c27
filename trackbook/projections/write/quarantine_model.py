"""The commits that could not be projected: listed with the reason, never skipped silently (invariant I11)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from trackbook.projections.decoded_commit import DecodedCommit
from trackbook.projections.tables import quarantine

_INSERT = insert(quarantine)


class Quarantine:
    """The blocked aggregates, one of whose commits can't be projected, with that commit's reason.

    Each aggregate's commits are brought here in order, by one model alone.
    """

    def __init__(self) -> None:
        self._stuck: dict[tuple[str, str], tuple[int, str]] = {}
        self._new: dict[int, dict[str, Any]] = {}
        self.count = 0

    def load(self, connection: Connection) -> None:
        """Read what was put aside before."""
        self._stuck.clear()
        self._new.clear()
        self.count = 0
        for row in connection.execute(select(quarantine).order_by(quarantine.c.seq)):
            self.count += 1
            if row.kind:
                self._stuck.setdefault((row.kind, row.id), (row.seq, row.reason))

    def first_faults(self) -> list[tuple[str, str, int, str]]:
        """Return kind, id, sequence and reason of the first commit of each damaged history."""
        return [(kind, id, seq, reason) for (kind, id), (seq, reason) in self._stuck.items()]  # noqa: A001

    def admits(self, commit: DecodedCommit) -> bool:
        """Whether the commit may be projected; puts it aside if not."""
        stuck = self._stuck.get((commit.kind, commit.id))
        if stuck is not None:
            self.add(commit, f"it follows the commit at sequence {stuck[0]}, which could not be projected")
        elif commit.problem:
            self.add(commit, commit.problem)
        else:
            return True
        return False

    def add(self, commit: DecodedCommit, reason: str) -> None:
        """Put a commit aside; those of the same aggregate that come later follow it."""
        self._stuck.setdefault((commit.kind, commit.id), (commit.seq, reason))
        self._new[commit.seq] = _row(commit.seq, commit.seq, commit.kind, commit.id, reason)

    def add_gap(self, first: int, last: int) -> None:
        """Note that the stream has no messages at these sequences."""
        self._new[first] = _row(first, last, "", "", "the stream has no message here")

    def reason(self, commit: DecodedCommit) -> str:
        """Return why the commit's aggregate is blocked, '' if it is not."""
        stuck = self._stuck.get((commit.kind, commit.id))
        return f"the commit at sequence {stuck[0]} could not be projected: {stuck[1]}" if stuck else ""

    def write(self, connection: Connection) -> None:
        """Store what was put aside since the last time."""
        if self._new:
            connection.execute(_INSERT, list(self._new.values()))
            self.count += len(self._new)
            self._new.clear()


def _row(first: int, last: int, kind: str, id: str, reason: str) -> dict[str, Any]:  # noqa: A002
    return {"seq": first, "through": last, "kind": kind, "id": id, "reason": reason}
