"""The engine's own SQLite file: which command had which outcome, and the head of every aggregate.

Both are folds of the log and are caught up before the engine decides anything. The outcomes may be thrown away.
The heads are also a witness kept outside the broker: what they name and the log lacks was removed (ADR 0006).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trackbook.private_files import private_file

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcome(command_id TEXT PRIMARY KEY, digest TEXT NOT NULL, reply BLOB NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS head(kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
  first_seq INTEGER NOT NULL, seq INTEGER NOT NULL, sha256 TEXT NOT NULL, open INTEGER NOT NULL,
  PRIMARY KEY(kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS head_open ON head(kind, id) WHERE open = 1;
CREATE TABLE IF NOT EXISTS fault(kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, sha256 TEXT NOT NULL,
  version INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoint(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
  sha256 TEXT NOT NULL);
"""
_PUT_OUTCOME = "INSERT OR IGNORE INTO outcome VALUES (?, ?, ?)"
_PUT_HEAD = """
INSERT INTO head VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT(kind, id) DO UPDATE SET
  version = excluded.version, seq = excluded.seq, sha256 = excluded.sha256, open = excluded.open
  WHERE excluded.version > head.version
"""
_PUT_CHECKPOINT = "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)"


WRITTEN_AT = 256
"""Commits noted in memory from which they are written: what a killed process has to read again stays short."""


_OPEN_WITHIN = 30.0  # seconds for another process to have made the file

_LOOK = 0.02  # seconds between attempts to open it


class Head(Struct, frozen=True):
    """The last commit of an aggregate; `open` is false once it had its terminal event."""

    kind: str
    id: str
    version: int
    first_seq: int
    seq: int
    sha256: str
    open: bool


class Outcome(Struct, frozen=True):
    """What a command id was answered, and the digest of the payload that it was answered for."""

    command_id: str
    digest: str
    reply: dict[str, Any]


class Fault(Struct, frozen=True):
    """The first commit of an aggregate that can't follow the intact ones before it, and why."""

    kind: str
    id: str
    seq: int
    sha256: str
    version: int
    reason: str


class Note(Struct, frozen=True):
    """What one stored commit adds to the ledger."""

    head: Head
    outcomes: list[Outcome]


