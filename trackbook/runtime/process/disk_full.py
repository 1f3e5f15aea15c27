"""Recognises a full disk in the errors of the broker, of SQLite and of files."""

from __future__ import annotations

import errno
import sqlite3

from trackbook.adapters.nats.errors import StoreFull
from trackbook.projections.errors import DiskFullError

FREE_SPACE = "Free some space on the disk that holds the data directory; nothing needs to be restarted."

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(problem: BaseException | None) -> bool:
    """Whether this fault, or one that it was raised from, is a disk or a quota without room."""
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        if _says_full(problem):
            return True
        seen.add(id(problem))
        problem = problem.__cause__ or problem.__context__
    return False


def _says_full(problem: BaseException) -> bool:
    if isinstance(problem, OSError):
        return problem.errno in _NO_ROOM
    if isinstance(problem, sqlite3.Error):
        return getattr(problem, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(problem, StoreFull | DiskFullError)
