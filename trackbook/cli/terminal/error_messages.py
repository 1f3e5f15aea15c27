"""Error messages: what went wrong, where, and what to do; never a traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from trackbook.errors import UserError
from trackbook.private_files import NotAFile

_FILES = "Raise the limit (`ulimit -n`, LimitNOFILE= of a systemd unit) or close what holds many files open."
_SPACE = "Free some space on that disk, or give a data directory on another with --data."
_ANOTHER = "give another path (--data for the data directory)"
_PATH = f"Check the path, or {_ANOTHER}."
_HINTS = {
    errno.EADDRINUSE: "Another program listens there; give another port with --http, or :0 for any.",
    errno.EADDRNOTAVAIL: "This machine has no such address; 127.0.0.1 is usual.",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EROFS: "The file system can't be written; give another data directory with --data.",
    errno.ENOENT: _PATH,
    errno.ENOTDIR: _PATH,
    errno.EISDIR: _PATH,
    errno.EEXIST: _PATH,
    errno.ELOOP: _PATH,
    errno.ENAMETOOLONG: _PATH,
    errno.ENOMEM: "Close other programs, or use a machine with more memory.",
    errno.EAGAIN: "A limit of processes or threads is reached (`ulimit -u`); end some and try again.",
}


def describe(problem: BaseException) -> list[str]:
    """Return the lines to print for an error."""
    while isinstance(problem, BaseExceptionGroup) and len(problem.exceptions) == 1:
        problem = problem.exceptions[0]
    if isinstance(problem, UserError):
        return problem.lines()
    if isinstance(problem, UnicodeError):
        return _lines(
            _undecodable(problem), "Use a UTF-8 locale, such as LC_ALL=C.UTF-8, and names that are UTF-8."
        )
    if isinstance(problem, OSError) and problem.errno:
        return _system(problem)
    return _of_database(problem) or _unexpected(problem)


def _of_database(problem: BaseException) -> list[str]:
    import sqlite3

    if not isinstance(problem, sqlite3.Error):
        return []
    return _lines(f"SQLite: {problem}", "Is the data directory yours, and is there room on its disk?")


def _lines(message: str, hint: str) -> list[str]:
    return UserError(message, hint).lines()


def _system(problem: OSError) -> list[str]:
    reason = problem.strerror or os.strerror(problem.errno or 0)
    where = os.fsdecode(problem.filename) if isinstance(problem.filename, str | bytes) else ""
    hint = problem.hint if isinstance(problem, NotAFile) else _HINTS.get(problem.errno or 0, "")
    if isinstance(problem, PermissionError) and where:
        hint = _owner_note(Path(where))
    return _lines(f"{where}: {reason}" if where else reason, hint)


def _owner_note(path: Path) -> str:
    """Return what to do about a file that this user may not use."""
    for place in (path, *path.parents):
        try:
            owner = place.stat().st_uid
        except OSError:
            continue
        if owner == os.geteuid():
            return f"You own {place}, but its mode forbids this: `chmod u+rwX`, or {_ANOTHER}."
        us = f"you are {_user(os.geteuid())}"
        return f"{place} belongs to {_user(owner)}, and {us}. Run this as its owner, or {_ANOTHER}."
    return f"Run this as its owner, or {_ANOTHER}."


def _user(number: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(number).pw_name} (uid {number})"
    except (KeyError, OSError):
        return f"uid {number}"


def _undecodable(problem: UnicodeError) -> str:
    if isinstance(problem, UnicodeEncodeError):
        return f"{problem.object[:200]!r} can't be written as {problem.encoding}: {problem.reason}"
    if isinstance(problem, UnicodeDecodeError):
        return f"{problem.object[:200]!r} is not {problem.encoding}: {problem.reason} at byte {problem.start}"
    return str(problem)


def _unexpected(problem: BaseException) -> list[str]:
    """Return what is known of an error that nobody thought of, with the place in the code for a report."""
    import traceback

    if os.environ.get("TRACKBOOK_TRACEBACK"):
        return "".join(traceback.format_exception(problem)).splitlines()
    frames = traceback.extract_tb(problem.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    what = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    return _lines(
        f"unexpected error: {what}{where}",
        "This is a bug in Trackbook. Set TRACKBOOK_TRACEBACK=1 to see the traceback, and please report it.",
    )
