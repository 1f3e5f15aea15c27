"""Reading a session's output while it grows."""

from __future__ import annotations

from pathlib import Path

_CUT = b"\n[trackbook: "


def read_from(log: Path, offset: int, size: int = 65536) -> tuple[bytes, int]:
    """Return at most `size` bytes of a log from `offset` on, and the offset to go on with.

    A log that has become shorter was cut in its middle; reading goes on at the line that says so.
    """
    try:
        with log.open("rb") as file:
            if offset > file.seek(0, 2):
                file.seek(0)
                offset = max(0, file.read().rfind(_CUT))
            file.seek(offset)
            data = file.read(size)
    except FileNotFoundError:
        return b"", offset
    return data, offset + len(data)
