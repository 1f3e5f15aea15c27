"""Times in the read model: microseconds since 1970 in UTC; shown as RFC 3339 with microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(at: datetime) -> int:
    """Return the microseconds since 1970; exact, unlike a float's timestamp."""
    return (at - _EPOCH) // _MICROSECOND


def to_text(micros: int) -> str:
    """Return RFC 3339 in UTC, always with six digits of a second."""
    at = _EPOCH + timedelta(microseconds=micros)
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"


def text_of(at: datetime) -> str:
    """Return a time in RFC 3339 in UTC, always with six digits of a second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def optional_text(micros: int | None) -> str | None:
    """Return RFC 3339 in UTC, or None where there is no time yet."""
    return None if micros is None else to_text(micros)
