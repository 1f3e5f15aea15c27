"""The engine's own SQLite file: which command had which outcome, and the head of every aggregate.

Both are folds of the log, are caught up before the engine decides anything, and are made again where the file is
damaged. Each row carries a checksum, since SQLite does not see a flipped bit in a value. The heads are also a
witness kept outside the broker: what they name and the log lacks was removed (ADR 0006).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import structlog

from trackbook.adapters.sql.rows import (
    Fault,
    Head,
    LedgerDamaged,
    Note,
    Outcome,
    Written,
    check_rows,
    checked,
    checksum,
    damage_of,
    head_of,
    summed,
)
from trackbook.private_files import private_file

log = structlog.get_logger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcome(command_id TEXT PRIMARY KEY, digest TEXT NOT NULL, reply BLOB NOT NULL,
  crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS head(kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
  first_seq INTEGER NOT NULL, seq INTEGER NOT NULL, sha256 TEXT NOT NULL, open INTEGER NOT NULL,
  crc INTEGER NOT NULL, PRIMARY KEY(kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS head_open ON head(kind, id) WHERE open = 1;
CREATE TABLE IF NOT EXISTS fault(kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, sha256 TEXT NOT NULL,
  version INTEGER NOT NULL, reason TEXT NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY(kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoint(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
  sha256 TEXT NOT NULL, crc INTEGER NOT NULL);
"""
_FORM = 2
"""Goes up with any change of the tables; a file of another form is made again."""
_PUT_OUTCOME = "INSERT OR IGNORE INTO outcome VALUES (?, ?, ?, ?)"
_PUT_HEAD = """
INSERT INTO head VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(kind, id) DO UPDATE SET
  version = excluded.version, first_seq = excluded.first_seq, seq = excluded.seq, sha256 = excluded.sha256,
  open = excluded.open, crc = excluded.crc
  WHERE excluded.version > head.version
"""
_PUT_CHECKPOINT = "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?, ?)"


WRITTEN_AT = 256
"""Commits noted in memory from which they are written: what a killed process has to read again stays short."""


_OPEN_WITHIN = 30.0  # seconds for another process to have made the file

_LOOK = 0.02  # seconds between attempts to open it


