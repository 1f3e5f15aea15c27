"""Which release's storage format something was written in; what a newer release wrote is refused."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from trackbook import __version__
from trackbook.errors import UserError
from trackbook.events.commit import FORMAT


class FormatMark(Struct, frozen=True):
    """A storage format's number, and the release that wrote it first; '' where that is not known."""

    format: int = 1
    release: str = ""


class NewerFormat(UserError):
    """Something was written by a newer release of Trackbook, in a format that this one does not know."""


def current() -> FormatMark:
    """Return the mark of what this release writes."""
    return FormatMark(FORMAT, __version__)


def parse(data: bytes) -> FormatMark:
    """Return the mark in a file's bytes; an empty file, or one that can't be read, is of the first format."""
    try:
        return msgspec.json.decode(data, type=FormatMark)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return FormatMark()


def refuse_newer(what: str, mark: FormatMark) -> None:
    """Raise NewerFormat where `what` is in a format that this release does not know."""
    if mark.format > FORMAT:
        release = mark.release or "a newer release"
        raise NewerFormat(
            f"{what} was written by Trackbook {release} (format {mark.format}); this is {__version__}"
            f" (format {FORMAT}): use {mark.release or 'that release'} or newer"
        )
