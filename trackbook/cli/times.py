"""Times as people type them: dates, times of the day, and spans such as `1h` ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

import typer

_SPAN = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
FORMS = "2026-01-31, 2026-01-31T12:30, 12:30 (today), or 1h, 30m, 2d (ago)"


def parse_time(text: str, now: datetime | None = None) -> datetime | None:
    """Return the moment that a text names, in UTC; None if it names none. What has no zone is local.

    A span (`1h30m`, also `1h30m ago`) lies before `now`, a time of the day (`12:30`) is today's.
    """
    now = now or datetime.now(UTC)
    text = text.strip()
    span = text.removesuffix("ago").rstrip()
    try:
        if _SPAN.fullmatch(span):
            parts = {_UNITS[unit]: float(count) for count, unit in _PART.findall(span)}
            return now - timedelta(**parts)
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
            today = now.astimezone().date()
            return datetime.combine(
                today, time.fromisoformat(text.zfill(len(text) + (text[1] == ":")))
            ).astimezone(UTC)
        return datetime.fromisoformat(text).astimezone(UTC) if "-" in text or "T" in text else None
    except (ValueError, OverflowError):
        return None


def as_query(moment: datetime) -> str:
    """Return a moment as the server takes it."""
    return moment.isoformat().replace("+00:00", "Z")


def instant(text: str | None, option: str) -> str | None:
    """Return the moment that an option names, as the server takes it; raises bad usage."""
    if text is None:
        return None
    moment = parse_time(text)
    if moment is None:
        raise typer.BadParameter(f"{text!r} is not a time: {FORMS}", param_hint=option)
    return as_query(moment)
