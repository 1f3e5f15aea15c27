"""Compares a read model's file with another one made from the same log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from trackbook.engine.names import enumerated
from trackbook.projections.tables import metadata, snapshots

NAMED = 10
"""Rows of a table that are named."""

_TELLING = ("kind", "id", "name")
"""Columns that say to a reader which row it is, beside its key."""

_LONGEST = 80  # characters of a value


def differences(path: Path, made: Path) -> list[str]:
    """Return in words which rows of `path` are not as in `made`, a table each, or that it can't be read."""
    found = []
    with closing(sqlite3.connect(made)) as db:
        db.text_factory = lambda data: data.decode(errors="backslashreplace")
        db.execute("ATTACH DATABASE ? AS shown", (str(path),))
        for table in metadata.sorted_tables:
            if table is snapshots:  # which jobs have one depends on what was held in memory
                continue
            try:
                number, rows = _count_differences(db, table)
            except sqlite3.DatabaseError as error:
                found.append(f"{path.name} can't be read: table {table.name}: {error}")
                continue
            if number:
                shown = (
                    f"table {table.name}, {number:,} row{'' if number == 1 else 's'}: {enumerated(rows, number)}"
                )
                found.append(f"{path.name} differs from what the log says: {shown}")
    return found


def _count_differences(db: sqlite3.Connection, table: Table) -> tuple[int, list[str]]:
    """Return how many rows one of the files has otherwise or not at all, and the first of them in words."""
    keys = [column.name for column in table.primary_key]
    listed, name = ", ".join(keys), table.name
    either = " UNION ALL ".join(
        f"SELECT * FROM (SELECT * FROM {one}.{name} EXCEPT SELECT * FROM {other}.{name})"  # noqa: S608
        for one, other in (("shown", "main"), ("main", "shown"))
    )
    differing = f"SELECT DISTINCT {listed} FROM ({either})"  # noqa: S608
    (number,) = db.execute(f"SELECT count(*) FROM ({differing})").fetchone()  # noqa: S608
    found = db.execute(f"{differing} ORDER BY {listed} LIMIT {NAMED}").fetchall() if number else []
    return int(number), [_describe_row(db, table, dict(zip(keys, key, strict=True))) for key in found]


def _describe_row(db: sqlite3.Connection, table: Table, key: dict[str, Any]) -> str:
    """Return a row's key, what it is about, and in which columns the two files differ."""
    condition = " AND ".join(f"{name} IS ?" for name in key)
    query = f"SELECT * FROM {{}}.{table.name} WHERE {condition}"  # noqa: S608
    shown, made = (db.execute(query.format(side), [*key.values()]).fetchone() for side in ("shown", "main"))
    names = [column.name for column in table.columns]
    known = dict(zip(names, made or shown, strict=True))
    telling = {name: known[name] for name in _TELLING if name in known}
    what = " ".join(f"{name}={str(value)[:_LONGEST]}" for name, value in (key | telling).items())
    if shown is None:
        return f"{what} (missing)"
    if made is None:
        return f"{what} (not on the log)"
    columns = [name for name, a, b in zip(names, shown, made, strict=True) if a != b]
    return f"{what} ({', '.join(columns)})"
