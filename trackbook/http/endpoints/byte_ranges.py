"""Ranges of bytes, as the header Range asks for them."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def byte_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of a range of `size` bytes, the last before the first where it has none.

    None for what isn't one range of bytes.
    """
    found = _RANGE.fullmatch(text)
    first, last = found.groups() if found else ("", "")
    if first:
        end = min(int(last), size - 1) if last else size - 1
        return (int(first), end) if not last or int(first) <= int(last) else None
    return (max(0, size - int(last)), size - 1) if last else None
