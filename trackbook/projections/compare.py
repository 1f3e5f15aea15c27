"""Where a read model's file differs from another one that was made from the same log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from trackbook.projections.tables import metadata, snapshots


def differences(path: Path, made: Path) -> list[str]:
    """Return in words in which tables of `path` rows are not as in `made`, or that it can't be read."""
    found = []
    with closing(sqlite3.connect(made)) as db:
        db.execute("ATTACH DATABASE ? AS shown", (str(path),))
        for table in metadata.sorted_tables:
            if table is snapshots:  # which jobs have one depends on what was held in memory
                continue
            try:
                number = sum(
                    _missing(db, one, other, table.name) for one, other in (("shown", "main"), ("main", "shown"))
                )
            except sqlite3.DatabaseError as error:
                found.append(f"{path.name} can't be read: table {table.name}: {error}")
                continue
            if number:
                found.append(f"{path.name} differs from what the log says: table {table.name}, {number} rows")
    return found


def _missing(db: sqlite3.Connection, one: str, other: str, table: str) -> int:
    """Return how many rows of a table one file has and the other has not."""
    query = f"SELECT count(*) FROM (SELECT * FROM {one}.{table} EXCEPT SELECT * FROM {other}.{table})"  # noqa: S608
    (number,) = db.execute(query).fetchone()
    return int(number)
