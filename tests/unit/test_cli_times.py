"""Times as people type them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from trackbook.cli.times import parse_time

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def in_seoul(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone nine hours ahead of UTC, without summer time."""
    monkeypatch.setenv("TZ", "UTC-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1h", "2026-03-01T11:00"), ("30m", "2026-03-01T11:30"), ("2d", "2026-02-27T12:00"),
        ("1w", "2026-02-22T12:00"),
        ("1h30m", "2026-03-01T10:30"), ("1.5h ago", "2026-03-01T10:30"), ("90s", "2026-03-01T11:58:30"),
        ("2026-01-31", "2026-01-30T15:00"), ("2026-01-31T12:00", "2026-01-31T03:00"),
        ("2026-01-31 12:00:05", "2026-01-31T03:00:05"), ("2026-01-31T12:00Z", "2026-01-31T12:00"),
        ("2026-01-31T12:00:00.5+01:00", "2026-01-31T11:00:00.5"), ("9:30", "2026-03-01T00:30"),
        ("21:30:10", "2026-03-01T12:30:10"),
    ],
)  # fmt: skip
def test_a_time_is_a_date_a_clock_time_or_a_span(text: str, found: str) -> None:
    """What has no zone is local; a span lies before now, a clock time is today's."""
    assert parse_time(text, NOW) == datetime.fromisoformat(found).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "lately", "25:00", "1x", "h", "2026-13-01", "7", "7.0", "9999999999d", "-h"]
)
def test_what_is_no_time_is_none(text: str) -> None:
    """Versions, words and dates that don't exist are no times."""
    assert parse_time(text, NOW) is None
