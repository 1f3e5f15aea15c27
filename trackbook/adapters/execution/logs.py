"""Read a session's output while it grows."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from trackbook.private_files import require_file

TAIL = 4096
"""Bytes of output that a report carries."""
_WANTED = "wanted"
_STILL_WANTED = 10.0
"""Seconds after which a log that nobody has read counts as followed no more."""


def offer(log: Path) -> None:
    """Say that a log is a copy, which is brought up to date more often while somebody reads it."""
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.with_name(_WANTED).touch()
        os.utime(log.with_name(_WANTED), (0, 0))


def want(log: Path) -> None:
    """Say that somebody reads a log, which matters where it is a copy."""
    with contextlib.suppress(OSError):
        os.utime(log.with_name(_WANTED))


def is_wanted(log: Path) -> bool:
    """Whether somebody has read a log that is a copy, just now."""
    try:
        return time.time() - log.with_name(_WANTED).stat().st_mtime < _STILL_WANTED
    except OSError:
        return False


def tail(log: Path) -> str:
    """Return the end of the output, at most TAIL bytes, from the start of a line where there is one.

    A log that can't be read is no reason not to report an end: the text says why.
    """
    try:
        require_file(log)
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            data = file.read(TAIL)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"[the output can't be read: {error}]\n"
    if size > TAIL:
        data = data.partition(b"\n")[2] or data
    text = data.decode(errors="replace")
    return text if len(text.encode()) <= TAIL else text.encode()[-TAIL:].decode(errors="ignore")
