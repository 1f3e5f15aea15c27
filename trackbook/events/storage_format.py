"""Which release's storage format something was written in; one that this release can't read is refused."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from trackbook import __version__
from trackbook.errors import UserError
from trackbook.events.commit import FORMAT, OLDEST


class FormatMark(Struct, frozen=True):
    """A storage format's number, and the release that wrote it first; '' where that is not known."""

    format: int = 1
    release: str = ""


class NewerFormat(UserError):
    """Something was written by a newer release of Trackbook, in a format that this one does not know."""


class OlderFormat(UserError):
    """Something was written by an earlier Trackbook, in a format that this release no longer reads."""


def current() -> FormatMark:
    """Return the mark of what this release writes."""
    return FormatMark(FORMAT, __version__)


def parse(data: bytes) -> FormatMark | None:
    """Return the mark in a file's bytes, None for one that can't be read."""
    try:
        return msgspec.json.decode(data, type=FormatMark)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def refuse_unreadable(what: str, mark: FormatMark) -> None:
    """Raise NewerFormat or OlderFormat where `what` is in a format that this release does not read."""
    if mark.format > FORMAT:
        release = mark.release or "a newer release"
        raise NewerFormat(
            f"{what} was written by Trackbook {release} (format {mark.format}); this is {__version__}"
            f" (format {FORMAT}): use {mark.release or 'that release'} or newer"
        )
    if mark.format < OLDEST:
        raise OlderFormat(
            f"{what} was written by an earlier Trackbook (format {mark.format}); this is {__version__} (format"
            f" {FORMAT}), which no longer reads that: use the earlier one, or begin with an empty data directory"
        )
