"""The errors of the command line: what is wrong, where, and what to try."""

from __future__ import annotations

from typing import Any

from trackbook.errors import UserError


class CliError(UserError):
    """An error that the command line itself finds."""


class Unreachable(CliError):
    """No answer came from the server."""


class Rejected(CliError):
    """The server refused a command or a question; `reply` is its answer, `source` the file that was sent."""

    def __init__(self, error: dict[str, Any], source: str = "") -> None:
        super().__init__(str(error.get("message") or "refused"))
        self.error = error
        self.source = source

    def lines(self) -> list[str]:
        """Return the lines to print: the refusal and all others found in the same pass."""
        lines: list[str] = []
        for error in (self.error, *(self.error.get("others") or ())):
            lines += self._lines(error)
        return lines

    def _lines(self, error: dict[str, Any]) -> list[str]:
        where = place_text(error, self.source)
        return [
            f"trackbook: {error.get('message') or 'refused'} [{error.get('code') or 'error'}]",
            *([f"  at {where}"] if where else []),
            *([f"  {error['hint']}"] if error.get("hint") else []),
        ]


def place_text(found: dict[str, Any], source: str = "") -> str:
    """Return where a refusal or warning points: `FILE:LINE:COLUMN, path`, as much of it as is known."""
    at = ":".join(str(part) for part in (source, found.get("line"), found.get("column")) if part)
    if found.get("line") is None:
        at = source
    elif not source:
        at = f"line {found['line']}, column {found.get('column')}"
    return ", ".join(part for part in (at, found.get("path") or "") if part)
