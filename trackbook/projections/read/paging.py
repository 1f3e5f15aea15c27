"""Pages of lists: opaque cursors that stay right while the list grows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from trackbook.projections.views import Page

_LARGEST = 1 << 62
"""No column holds a larger number."""

T = TypeVar("T")
R = TypeVar("R")


class ReadError(Exception):
    """What was asked for can't be shown: a stable code, what was found, and what to try.

    `name` is a name that was not found, and `known` are those that were probably meant, among others.
    """

    def __init__(
        self, code: str, message: str, hint: str = "", *, name: str = "", known: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint
        self.name, self.known = name, known


def cursor(*place: int) -> str:
    """Return the cursor of a place in a list."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place(text: str, length: int) -> tuple[int, ...]:
    """Return the place that a cursor encodes; raises ReadError for one that isn't ours."""
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        found = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=tuple[int, ...])
    except (msgspec.MsgspecError, binascii.Error, UnicodeError, RecursionError):
        found = ()
    if len(found) != length or any(abs(number) > _LARGEST for number in found):
        raise ReadError("invalid_cursor", f"{text!r} is not a cursor of this list", "Take it from `next`.")
    return found


def page(rows: Sequence[R], limit: int, show: Callable[[R], T], key: Callable[[R], int]) -> Page[T]:
    """Make a page of up to `limit` rows out of one row more than that, if there is one."""
    shown = rows[:limit]
    following = cursor(key(shown[-1])) if len(rows) > limit else None
    return Page([show(row) for row in shown], following)
