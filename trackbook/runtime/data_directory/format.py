"""The data directory's record of its streams and their storage format."""

from __future__ import annotations

from pathlib import Path

import msgspec

from trackbook.events.commit import FORMAT
from trackbook.events.storage_format import FormatMark, current, parse, refuse_newer
from trackbook.private_files import write_private


def is_initialised(data: Path) -> bool:
    """Whether this installation made its streams before: then one that is missing was lost."""
    return (data / "initialised").exists()


def mark_initialised(data: Path) -> None:
    """Note for ever that the streams were made, and in which storage format; on disk when it returns."""
    if not is_initialised(data) or _format(data).format < FORMAT:
        write_private(data / "initialised", msgspec.json.encode(current()), synced=True)


def refuse_newer_data(data: Path) -> None:
    """Raise NewerFormat where a newer release wrote in the data directory what this one can't read."""
    refuse_newer(f"the data directory {data}", _format(data))


def _format(data: Path) -> FormatMark:
    try:
        return parse((data / "initialised").read_bytes())
    except FileNotFoundError:
        return FormatMark()
