"""One line of `trackbook doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Check:
    """One line: `ok`, `warn` or `fail`, what was looked at, what was found, and what to do."""

    what: str
    found: str
    verdict: str = "ok"
    hint: str = ""
