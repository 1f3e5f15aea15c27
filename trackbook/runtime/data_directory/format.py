"""The data directory's record of its streams and their storage format."""

from __future__ import annotations

from pathlib import Path

import msgspec

from trackbook.events.commit import FORMAT
from trackbook.events.storage_format import FormatMark, current, parse, refuse_unreadable
from trackbook.private_files import write_private


def is_initialised(data: Path) -> bool:
    """Whether this installation made its streams before: then one that is missing was lost."""
    return (data / "initialised").exists()


def mark_initialised(data: Path) -> None:
    """Note for ever that the streams were made, and in which storage format; on disk when it returns."""
    mark = _format(data)
    if mark is None or mark.format < FORMAT:
        write_private(data / "initialised", msgspec.json.encode(current()), synced=True)


def refuse_unreadable_data(data: Path) -> None:
    """Raise NewerFormat or OlderFormat where this release can't read what another one wrote in the directory.

    A mark that is missing or damaged says nothing: then the streams' own marks decide.
    """
    if (mark := _format(data)) is not None:
        refuse_unreadable(f"the data directory {data}", mark)


def _format(data: Path) -> FormatMark | None:
    try:
        return parse((data / "initialised").read_bytes())
    except FileNotFoundError:
        return None