class Ledger:
    """Outcomes and heads; what is noted is visible at once and written behind by `flush`.

    `seen` is the sequence up to which every commit was noted. Commits are acknowledged out of order, and others
    write too, so what is noted beyond it does not count as a checkpoint: what is missing would never be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[Note] = []
        self._outcomes: dict[str, Outcome] = {}
        self._heads: dict[tuple[str, str], Head] = {}
        self._beyond: dict[int, str] = {}
        self.seen, self._digest = 0, ""
        self._begin()

    @property
    def dirty(self) -> bool:
        """Whether something is noted that `flush` has not written yet."""
        return bool(self._pending)

    def note(self, note: Note) -> None:
        """Take in a commit; a commit of an aggregate's lower version than known is ignored."""
        self._pending.append(note)
        known = self.head(note.head.kind, note.head.id)
        if known is None or known.version < note.head.version:
            self._heads[note.head.kind, note.head.id] = note.head
        for outcome in note.outcomes:
            self._outcomes.setdefault(outcome.command_id, outcome)
        self._see(note.head.seq, note.head.sha256)
        if len(self._pending) >= WRITTEN_AT:
            self.flush()

    def passed(self, seq: int, sha256: str) -> None:
        """Take note of a message that adds nothing: it is not read again."""
        self._see(seq, sha256)

    def skipped(self, first: int, last: int) -> None:
        """Take note that the log has no messages at these sequences."""
        if first <= self.seen + 1:
            self.seen = max(self.seen, last)
            self._see(self.seen, "")

    def quarantined(self, kind: str, id: str) -> Fault | None:  # noqa: A002
        """Return what is wrong with the aggregate's history, None where nothing is known to be."""
        return self._faults.get((kind, id))

    def faults(self) -> list[Fault]:
        """Return the first fault of each damaged history, by kind and id."""
        return [self._faults[key] for key in sorted(self._faults)]

    def add_fault(self, fault: Fault) -> None:
        """Put an aggregate into quarantine; the fault that is known of it stays."""
        if (fault.kind, fault.id) not in self._faults:
            self._faults[fault.kind, fault.id] = fault
            self._db.execute(
                "INSERT OR IGNORE INTO fault VALUES (?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(fault)
            )

    def _read_faults(self) -> dict[tuple[str, str], Fault]:
        return {(row[0], row[1]): Fault(*row) for row in self._db.execute("SELECT * FROM fault")}

    async def rebuild(self, fold: Callable[[Ledger], Awaitable[None]]) -> None:
        """Have `fold` fill a ledger in a second file, and go on with that one; the old one serves meanwhile."""
        beside = self._path.with_name(self._path.name + ".new")
        _remove(beside)
        new = Ledger(private_file(beside))
        try:
            await fold(new)
        except BaseException:
            new.close()
            _remove(beside)
            raise
        new.close()
        self._db.close()
        _remove(self._path)
        beside.replace(self._path)
        self._begin()

    def _begin(self) -> None:
        """Open the file and forget what was in memory."""
        self._db = _open(self._path)
        self._pending, self._outcomes, self._heads, self._beyond = [], {}, {}, {}
        self.seen, self._digest = self.checkpoint()
        self._faults = self._read_faults()

    def _see(self, seq: int, sha256: str) -> None:
        if seq > self.seen:
            self._beyond[seq] = sha256
        while self.seen + 1 in self._beyond:
            self.seen += 1
            self._digest = self._beyond.pop(self.seen)

    def flush(self) -> None:
        """Write what is pending in one transaction; a crash before loses nothing, since the log has it."""
        if not self._pending:
            return
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_PUT_HEAD, (msgspec.structs.astuple(note.head) for note in self._pending))
            self._db.executemany(_PUT_OUTCOME, self._outcome_rows(self._pending))
            if self.seen:
                self._db.execute(_PUT_CHECKPOINT, (self.seen, self._digest))
        self._pending.clear()
        self._outcomes.clear()
        self._heads.clear()

    @staticmethod
    def _outcome_rows(notes: Iterable[Note]) -> Iterable[tuple[str, str, bytes]]:
        return (
            (outcome.command_id, outcome.digest, msgspec.json.encode(outcome.reply))
            for note in notes
            for outcome in note.outcomes
        )

    def outcome(self, command_id: str) -> Outcome | None:
        """Return what this command id was answered, if it ever was."""
        if command_id in self._outcomes:
            return self._outcomes[command_id]
        row = self._db.execute("SELECT digest, reply FROM outcome WHERE command_id = ?", (command_id,)).fetchone()
        return Outcome(command_id, row[0], msgspec.json.decode(row[1])) if row else None

    def head(self, kind: str, id: str) -> Head | None:  # noqa: A002
        """Return the aggregate's head, None when it has no commit."""
        if (kind, id) in self._heads:
            return self._heads[kind, id]
        row = self._db.execute("SELECT * FROM head WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return _head(row) if row else None

    def heads(self) -> list[Head]:
        """Return every head, by kind and id."""
        self.flush()
        return self.written_heads()

    def written_heads(self) -> list[Head]:
        """Return every head that is in the file, by kind and id; may be called in any thread."""
        with closing(sqlite3.connect(self._path)) as db:
            return [_head(row) for row in db.execute("SELECT * FROM head ORDER BY kind, id")]

    def open_heads(self, kind: str) -> list[Head]:
        """Return the heads of a kind whose aggregates have not ended."""
        self.flush()
        rows = self._db.execute("SELECT * FROM head WHERE kind = ? AND open = 1 ORDER BY first_seq", (kind,))
        return [_head(row) for row in rows]

    def ids(self, kind: str, prefix: str, limit: int = 5) -> list[str]:
        """Return ids of a kind that begin with `prefix`, `limit` at most."""
        self.flush()
        rows = self._db.execute(
            "SELECT id FROM head WHERE kind = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?",
            (kind, prefix, prefix + "\U0010ffff", limit),
        )
        return [row[0] for row in rows]

    def checkpoint(self) -> tuple[int, str]:
        """Return the sequence up to which every commit is written, and its SHA-256; (0, '') for none."""
        row = self._db.execute("SELECT seq, sha256 FROM checkpoint").fetchone()
        return (row[0], row[1]) if row else (0, "")

    def close(self) -> None:
        """Write what is pending and close the file."""
        self.flush()
        self._db.close()


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def _head(row: tuple[str, str, int, int, int, str, int]) -> Head:
    return Head(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6]))


def _open(path: Path) -> sqlite3.Connection:
    """Open the file and create its tables; raises sqlite3.OperationalError.

    Engine and web role may both create it at one time. SQLite waits for no lock while it switches to WAL, so the
    loser of that race tries again.
    """
    deadline = time.monotonic() + _OPEN_WITHIN
    while True:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
        except sqlite3.OperationalError as error:
            db.close()
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK)
        else:
            return db
