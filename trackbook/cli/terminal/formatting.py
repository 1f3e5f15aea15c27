"""Text for people and JSON for scripts: times, durations, colours."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from trackbook.cli.terminal.escapes import colour, escape_json

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
STATE_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "running": "cyan",
    "launching": "cyan",
    "paused": "yellow",
    "failing": "red",
    "cancelling": "yellow",
    "cancelled": "yellow",
    "skipped": "dim",
    "pending": "dim",
    "ready": "dim",
    "deleted": "dim",
}


def uses_colour() -> bool:
    """Whether stdout shows colours: a terminal, unless NO_COLOR or a dumb TERM says otherwise."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def style_text(text: str, style: str) -> str:
    """Return the text in a colour or weight, where stdout shows it."""
    code = _STYLES.get(style)
    return f"{colour(code)}{text}{colour('0')}" if code and text and uses_colour() else text


def state_text(state: str) -> str:
    """Return a state in its colour."""
    return style_text(state, STATE_STYLES.get(state, ""))


def emit(value: Any) -> None:
    """Print JSON for scripts."""
    print(json_text(value, indent=2))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON whose control characters are escaped, and what the encoding of stdout may lack."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    ascii_only = not encoding.lower().startswith("utf")
    return escape_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only))


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print `name: value` lines, aligned; values that aren't there are left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        lines = value.rstrip("\n").replace("\n", "\n" + " " * (width + 2))
        print(f"{style_text(name + ':', 'bold')}{' ' * (width - len(name) + 1)}{lines}")


def parse_utc(time: str) -> datetime:
    """Return a time of the server."""
    return datetime.fromisoformat(time)


def local_time(time: str | None, *, date: bool = True) -> str:
    """Return a time in the local zone, to the second."""
    if not time:
        return ""
    return parse_utc(time).astimezone().strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")


def duration(seconds: float | None) -> str:
    """Return a span of time for people: `3.2 s`, `4 min 05 s`, `2 h 03 min`."""
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def plural(count: int, noun: str) -> str:
    """Return `1 task`, `2 tasks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counts_text(counts: dict[str, int]) -> str:
    """Return `3 succeeded, 1 failed`, what is zero left out."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
