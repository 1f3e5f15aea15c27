"""The checkpoint of a read model's file, read without opening the read model."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def read_checkpoint(path: Path) -> tuple[int, str] | None:
    """Return the last sequence that the rows hold and the SHA-256 of its message; None for no such file."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path)) as db:
            row = db.execute("SELECT seq, digest FROM checkpoint").fetchone()
    except sqlite3.Error:  # it is damaged, or another program's; the projector begins a new one
        return None
    return (int(row[0]), str(row[1])) if row and row[0] else None
