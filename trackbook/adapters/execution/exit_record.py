"""The exit record: how an attempt ended, written once and whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from trackbook.events.job import Fault


class ExitRecord(Struct, kw_only=True, omit_defaults=True):
    """How an attempt ended. `left_out` counts bytes of output that its log dropped; `run_time` is in seconds."""

    ended_at: datetime
    started_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    stopped: bool = False
    lost: bool = False
    message: str = ""
    fault: Fault = ""
    left_out: int = 0
    shell: str = ""
    private_root: bool = False
    run_time: float | None = None


R = TypeVar("R", bound=ExitRecord)


def encode(record: ExitRecord) -> bytes:
    """Return the record as the text of its file."""
    return msgspec.json.encode(record) + b"\n"


def decode(data: bytes) -> ExitRecord:
    """Return the record in a file's text; a record of a lost attempt if the text is damaged."""
    try:
        return parse(data, ExitRecord)
    except ValueError as error:
        return ExitRecord(ended_at=now(), lost=True, message=str(error))


def parse(data: bytes, kind: type[R]) -> R:
    """Return the record in a text, of a kind that may have more fields. Raises ValueError if it is damaged."""
    try:
        return msgspec.json.decode(data.decode(errors="replace"), type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(f"the exit record can't be read: {error}") from None


def unreadable(error: OSError) -> ExitRecord:
    """Return the record of an attempt whose files say nothing any more."""
    return ExitRecord(ended_at=now(), lost=True, message=f"the session's files can't be read: {error}")


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