class Ledger:
    """Outcomes and heads; what is noted is visible at once and written behind by `flush`.

    `seen` is the sequence up to which every commit was noted. Commits are acknowledged out of order, and others
    write too, so what is noted beyond it does not count as a checkpoint: what is missing would never be read.
    """

    def __init__(self, path: Path, *, owner: bool = True) -> None:
        """Open the file; its `owner`, the engine, begins a new one where it is damaged. Raises LedgerDamaged."""
        self._path = path
        self.on_damage: Callable[[], None] = lambda: None
        self._pending: list[Note] = []
        self._outcomes: dict[str, Outcome] = {}
        self._heads: dict[tuple[str, str], Head] = {}
        self._beyond: dict[int, str] = {}
        self.seen, self._digest = 0, ""
        try:
            self._begin()
        except LedgerDamaged as damage:
            if not owner:
                raise
            _set_aside(path, str(damage))
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
            self._query("INSERT OR IGNORE INTO fault VALUES (?, ?, ?, ?, ?, ?, ?)", summed(fault))

    def _read_faults(self) -> dict[tuple[str, str], Fault]:
        rows = [self._checked(row) for row in self._query("SELECT * FROM fault")]
        return {(row[0], row[1]): Fault(*row) for row in rows}

    def check(self) -> None:
        """Read every row of the file; raises LedgerDamaged. May be called in any thread."""
        with closing(sqlite3.connect(self._path)) as db:
            try:
                check_rows(db, self._path)
                (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.DatabaseError as error:
                if (damage := damage_of(error, self._path)) is None:
                    raise
                raise damage from error
        if found != "ok":
            raise LedgerDamaged(f"{self._path} is damaged: {found}")

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query; raises LedgerDamaged, and tells `on_damage`."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            if (damage := damage_of(error, self._path)) is None:
                raise
            self.on_damage()
            raise damage from error

    def _checked(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the row without its checksum; raises LedgerDamaged."""
        try:
            return checked(row, self._path)
        except LedgerDamaged:
            self.on_damage()
            raise

    async def rebuild(self, fold: Callable[[Ledger], Awaitable[None]]) -> None:
        """Have `fold` fill a ledger in a second file, and switch to that one; the old one serves meanwhile."""
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
        _remove(self._path)  # nothing is written to it any more: all of it is in the new one
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
        try:
            self._write()
        except sqlite3.DatabaseError as error:
            if (damage := damage_of(error, self._path)) is None:
                raise
            self.on_damage()
            raise damage from error
        self._pending.clear()
        self._outcomes.clear()
        self._heads.clear()

    def _write(self) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_PUT_HEAD, (summed(note.head) for note in self._pending))
            self._db.executemany(_PUT_OUTCOME, self._outcome_rows(self._pending))
            if self.seen:
                self._db.execute(
                    _PUT_CHECKPOINT, (self.seen, self._digest, checksum((1, self.seen, self._digest)))
                )

    @staticmethod
    def _outcome_rows(notes: Iterable[Note]) -> Iterable[tuple[Any, ...]]:
        for note in notes:
            for outcome in note.outcomes:
                row = (outcome.command_id, outcome.digest, msgspec.json.encode(outcome.reply))
                yield (*row, checksum(row))

    def outcome(self, command_id: str) -> Outcome | None:
        """Return what this command id was answered, if it ever was."""
        if command_id in self._outcomes:
            return self._outcomes[command_id]
        for row in self._query("SELECT * FROM outcome WHERE command_id = ?", (command_id,)):
            _, payload, reply = self._checked(row)
            return Outcome(command_id, payload, msgspec.json.decode(reply))
        return None

    def head(self, kind: str, id: str) -> Head | None:  # noqa: A002
        """Return the aggregate's head, None when it has no commit."""
        if (kind, id) in self._heads:
            return self._heads[kind, id]
        for row in self._query("SELECT * FROM head WHERE kind = ? AND id = ?", (kind, id)):
            return head_of(self._checked(row))
        return None

    def heads(self) -> list[Head]:
        """Return every head, by kind and id."""
        self.flush()
        return self.written().heads

    def written(self) -> Written:
        """Return what is in the file at one moment; may be called in any thread."""
        with closing(sqlite3.connect(self._path)) as db:
            try:
                db.execute("BEGIN")
                rows = db.execute("SELECT * FROM head ORDER BY kind, id").fetchall()
                commands = {row[0] for row in db.execute("SELECT command_id FROM outcome")}
                seen = [checked(row, self._path)[1] for row in db.execute("SELECT * FROM checkpoint")]
            except sqlite3.DatabaseError as error:
                if (damage := damage_of(error, self._path)) is None:
                    raise
                raise damage from error
        return Written([head_of(checked(row, self._path)) for row in rows], commands, max(seen, default=0))

    def open_heads(self, kind: str) -> list[Head]:
        """Return the heads of a kind whose aggregates have not ended."""
        self.flush()
        rows = self._query("SELECT * FROM head WHERE kind = ? AND open = 1 ORDER BY first_seq", (kind,))
        return [head_of(self._checked(row)) for row in rows]

    def ids(self, kind: str, prefix: str, limit: int = 5) -> list[str]:
        """Return ids of a kind that begin with `prefix`, `limit` at most."""
        self.flush()
        rows = self._query(
            "SELECT id FROM head WHERE kind = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?",
            (kind, prefix, prefix + "\U0010ffff", limit),
        )
        return [row[0] for row in rows]

    def checkpoint(self) -> tuple[int, str]:
        """Return the sequence up to which every commit is written, and its SHA-256; (0, '') for none."""
        for row in self._query("SELECT * FROM checkpoint"):
            _, seq, sha256 = self._checked(row)
            return seq, sha256
        return 0, ""

    def close(self) -> None:
        """Write what is pending and close the file; what a damaged file does not take, the log has."""
        try:
            self.flush()
        except LedgerDamaged as damage:
            log.warning("ledger.not_written", error=str(damage), hint="It is made from the log.")
        finally:
            self._db.close()


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def _set_aside(path: Path, why: str) -> None:
    """Move a damaged file out of the way."""
    aside = path.with_name(f"{path.name}.damaged")
    log.warning("ledger.damaged", path=str(path), error=why, kept_as=aside.name, hint="It is made from the log.")
    path.replace(aside)
    _remove(path)
    private_file(path)


def _open(path: Path) -> sqlite3.Connection:
    """Open the file and create its tables; raises LedgerDamaged, sqlite3.OperationalError.

    Engine and web role may both create it at one time. SQLite waits for no lock while it switches to WAL, so the
    loser of that race tries again.
    """
    deadline = time.monotonic() + _OPEN_WITHIN
    while True:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _require_form(db, path)
            db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_FORM}; COMMIT;")
        except LedgerDamaged:
            db.close()
            raise
        except sqlite3.DatabaseError as error:
            db.close()
            if (damage := damage_of(error, path)) is not None:
                raise damage from error
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK)
        else:
            return db


def _require_form(db: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerDamaged for a file with tables of another form."""
    (form,) = db.execute("PRAGMA user_version").fetchone()
    (old,) = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'head'").fetchone()
    if old and form != _FORM:
        raise LedgerDamaged(f"{path} has form {form}, this release writes {_FORM}")
